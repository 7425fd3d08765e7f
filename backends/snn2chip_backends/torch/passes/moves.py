"""Short loops over a run of neurons that move and count: currents in, payloads out, sums."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import numpy as np

from snn2chip_backends.torch import layout as at
from snn2chip_backends.torch.passes.memory import f32, f64, i8, i16, i32, i64, inlined


@inlined
def put(x, source):
    for i in range(x.size):
        x[i] = np.int32(source[i])


@inlined
def add(x, source):
    for i in range(x.size):
        x[i] += np.int32(source[i])


@inlined
def take(x, address, code, first):
    """`x = source` or `x += source` for one current of any type."""
    n = x.size
    if code == at.FLOAT32:
        f = f32(address, n)
        put(x, f) if first else add(x, f)
    elif code == at.FLOAT64:
        d = f64(address, n)
        put(x, d) if first else add(x, d)
    elif code == at.INT8:
        b = i8(address, n)
        put(x, b) if first else add(x, b)
    elif code == at.INT16:
        h = i16(address, n)
        put(x, h) if first else add(x, h)
    elif code == at.INT32:
        w = i32(address, n)
        put(x, w) if first else add(x, w)
    else:
        q = i64(address, n)
        put(x, q) if first else add(x, q)


@inlined
def store(address, code, s):
    n = s.size
    if code == at.INT8:
        b = i8(address, n)
        for i in range(n):
            b[i] = np.int8(s[i])
    elif code == at.INT16:
        h = i16(address, n)
        for i in range(n):
            h[i] = np.int16(s[i])
    else:
        w = i32(address, n)
        for i in range(n):
            w[i] = s[i]


@inlined
def add_into(v, x):
    for i in range(v.size):
        v[i] += x[i]


@inlined
def fill(x, source):
    for i in range(x.size):
        x[i] = source[i]


@inlined
def clear(x):
    for i in range(x.size):
        x[i] = 0


@inlined
def count(s, spikes):
    for i in range(s.size):
        spikes[i] += np.int32(1) if s[i] != 0 else np.int32(0)


@inlined
def count_bytes(bits, spikes):
    for i in range(bits.size):
        spikes[i] += bits[i]


@inlined
def measure(s, total):
    for i in range(s.size):
        total[i] += abs(s[i])


@inlined
def flush(from_, into):
    """Add 32-bit counts to 64-bit ones, and begin anew; their sum."""
    moved = np.int64(0)
    for i in range(from_.size):
        into[i] += from_[i]
        moved += from_[i]
        from_[i] = 0
    return moved
