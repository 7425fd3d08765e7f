"""The operations of a soma, each a short loop over a run: the equations of `snn2chip.ir.dynamics` in 32 bits."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import numpy as np

from snn2chip_backends.torch.passes.memory import inlined

V_MAX = np.int32((1 << 23) - 1)


@inlined
def add_times(x, p, factor):
    for i in range(x.size):
        x[i] += p[i] * factor[i]


@inlined
def add_scaled(x, p, factor):
    for i in range(x.size):
        x[i] += p[i] * factor


@inlined
def round(x, shift):
    half = np.int32(1) << (shift - np.int32(1))
    for i in range(x.size):
        x[i] = (x[i] + half) >> shift


@inlined
def times(x, gain):
    for i in range(x.size):
        x[i] *= gain[i]


@inlined
def scale(x, gain, half, inverse):
    """`rshift(x * gain, k)`: exact in float64, whose 53 bits hold every product; `inverse` is 2^-k."""
    for i in range(x.size):
        x[i] = np.int32(np.floor((x[i] * gain[i] + half[i]) * inverse[i]))


@inlined
def decay(v, factor):
    """`trunc(v * leak / 4096)`: exact in float64; `factor` is leak / 4096."""
    for i in range(v.size):
        v[i] = np.int32(v[i] * factor[i])


@inlined
def wrap(u, x):
    """`u = wrap24(u + x)`, and x becomes u."""
    for i in range(u.size):
        total = ((u[i] + x[i] + np.int32(1 << 23)) & np.int32((1 << 24) - 1)) - np.int32(1 << 23)
        u[i] = total
        x[i] = total


@inlined
def delayed(v, s, theta):
    for i in range(v.size):
        v[i] -= s[i] * theta[i]


@inlined
def saturate(v):
    """Clip to 24 bits; how many values that changed."""
    hits = np.int32(0)
    for i in range(v.size):
        low = max(min(v[i], V_MAX), -V_MAX)
        hits += np.int32(low != v[i])
        v[i] = low
    return np.int64(hits)


@inlined
def fire_once(v, theta, s):
    for i in range(v.size):
        s[i] = np.int32(1) if v[i] >= theta[i] else np.int32(0)


@inlined
def fire_subtract(v, theta, s):
    for i in range(v.size):
        fires = np.int32(v[i] >= theta[i])
        s[i] = fires
        v[i] = np.int32(v[i] - fires * theta[i])


@inlined
def integrate_once(v, x, bias, theta, bits):
    """One step of a soma that adds up, fires at most once and subtracts its threshold; whether 24 bits were left."""
    low, high = np.int32(0), np.int32(0)
    for i in range(v.size):
        w = np.int32(v[i] + np.int32(x[i]) + bias[i])  # numba would go on in 64 bits
        low, high = min(low, w), max(high, w)
        fires = np.int32(w >= theta[i])
        bits[i] = np.int8(fires)
        v[i] = np.int32(w - fires * theta[i])
    return low < -V_MAX or high > V_MAX


@inlined
def clip_after(v, theta, bits):
    """Take the reset of `integrate_once` back, clip, and fire again; how many potentials were clipped."""
    for i in range(v.size):
        v[i] += np.int32(bits[i]) * theta[i]
    hits = saturate(v)
    for i in range(v.size):
        fires = np.int32(v[i] >= theta[i])
        bits[i] = np.int8(fires)
        v[i] -= fires * theta[i]
    return hits


@inlined
def compare(v, bar, s):
    for i in range(v.size):
        s[i] += np.int32(1) if v[i] >= bar[i] else np.int32(0)


@inlined
def divide(v, theta, top, s):
    """`clip(floor(v / theta), 0, levels)` for theta > 0: the float32 quotient is exact after floor (see `firing`)."""
    for i in range(v.size):
        quotient = np.int32(np.floor(np.float32(v[i]) / np.float32(theta[i])))
        s[i] = max(min(quotient, top[i]), np.int32(0))


@inlined
def divide_signed(v, theta, top, s):
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
def excess(v, theta, s):
    for i in range(v.size):
        s[i] = max(v[i] - theta[i], np.int32(0))


@inlined
def look_up(v, table, offset, shift, s):
    for i in range(v.size):
        s[i] = table[max(min((v[i] + offset) >> shift, np.int32(255)), np.int32(0))]


@inlined
def subtract(v, s, theta):
    for i in range(v.size):
        v[i] -= s[i] * theta[i]


@inlined
def reset_to(v, s, value):
    for i in range(v.size):
        v[i] = value[i] if s[i] > 0 else v[i]


@inlined
def at_most(v, bar):
    for i in range(v.size):
        v[i] = min(v[i], bar[i])


@inlined
def at_least(v, bar):
    for i in range(v.size):
        v[i] = max(v[i], bar[i])
