"""Compiled passes over memory, foremost that of a soma over all steps of some samples.

A run of neurons that fits the first-level cache goes through all samples and all steps before the next one starts;
every operation of the soma is one short loop over that run, so that the compiler makes vector code of each and what a
soma does not do costs nothing. Addresses and switches come in one array of int64 (see `layout`), so that there is one
compiled form for every soma, kept on disk.

Needs numba; `snn2chip_backends.torch.fused` does without when it is missing.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, attr-defined, call-arg"

from __future__ import annotations

import numba
import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from snn2chip_backends.torch import layout as at

V_MAX = np.int32((1 << 23) - 1)


@intrinsic
def _pointer(typing_context, address):
    """A machine address as a pointer that `numba.carray` takes."""

    def build(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), build


def _compiled(function):
    """Compile on first use and keep the result on disk where that is possible."""
    try:
        return numba.njit(types.void(types.int64[::1]), nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # no place for a cache
        return numba.njit(types.void(types.int64[::1]), nogil=True, error_model="numpy")(function)


inlined = numba.njit(nogil=True, error_model="numpy")


@inlined
def _i32(address, n):
    return numba.carray(_pointer(address), (n,), dtype=np.int32)


@inlined
def _i8(address, n):
    return numba.carray(_pointer(address), (n,), dtype=np.int8)


@inlined
def _f64(address, n):
    return numba.carray(_pointer(address), (n,), dtype=np.float64)


@inlined
def _set(x, source):
    for i in range(x.size):
        x[i] = np.int32(source[i])


@inlined
def _add(x, source):
    for i in range(x.size):
        x[i] += np.int32(source[i])


@inlined
def _take(x, address, code, first):
    """`x = source` or `x += source` for one current of any type."""
    n = x.size
    if code == at.FLOAT32:
        f = numba.carray(_pointer(address), (n,), dtype=np.float32)
        _set(x, f) if first else _add(x, f)
    elif code == at.FLOAT64:
        d = numba.carray(_pointer(address), (n,), dtype=np.float64)
        _set(x, d) if first else _add(x, d)
    elif code == at.INT8:
        b = numba.carray(_pointer(address), (n,), dtype=np.int8)
        _set(x, b) if first else _add(x, b)
    elif code == at.INT16:
        h = numba.carray(_pointer(address), (n,), dtype=np.int16)
        _set(x, h) if first else _add(x, h)
    elif code == at.INT32:
        w = numba.carray(_pointer(address), (n,), dtype=np.int32)
        _set(x, w) if first else _add(x, w)
    else:
        q = numba.carray(_pointer(address), (n,), dtype=np.int64)
        _set(x, q) if first else _add(x, q)


@inlined
def _add_into(v, x):
    for i in range(v.size):
        v[i] += x[i]


@inlined
def _fill(x, source):
    for i in range(x.size):
        x[i] = source[i]


@inlined
def _copy_bytes(x, source):
    for i in range(x.size):
        x[i] = source[i]


@inlined
def _add_bytes(x, source):
    for i in range(x.size):
        x[i] += source[i]


@inlined
def _clear(x):
    for i in range(x.size):
        x[i] = 0


@inlined
def _add_times(x, p, factor):
    for i in range(x.size):
        x[i] += p[i] * factor[i]


@inlined
def _add_scaled(x, p, factor):
    for i in range(x.size):
        x[i] += p[i] * factor


@inlined
def _round(x, shift):
    half = np.int32(1) << (shift - np.int32(1))
    for i in range(x.size):
        x[i] = (x[i] + half) >> shift


@inlined
def _times(x, gain):
    for i in range(x.size):
        x[i] *= gain[i]


@inlined
def _scale(x, gain, half, inverse):
    """`rshift(x * gain, k)`: exact in float64, whose 53 bits hold every product; `inverse` is 2^-k."""
    for i in range(x.size):
        x[i] = np.int32(np.floor((x[i] * gain[i] + half[i]) * inverse[i]))


@inlined
def _decay(v, factor):
    """`trunc(v * leak / 4096)`: exact in float64; `factor` is leak / 4096."""
    for i in range(v.size):
        v[i] = np.int32(v[i] * factor[i])


@inlined
def _wrap(u, x):
    """`u = wrap24(u + x)`, and x becomes u."""
    for i in range(u.size):
        total = ((u[i] + x[i] + np.int32(1 << 23)) & np.int32((1 << 24) - 1)) - np.int32(1 << 23)
        u[i] = total
        x[i] = total


@inlined
def _delayed(v, s, theta):
    for i in range(v.size):
        v[i] -= s[i] * theta[i]


@inlined
def _saturate(v):
    """Clip to 24 bits; how many values that changed."""
    hits = np.int32(0)
    for i in range(v.size):
        low = max(min(v[i], V_MAX), -V_MAX)
        hits += np.int32(low != v[i])
        v[i] = low
    return np.int64(hits)


@inlined
def _fire_once(v, theta, s):
    for i in range(v.size):
        s[i] = np.int32(1) if v[i] >= theta[i] else np.int32(0)


@inlined
def _fire_subtract(v, theta, s):
    for i in range(v.size):
        fires = v[i] >= theta[i]
        s[i] = np.int32(1) if fires else np.int32(0)
        v[i] -= theta[i] if fires else np.int32(0)


@inlined
def _compare(v, bar, s):
    for i in range(v.size):
        s[i] += np.int32(1) if v[i] >= bar[i] else np.int32(0)


@inlined
def _divide(v, theta, top, s):
    """`clip(floor(v / theta), 0, levels)` for theta > 0: the float32 quotient is exact after floor (see `firing`)."""
    for i in range(v.size):
        quotient = np.int32(np.floor(np.float32(v[i]) / np.float32(theta[i])))
        s[i] = max(min(quotient, top[i]), np.int32(0))


@inlined
def _divide_signed(v, theta, top, s):
    for i in range(v.size):
        bar, most = theta[i], top[i]
        if bar > 0:
            count = np.int32(np.floor(np.float64(v[i]) / np.float64(bar)))
        elif bar < 0:
            count = np.int32(np.floor(np.float64(v[i]) / np.float64(-bar))) + most + np.int32(1)
        else:
            count = most if v[i] >= 0 else np.int32(0)
        s[i] = max(min(count, most), np.int32(0))


@inlined
def _excess(v, theta, s):
    for i in range(v.size):
        s[i] = max(v[i] - theta[i], np.int32(0))


@inlined
def _look_up(v, table, offset, shift, s):
    for i in range(v.size):
        s[i] = table[max(min((v[i] + offset) >> shift, np.int32(255)), np.int32(0))]


@inlined
def _subtract(v, s, theta):
    for i in range(v.size):
        v[i] -= s[i] * theta[i]


@inlined
def _reset_to(v, s, value):
    for i in range(v.size):
        v[i] = value[i] if s[i] > 0 else v[i]


@inlined
def _at_most(v, bar):
    for i in range(v.size):
        v[i] = min(v[i], bar[i])


@inlined
def _at_least(v, bar):
    for i in range(v.size):
        v[i] = max(v[i], bar[i])


@inlined
def _count(s, spikes):
    for i in range(s.size):
        spikes[i] += np.int32(1) if s[i] != 0 else np.int32(0)


@inlined
def _measure(s, total):
    for i in range(s.size):
        total[i] += abs(s[i])


@inlined
def _flush(from_, into):
    for i in range(from_.size):
        into[i] += from_[i]
        from_[i] = 0


@inlined
def _store(address, code, s):
    n = s.size
    if code == at.INT8:
        b = numba.carray(_pointer(address), (n,), dtype=np.int8)
        for i in range(n):
            b[i] = np.int8(s[i])
    elif code == at.INT16:
        h = numba.carray(_pointer(address), (n,), dtype=np.int16)
        for i in range(n):
            h[i] = np.int16(s[i])
    else:
        w = numba.carray(_pointer(address), (n,), dtype=np.int32)
        for i in range(n):
            w[i] = s[i]


@inlined
def _row(d, field, t, start, itemsize):
    """Address of the values of one parameter at step t for the neurons from `start` on."""
    return d[field] + itemsize * (t * d[field + 1] + start * d[field + 2])


@inlined
def _gather(x, p, d, t, b, start):
    """Sum of all currents at step t of sample b for the neurons from `start` on; `p` is room for one of them."""
    for k in range(d[at.SOURCES]):
        f = at.SOURCE + at.FIELDS * k
        address = d[f] + (t * d[f + 2] + b * d[f + 3] + start) * d[f + 4]
        if d[f + 5]:
            if k == 0:
                _clear(x)
            _take(p, address, d[f + 1], True)
            _add_times(x, p, _i32(d[f + 5] + 4 * start * d[f + 6], x.size))
        else:
            _take(x, address, d[f + 1], k == 0)


@_compiled
def run(d):
    """Run the soma that `d` describes."""
    neurons, run_length, steps = d[at.NEURONS], d[at.RUN], d[at.STEPS]
    first, last = d[at.FIRST], d[at.LAST]
    x_, v_, s_ = np.empty(run_length, np.int32), np.empty(run_length, np.int32), np.empty(run_length, np.int32)
    u_, p_ = np.empty(run_length, np.int32), np.empty(run_length, np.int32)
    spikes_, total_ = np.zeros(run_length, np.int32), np.zeros(run_length, np.int32)
    mixed = d[at.WINDOW] != 0
    arrived = np.empty(steps * run_length if mixed else 1, np.int32)
    window = _i32(d[at.WINDOW], steps * steps)
    saturated = np.int64(0)
    fire, reset, levels = d[at.FIRE], d[at.RESET], d[at.LEVELS]
    code = d[at.OUT_CODE]
    size = 1 if code == at.INT8 else (2 if code == at.INT16 else 4)
    for start in range(0, neurons, run_length):
        n = min(run_length, neurons - start)
        x, v, s, u, p = x_[:n], v_[:n], s_[:n], u_[:n], p_[:n]
        spikes, total = spikes_[:n], total_[:n]
        waiting = 0
        for b in range(first, last):
            _fill(v, _i32(_row(d, at.V_INIT, 0, start, 4), n))
            if d[at.SYN_LEAK]:
                _clear(u)
            if reset == at.DELAYED:
                _clear(s)
            if mixed:
                for j in range(steps):
                    _gather(arrived[j * run_length : j * run_length + n], p, d, j, b, start)
            for t in range(steps):
                if mixed:
                    _clear(x)
                    for j in range(steps):
                        _add_scaled(x, arrived[j * run_length : j * run_length + n], window[t * steps + j])
                    if d[at.WINDOW_SHIFT]:
                        _round(x, np.int32(d[at.WINDOW_SHIFT]))
                else:
                    _gather(x, p, d, t, b, start)
                if d[at.TIMES]:
                    _times(x, _i32(_row(d, at.TIMES, t, start, 4), n))
                if d[at.GAIN]:
                    gain = _f64(_row(d, at.GAIN, t, start, 8), n)
                    half = _f64(_row(d, at.HALF, 0, start, 8), n)
                    _scale(x, gain, half, _f64(_row(d, at.INVERSE, 0, start, 8), n))
                if d[at.SYN_LEAK]:
                    _decay(u, _f64(_row(d, at.SYN_LEAK, t, start, 8), n))
                    _wrap(u, x)
                if d[at.LEAK]:
                    _decay(v, _f64(_row(d, at.LEAK, t, start, 8), n))
                _add_into(v, x)
                if d[at.BIAS]:
                    _add_into(v, _i32(_row(d, at.BIAS, t, start, 4), n))
                theta = _i32(_row(d, at.THETA, t, start, 4), n)
                if reset == at.DELAYED:
                    _delayed(v, s, theta)
                if d[at.SATURATES]:
                    saturated += _saturate(v)
                # emission
                if fire == at.ONCE:
                    if reset == at.SUBTRACT:
                        _fire_subtract(v, theta, s)
                    else:
                        _fire_once(v, theta, s)
                elif fire == at.DIVIDE:
                    _divide(v, theta, _i32(_row(d, at.TOP, 0, start, 4), n), s)
                elif fire == at.SIGNED:
                    _divide_signed(v, theta, _i32(_row(d, at.TOP, 0, start, 4), n), s)
                elif fire == at.LADDER:
                    _clear(s)
                    for k in range(levels):
                        _compare(v, _i32(_row(d, at.THETA, k, start, 4), n), s)
                elif fire == at.EXCESS:
                    _excess(v, theta, s)
                elif fire == at.TABLE:
                    _look_up(v, _i32(d[at.ENTRIES], 256), np.int32(d[at.OFFSET]), np.int32(d[at.SHIFT]), s)
                elif fire == at.RELAY:
                    _fill(s, v)
                # reset
                if reset == at.SUBTRACT and fire != at.ONCE:
                    _subtract(v, s, theta)
                elif reset == at.VALUE:
                    _reset_to(v, s, _i32(_row(d, at.V_RESET, t, start, 4), n))
                elif reset == at.CLAMP:
                    _at_most(v, theta)
                elif reset == at.DROP:
                    _clear(v)
                if d[at.V_MIN]:
                    _at_least(v, _i32(_row(d, at.V_MIN, t, start, 4), n))
                if d[at.POTENTIALS]:
                    _fill(_i32(d[at.POTENTIALS] + 4 * (t * d[at.POTENTIALS + 1] + b * neurons + start), n), v)
                if fire == at.SILENT:
                    continue
                # payload
                sent = s
                if d[at.OUT_GAIN]:
                    _fill(p, s)
                    gain = _f64(_row(d, at.OUT_GAIN, 0, start, 8), n)
                    half = _f64(_row(d, at.OUT_HALF, 0, start, 8), n)
                    _scale(p, gain, half, _f64(_row(d, at.OUT_INVERSE, 0, start, 8), n))
                    sent = p
                if d[at.OUT_MAX]:
                    if not d[at.OUT_GAIN]:
                        _fill(p, s)
                        sent = p
                    _at_most(sent, _i32(_row(d, at.OUT_MAX, 0, start, 4), n))
                if d[at.OUT_MIN]:
                    if not d[at.OUT_GAIN] and not d[at.OUT_MAX]:
                        _fill(p, s)
                        sent = p
                    _at_least(sent, _i32(_row(d, at.OUT_MIN, 0, start, 4), n))
                _store(d[at.OUT] + size * (t * d[at.OUT + 1] + b * d[at.OUT + 2] + start), code, sent)
                if d[at.PER_SAMPLE]:
                    _count(sent, _i32(d[at.PER_SAMPLE] + 4 * (b * neurons + start), n))
                if d[at.PER_SAMPLE + 1]:
                    _add_into(_i32(d[at.PER_SAMPLE + 1] + 4 * (b * neurons + start), n), sent)
                _count(sent, spikes)
                if d[at.TOTAL]:
                    _measure(sent, total)
                waiting += 1
                if waiting == d[at.FLUSH]:
                    _flush(spikes, numba.carray(_pointer(d[at.SPIKES] + 8 * start), (n,), dtype=np.int64))
                    if d[at.TOTAL]:
                        _flush(total, numba.carray(_pointer(d[at.TOTAL] + 8 * start), (n,), dtype=np.int64))
                    waiting = 0
            if d[at.LAST_V]:
                _fill(_i32(d[at.LAST_V] + 4 * (b * neurons + start), n), v)
        if waiting:
            _flush(spikes, numba.carray(_pointer(d[at.SPIKES] + 8 * start), (n,), dtype=np.int64))
            if d[at.TOTAL]:
                _flush(total, numba.carray(_pointer(d[at.TOTAL] + 8 * start), (n,), dtype=np.int64))
    d[at.SATURATED] = saturated


@_compiled
def pool(d):
    """Sums over f x f of int8 `[n, h*f, w*f, c]`: addresses in and out, n, h, w, c, f; they fit int8."""
    n, h, w, c, f = d[2], d[3], d[4], d[5], d[6]
    length = w * f * c
    rows = np.empty(length, np.int8)
    for i in range(n * h):
        _copy_bytes(rows, _i8(d[0] + i * f * length, length))
        for k in range(1, f):
            _add_bytes(rows, _i8(d[0] + (i * f + k) * length, length))
        for x in range(w):
            out = _i8(d[1] + (i * w + x) * c, c)
            _copy_bytes(out, rows[x * f * c : (x * f + 1) * c])
            for k in range(1, f):
                _add_bytes(out, rows[(x * f + k) * c : (x * f + k + 1) * c])
