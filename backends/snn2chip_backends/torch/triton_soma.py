"""The soma of some samples over all steps as one Triton kernel: integers from the currents to the payloads.

One program takes `BLOCK` neurons of `SAMPLES` samples through all steps; potentials, the last spike and counts stay in
registers. Everything that 32 bits hold is int32, products are int64, quotients are quotients of integers: no float
takes part, so nothing can round. Operations in the order of `snn2chip.ir.dynamics`.

All parameters lie in one array of int32 that begins with two numbers for each of them: where its values begin, and
how far apart those of two steps are. `KINDS` has two bits for each: absent, one value, one per channel, one per neuron.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl


def _numbers(count):
    """Whole numbers from 0 as constants that a kernel can read."""
    return tuple(tl.constexpr(i) for i in range(count))


V_INIT, GAIN, SHIFT, SYN_LEAK, LEAK, BIAS, THETA, TOP, V_RESET, V_MIN, OUT_GAIN, OUT_SHIFT, OUT_MIN, OUT_MAX, TABLE = (
    _numbers(15)
)
WINDOW, FACTOR = tl.constexpr(15), tl.constexpr(16)
"""Positions of parameters; FACTOR + i multiplies current i, whose values are payloads then."""
SOURCES = 3
"""Most currents of one call."""
PARAMETERS = 16 + SOURCES
ABSENT, ONE, CHANNEL, NEURON = _numbers(4)

ONCE, DIVIDE, SIGNED, LADDER, EXCESS, LOOKUP, RELAY, SILENT = _numbers(8)
KEEP, SUBTRACT, VALUE, CLAMP, DROP, DELAYED = _numbers(6)
NO_WINDOW, MIXED, SAME_ROWS = _numbers(3)
V_MAX = tl.constexpr((1 << 23) - 1)


@triton.jit
def parameter(p, KINDS: tl.constexpr, i: tl.constexpr, t, n, c, here):
    """Values of parameter i at step t for the neurons n; 1 where there is no neuron."""
    kind: tl.constexpr = KINDS // 4**i % 4
    first = p + tl.load(p + 2 * i) + t * tl.load(p + 2 * i + 1)
    if kind == ONE:
        values = tl.load(first)
    elif kind == CHANNEL:
        values = tl.load(first + c, mask=here, other=1)
    else:
        values = tl.load(first + n, mask=here, other=1)
    return values


@triton.jit
def arriving(x, row, p, KINDS: tl.constexpr, i: tl.constexpr, n, c, here):
    """One current of one step of one sample, or payloads times their factor, as int32."""
    a = tl.load(x + (row + n), mask=here, other=0).to(tl.int32)
    if KINDS // 4**i % 4:
        a = a * parameter(p, KINDS, i, 0, n, c, here)
    return a


@triton.jit
def current(x0, x1, x2, r0, r1, r2, p, CURRENTS: tl.constexpr, KINDS: tl.constexpr, n, c, here):
    """Sum of all currents of one step of one sample; r: where its rows begin."""
    a = arriving(x0, r0, p, KINDS, FACTOR, n, c, here)
    if CURRENTS > 1:
        a = a + arriving(x1, r1, p, KINDS, FACTOR + 1, n, c, here)
    if CURRENTS > 2:
        a = a + arriving(x2, r2, p, KINDS, FACTOR + 2, n, c, here)
    return a


@triton.jit
def shifted(x, shift):
    """`rshift(x, shift)` of int64: half up."""
    behind = x * 0 + shift
    return (x + (((x * 0 + 1) << behind) >> 1)) >> behind


@triton.jit
def floored(v, d):
    """`floor(v / d)` for d > 0, by a quotient of numbers that are not negative."""
    size = tl.where(v < 0, d - 1 - v, v) // d
    return tl.where(v < 0, -size, size)


@triton.jit
def decayed(v, factor):
    """`trunc(v * factor / 4096)`: toward zero."""
    product = v.to(tl.int64) * factor
    return tl.where(product < 0, -((-product) >> 12), product >> 12).to(tl.int32)


# numbers that every program has otherwise: one compiled form for all of them
@triton.jit(do_not_specialize=["channels", "batch", "steps", "window_shift", "levels", "offset", "table_shift"])
def soma(
    p,
    x0,
    x1,
    x2,
    out,
    potentials,
    last,
    spikes,
    total,
    counted,
    summed,
    saturated,
    t0,
    b0,
    t1,
    b1,
    t2,
    b2,
    out_t,
    out_b,
    potentials_t,
    neurons,
    channels,
    batch,
    steps,
    window_shift,
    levels,
    offset,
    table_shift,
    CURRENTS: tl.constexpr,
    KINDS: tl.constexpr,
    FIRE: tl.constexpr,
    RESET: tl.constexpr,
    MIX: tl.constexpr,
    SATURATES: tl.constexpr,
    POTENTIALS: tl.constexpr,
    LAST: tl.constexpr,
    MEASURE: tl.constexpr,
    COUNT: tl.constexpr,
    SUM: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
    SAMPLES: tl.constexpr,
):
    """All steps of the samples of one call; see `snn2chip_backends.torch.gpu_soma` for what the arguments are."""
    zero = tl.program_id(0).to(tl.int64) * 0
    group = tl.program_id(1)
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    here = n < neurons
    c = n % channels
    nothing = n * 0
    spiked, measured = nothing, nothing
    if WIDE:
        spiked, measured = spiked.to(tl.int64), measured.to(tl.int64)
    hits = nothing.to(tl.int64)
    for b in range(group * SAMPLES, tl.minimum(group * SAMPLES + SAMPLES, batch)):
        r0, r1, r2 = (zero + b) * b0, (zero + b) * b1, (zero + b) * b2
        v = nothing + parameter(p, KINDS, V_INIT, 0, n, c, here)
        u, s, of_sample, sum_of_sample, once = nothing, nothing, nothing, nothing, nothing
        if MIX == SAME_ROWS:  # every row of the window is the first one: mixed once
            mixed = nothing.to(tl.int64)
            for j in range(steps):
                k = zero + j
                a = current(x0, x1, x2, r0 + k * t0, r1 + k * t1, r2 + k * t2, p, CURRENTS, KINDS, n, c, here)
                mixed = mixed + a.to(tl.int64) * tl.load(p + tl.load(p + 2 * WINDOW) + j)
            once = shifted(mixed, window_shift).to(tl.int32)
        for t in range(steps):
            # current
            if MIX == SAME_ROWS:
                x = once
            elif MIX == MIXED:
                mixed = nothing.to(tl.int64)
                for j in range(steps):
                    k = zero + j
                    a = current(x0, x1, x2, r0 + k * t0, r1 + k * t1, r2 + k * t2, p, CURRENTS, KINDS, n, c, here)
                    mixed = mixed + a.to(tl.int64) * tl.load(p + tl.load(p + 2 * WINDOW) + t * steps + j)
                x = shifted(mixed, window_shift).to(tl.int32)
            else:
                k = zero + t
                x = current(x0, x1, x2, r0 + k * t0, r1 + k * t1, r2 + k * t2, p, CURRENTS, KINDS, n, c, here)
            if KINDS // 4**GAIN % 4 or KINDS // 4**SHIFT % 4:
                scaled = x.to(tl.int64)
                if KINDS // 4**GAIN % 4:
                    scaled = scaled * parameter(p, KINDS, GAIN, t, n, c, here)
                if KINDS // 4**SHIFT % 4:
                    scaled = shifted(scaled, parameter(p, KINDS, SHIFT, 0, n, c, here))
                x = scaled.to(tl.int32)
            # potential
            if KINDS // 4**SYN_LEAK % 4:
                u = decayed(u, parameter(p, KINDS, SYN_LEAK, t, n, c, here)) + x
                u = ((u + (1 << 23)) & ((1 << 24) - 1)) - (1 << 23)
                x = u
            if KINDS // 4**LEAK % 4:
                v = decayed(v, parameter(p, KINDS, LEAK, t, n, c, here))
            v = v + x
            if KINDS // 4**BIAS % 4:
                v = v + parameter(p, KINDS, BIAS, t, n, c, here)
            if RESET == DELAYED:
                v = v - s * parameter(p, KINDS, THETA, t, n, c, here)
            if SATURATES:
                low = tl.minimum(tl.maximum(v, -V_MAX), V_MAX)
                hits = hits + tl.where(here & (low != v), 1, 0)
                v = low
            # emission
            if FIRE == ONCE:
                s = (v >= parameter(p, KINDS, THETA, t, n, c, here)).to(tl.int32)
            elif FIRE == DIVIDE:
                s = tl.where(v < 0, 0, v) // parameter(p, KINDS, THETA, t, n, c, here)
                s = tl.minimum(s, parameter(p, KINDS, TOP, 0, n, c, here))
            elif FIRE == SIGNED:
                theta = nothing + parameter(p, KINDS, THETA, t, n, c, here)
                top = nothing + parameter(p, KINDS, TOP, 0, n, c, here)
                count = floored(v, tl.maximum(tl.where(theta < 0, -theta, theta), 1))
                count = tl.where(theta < 0, count + top + 1, count)
                count = tl.where(theta == 0, tl.where(v >= 0, top, 0), count)
                s = tl.maximum(tl.minimum(count, top), 0)
            elif FIRE == LADDER:
                s = nothing
                for rung in range(levels):
                    s = s + (v >= parameter(p, KINDS, THETA, rung, n, c, here)).to(tl.int32)
            elif FIRE == EXCESS:
                s = tl.maximum(v - parameter(p, KINDS, THETA, t, n, c, here), 0)
            elif FIRE == LOOKUP:
                s = tl.load(p + tl.load(p + 2 * TABLE) + tl.maximum(tl.minimum((v + offset) >> table_shift, 255), 0))
            elif FIRE == RELAY:
                s = v
            # reset
            if RESET == SUBTRACT:
                v = v - s * parameter(p, KINDS, THETA, t, n, c, here)
            elif RESET == VALUE:
                v = tl.where(s > 0, parameter(p, KINDS, V_RESET, t, n, c, here), v)
            elif RESET == CLAMP:
                v = tl.minimum(v, parameter(p, KINDS, THETA, t, n, c, here))
            elif RESET == DROP:
                v = nothing
            if KINDS // 4**V_MIN % 4:
                v = tl.maximum(v, parameter(p, KINDS, V_MIN, t, n, c, here))
            if POTENTIALS:
                tl.store(potentials + ((zero + t) * potentials_t + (zero + b) * neurons + n), v, mask=here)
            # payload
            if FIRE != SILENT:
                sent = s
                if KINDS // 4**OUT_GAIN % 4 or KINDS // 4**OUT_SHIFT % 4:
                    product = s.to(tl.int64)
                    if KINDS // 4**OUT_GAIN % 4:
                        product = product * parameter(p, KINDS, OUT_GAIN, 0, n, c, here)
                    if KINDS // 4**OUT_SHIFT % 4:
                        product = shifted(product, parameter(p, KINDS, OUT_SHIFT, 0, n, c, here))
                    sent = product.to(tl.int32)
                if KINDS // 4**OUT_MAX % 4:
                    sent = tl.minimum(sent, parameter(p, KINDS, OUT_MAX, 0, n, c, here))
                if KINDS // 4**OUT_MIN % 4:
                    sent = tl.maximum(sent, parameter(p, KINDS, OUT_MIN, 0, n, c, here))
                at = (zero + t) * out_t + (zero + b) * out_b + n
                tl.store(out + at, sent.to(out.dtype.element_ty), mask=here)
                fires = (sent != 0).to(tl.int32)
                spiked = spiked + fires
                if MEASURE:
                    measured = measured + tl.where(sent < 0, -sent, sent)
                if COUNT:
                    of_sample = of_sample + fires
                if SUM:
                    sum_of_sample = sum_of_sample + sent
        own = (zero + b) * neurons + n
        if LAST:
            tl.store(last + own, v, mask=here)
        if COUNT:
            tl.store(counted + own, of_sample, mask=here)
        if SUM:
            tl.store(summed + own, sum_of_sample, mask=here)
    mine = (zero + group) * neurons + n
    if FIRE != SILENT:
        tl.store(spikes + mine, spiked, mask=here)
    if MEASURE:
        tl.store(total + mine, measured, mask=here)
    if SATURATES:
        tl.store(saturated + mine, hits, mask=here)
