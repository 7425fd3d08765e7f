"""The soma over all steps of some samples, in one pass over memory.

A run of neurons that fits the first-level cache goes through all samples and all steps before the next one starts;
every operation is one short loop over that run, so that the compiler makes vector code of each and what a soma does
not do costs nothing. Addresses and switches come in one array of int64 (see `layout`), so that there is one compiled
form for every soma.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import numpy as np

from snn2chip_backends.torch import layout as at
from snn2chip_backends.torch.passes.dynamics import (
    add_scaled,
    add_times,
    at_least,
    at_most,
    clip_after,
    compare,
    decay,
    delayed,
    divide,
    divide_signed,
    excess,
    fire_once,
    fire_subtract,
    integrate_once,
    look_up,
    reset_to,
    round,
    saturate,
    scale,
    subtract,
    times,
    wrap,
)
from snn2chip_backends.torch.passes.memory import f32, f64, i8, i32, i64, inlined
from snn2chip_backends.torch.passes.moves import (
    add_into,
    clear,
    count,
    count_bytes,
    fill,
    flush,
    measure,
    store,
    take,
)


@inlined
def row(d, field, t, start, itemsize):
    """Address of the values of one parameter at step t for the neurons from `start` on."""
    return d[field] + itemsize * (t * d[field + 1] + start * d[field + 2])


@inlined
def gather(x, p, d, t, b, start):
    """Sum of all currents at step t of sample b for the neurons from `start` on; `p` is room for one of them."""
    for k in range(d[at.SOURCES]):
        f = at.SOURCE + at.FIELDS * k
        address = d[f] + (t * d[f + 2] + b * d[f + 3] + start) * d[f + 4]
        if d[f + 5]:
            if k == 0:
                clear(x)
            take(p, address, d[f + 1], True)
            add_times(x, p, i32(d[f + 5] + 4 * start * d[f + 6], x.size))
        else:
            take(x, address, d[f + 1], k == 0)


@inlined
def is_plain(d):
    """Whether a soma that integrates, fires once and subtracts sends bytes that are counted over samples alone."""
    read = d[at.POTENTIALS] + d[at.PER_SAMPLE] + d[at.PER_SAMPLE + 1] + d[at.TOTAL]
    return d[at.PLAIN] != 0 and read == 0 and d[at.OUT_CODE] == at.INT8


@inlined
def is_steady(d):
    """Whether every current is the same at all steps."""
    steady = True
    for k in range(d[at.SOURCES]):
        steady = steady and d[at.SOURCE + at.FIELDS * k + 2] == 0
    return steady


@inlined
def in_floats(d):
    """Whether there is one current, in float32, taken as it is."""
    return d[at.SOURCES] == 1 and d[at.SOURCE + 1] == at.FLOAT32 and d[at.SOURCE + 5] == 0


@inlined
def run(d):
    """Steps `[begin, end)` of the samples `[first, last)` of the soma that `d` describes."""
    neurons, run_length, steps = d[at.NEURONS], d[at.RUN], d[at.STEPS]
    first, last = d[at.FIRST], d[at.LAST]
    x_, v_, s_ = np.empty(run_length, np.int32), np.empty(run_length, np.int32), np.empty(run_length, np.int32)
    u_, p_ = np.empty(run_length, np.int32), np.empty(run_length, np.int32)
    spikes_, total_ = np.zeros(run_length, np.int32), np.zeros(run_length, np.int32)
    mixed = d[at.WINDOW] != 0
    arrived = np.empty(steps * run_length if mixed else 1, np.int32)
    window = i32(d[at.WINDOW], steps * steps)
    saturated, fired = np.int64(0), np.int64(0)
    begin, end, kept = d[at.BEGIN], d[at.END], d[at.STATE] != 0
    fire, reset, levels = d[at.FIRE], d[at.RESET], d[at.LEVELS]
    plain, steady, straight = is_plain(d), is_steady(d), in_floats(d)
    code = d[at.OUT_CODE]
    size = 1 if code == at.INT8 else (2 if code == at.INT16 else 4)
    for start in range(0, neurons, run_length):
        n = min(run_length, neurons - start)
        x, v, s, u, p = x_[:n], v_[:n], s_[:n], u_[:n], p_[:n]
        spikes, total = spikes_[:n], total_[:n]
        waiting = 0
        for b in range(first, last):
            if kept:
                own = 4 * (b * neurons + start)
                v = i32(d[at.STATE] + own, n)
                if d[at.SYN_LEAK]:
                    u = i32(d[at.STATE + 1] + own, n)
                if reset == at.DELAYED:
                    s = i32(d[at.STATE + 2] + own, n)
            if begin == 0:
                fill(v, i32(row(d, at.V_INIT, 0, start, 4), n))
                if d[at.SYN_LEAK]:
                    clear(u)
                if reset == at.DELAYED:
                    clear(s)
            if mixed:
                for j in range(steps):
                    gather(arrived[j * run_length : j * run_length + n], p, d, j, b, start)
            for t in range(begin, end):
                if plain:
                    theta, bias = i32(row(d, at.THETA, t, start, 4), n), i32(row(d, at.BIAS, t, start, 4), n)
                    bits = i8(d[at.OUT] + t * d[at.OUT + 1] + b * d[at.OUT + 2] + start, n)
                    if straight:
                        source = d[at.SOURCE] + (t * d[at.SOURCE + 2] + b * d[at.SOURCE + 3] + start) * 4
                        beyond = integrate_once(v, f32(source, n), bias, theta, bits)
                    else:
                        if t == begin or not steady:
                            gather(x, p, d, t, b, start)
                        beyond = integrate_once(v, x, bias, theta, bits)
                    if beyond:
                        saturated += clip_after(v, theta, bits)
                    count_bytes(bits, spikes)
                    waiting += 1
                    continue
                if mixed:
                    clear(x)
                    for j in range(steps):
                        add_scaled(x, arrived[j * run_length : j * run_length + n], window[t * steps + j])
                    if d[at.WINDOW_SHIFT]:
                        round(x, np.int32(d[at.WINDOW_SHIFT]))
                else:
                    gather(x, p, d, t, b, start)
                if d[at.TIMES]:
                    times(x, i32(row(d, at.TIMES, t, start, 4), n))
                if d[at.GAIN]:
                    gain = f64(row(d, at.GAIN, t, start, 8), n)
                    half = f64(row(d, at.HALF, 0, start, 8), n)
                    scale(x, gain, half, f64(row(d, at.INVERSE, 0, start, 8), n))
                if d[at.SYN_LEAK]:
                    decay(u, f64(row(d, at.SYN_LEAK, t, start, 8), n))
                    wrap(u, x)
                if d[at.LEAK]:
                    decay(v, f64(row(d, at.LEAK, t, start, 8), n))
                add_into(v, x)
                if d[at.BIAS]:
                    add_into(v, i32(row(d, at.BIAS, t, start, 4), n))
                theta = i32(row(d, at.THETA, t, start, 4), n)
                if reset == at.DELAYED:
                    delayed(v, s, theta)
                if d[at.SATURATES]:
                    saturated += saturate(v)
                # emission
                if fire == at.ONCE:
                    if reset == at.SUBTRACT:
                        fire_subtract(v, theta, s)
                    else:
                        fire_once(v, theta, s)
                elif fire == at.DIVIDE:
                    divide(v, theta, i32(row(d, at.TOP, 0, start, 4), n), s)
                elif fire == at.SIGNED:
                    divide_signed(v, theta, i32(row(d, at.TOP, 0, start, 4), n), s)
                elif fire == at.LADDER:
                    clear(s)
                    for k in range(levels):
                        compare(v, i32(row(d, at.THETA, k, start, 4), n), s)
                elif fire == at.EXCESS:
                    excess(v, theta, s)
                elif fire == at.TABLE:
                    look_up(v, i32(d[at.ENTRIES], 256), np.int32(d[at.OFFSET]), np.int32(d[at.SHIFT]), s)
                elif fire == at.RELAY:
                    fill(s, v)
                # reset
                if reset == at.SUBTRACT and fire != at.ONCE:
                    subtract(v, s, theta)
                elif reset == at.VALUE:
                    reset_to(v, s, i32(row(d, at.V_RESET, t, start, 4), n))
                elif reset == at.CLAMP:
                    at_most(v, theta)
                elif reset == at.DROP:
                    clear(v)
                if d[at.V_MIN]:
                    at_least(v, i32(row(d, at.V_MIN, t, start, 4), n))
                if d[at.POTENTIALS]:
                    fill(i32(d[at.POTENTIALS] + 4 * (t * d[at.POTENTIALS + 1] + b * neurons + start), n), v)
                if fire == at.SILENT:
                    continue
                # payload
                sent = s
                if d[at.OUT_GAIN]:
                    fill(p, s)
                    gain = f64(row(d, at.OUT_GAIN, 0, start, 8), n)
                    half = f64(row(d, at.OUT_HALF, 0, start, 8), n)
                    scale(p, gain, half, f64(row(d, at.OUT_INVERSE, 0, start, 8), n))
                    sent = p
                if d[at.OUT_MAX]:
                    if not d[at.OUT_GAIN]:
                        fill(p, s)
                        sent = p
                    at_most(sent, i32(row(d, at.OUT_MAX, 0, start, 4), n))
                if d[at.OUT_MIN]:
                    if not d[at.OUT_GAIN] and not d[at.OUT_MAX]:
                        fill(p, s)
                        sent = p
                    at_least(sent, i32(row(d, at.OUT_MIN, 0, start, 4), n))
                store(d[at.OUT] + size * (t * d[at.OUT + 1] + b * d[at.OUT + 2] + start), code, sent)
                if d[at.PER_SAMPLE]:
                    count(sent, i32(d[at.PER_SAMPLE] + 4 * (b * neurons + start), n))
                if d[at.PER_SAMPLE + 1]:
                    add_into(i32(d[at.PER_SAMPLE + 1] + 4 * (b * neurons + start), n), sent)
                count(sent, spikes)
                if d[at.TOTAL]:
                    measure(sent, total)
                waiting += 1
                if waiting == d[at.FLUSH]:
                    fired += flush(spikes, i64(d[at.SPIKES] + 8 * start, n))
                    if d[at.TOTAL]:
                        flush(total, i64(d[at.TOTAL] + 8 * start, n))
                    waiting = 0
            if d[at.LAST_V]:
                fill(i32(d[at.LAST_V] + 4 * (b * neurons + start), n), v)
        if waiting:
            fired += flush(spikes, i64(d[at.SPIKES] + 8 * start, n))
            if d[at.TOTAL]:
                flush(total, i64(d[at.TOTAL] + 8 * start, n))
    d[at.SATURATED], d[at.FIRED] = saturated, fired
