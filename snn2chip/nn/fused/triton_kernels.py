"""The neurons' kernels for CUDA: the equations of `level_kernels`, `clip_kernels` and `excess_kernels`, in their order.

One program takes BLOCK neurons through all steps. Products and sums are rounded one by one (`enable_fp_fusion=False`
at every launch: no fused multiply-add), quotients are rounded to nearest (`div_rn`): the bits of the CPU's kernels.
Sums over neurons are made per program and added up afterwards in float64.

The potentials of the backward pass go through `m_of` `[T,N]`, which its own program writes and reads.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

NOTHING, RESET, STATE = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)
HALF_EVEN = tl.constexpr(12582912.0)  # 1.5 * 2^23: float32 numbers there are whole


@triton.jit
def clipped(s, low, high):
    """s between low and high; what is not a number stays so."""
    s = tl.where(s < low, low, s)
    return tl.where(s > high, high, s)


@triton.jit
def begun(v0, n, here, EACH: tl.constexpr):
    """Potentials that neurons begin with: one for all, or each its own."""
    if EACH:
        v = tl.load(v0 + n, mask=here, other=0.0)
    else:
        v = n.to(tl.float32) * 0.0 + tl.load(v0)
    return v


@triton.jit
def arriving(x, omega, t, frames, neurons, n, here, WINDOW: tl.constexpr):
    """Currents of step t, j ascending where a window mixes them."""
    rows = n.to(tl.int64)
    if WINDOW:
        current = tl.load(omega + t * frames) * tl.load(x + rows, mask=here, other=0.0).to(tl.float32)
        for j in range(1, frames):
            rows = rows + neurons
            value = tl.load(x + rows, mask=here, other=0.0).to(tl.float32)
            current = current + tl.load(omega + t * frames + j) * value
    else:
        current = tl.load(x + (rows + (rows * 0 + t) * neurons), mask=here, other=0.0).to(tl.float32)
    return current


@triton.jit
def sent_of(m, theta, levels):
    """o = theta*clip(floor(m/theta), 0, L)."""
    return theta * clipped(tl.floor(tl.div_rn(m, theta)), 0.0, levels)


@triton.jit
def settled(m, o, theta, HARD: tl.constexpr):
    """Potential after the reset."""
    if HARD:
        v = m * (1.0 - tl.div_rn(o, theta))
    else:
        v = m - o
    return v


@triton.jit(do_not_specialize=["frames", "steps"])
def level_forward(
    x, omega, leak_at, v0, theta_at, out, end, neurons, frames, steps, levels,
    WINDOW: tl.constexpr, EACH: tl.constexpr, HARD: tl.constexpr, END: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Payloads `[T,N]` and, with END, the last potentials `[N]`."""
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    here = n < neurons
    rows = n.to(tl.int64)
    leak, theta = tl.load(leak_at), tl.load(theta_at) + n.to(tl.float32) * 0.0
    v = begun(v0, n, here, EACH)
    for t in range(steps):
        m = leak * v + arriving(x, omega, t, frames, neurons, n, here, WINDOW)
        o = sent_of(m, theta, levels)
        tl.store(out + (rows + (rows * 0 + t) * neurons), o.to(out.dtype.element_ty), mask=here)
        v = settled(m, o, theta, HARD)
    if END:
        tl.store(end + rows, v, mask=here)


@triton.jit(do_not_specialize=["frames", "steps"])
def level_backward(
    x, g_o, omega, leak_at, v0, theta_at, m_of, g_of, g_x, g_omega, g_leak,
    neurons, frames, steps, levels, gamma, square,
    WINDOW: tl.constexpr, EACH: tl.constexpr, HARD: tl.constexpr, DETACH: tl.constexpr, TRIANGLE: tl.constexpr,
    ON_SPIKE: tl.constexpr, NEED_OMEGA: tl.constexpr, NEED_LEAK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """g_x `[F,N]`; sums of this program: g_omega `[programs,T,F]`, g_leak `[programs]`."""
    program = tl.program_id(0)
    n = program * BLOCK + tl.arange(0, BLOCK)
    here = n < neurons
    rows = n.to(tl.int64)
    leak, theta = tl.load(leak_at), tl.load(theta_at) + n.to(tl.float32) * 0.0
    low, high = 0.5 * theta, (levels + 0.5) * theta
    start = begun(v0, n, here, EACH)
    v = start
    for t in range(steps):
        m = leak * v + arriving(x, omega, t, frames, neurons, n, here, WINDOW)
        tl.store(m_of + (rows + (rows * 0 + t) * neurons), m, mask=here)
        v = settled(m, sent_of(m, theta, levels), theta, HARD)
    tl.debug_barrier()
    g_v = n.to(tl.float32) * 0.0
    to_leak = g_v
    for i in range(steps):
        t = steps - 1 - i
        at = rows + (rows * 0 + t) * neurons
        m = tl.load(m_of + at, mask=here, other=0.0)
        if TRIANGLE:
            slope = gamma - tl.abs(m - theta)
            slope = tl.div_rn(tl.where(slope < 0.0, 0.0, slope), square + theta * 0.0)
        else:
            slope = tl.where((m >= low) & (m <= high), 1.0, 0.0)
        g = tl.load(g_o + at, mask=here, other=0.0).to(tl.float32)
        through = g_v
        if DETACH == NOTHING:
            if HARD:
                g = g + tl.div_rn(-(through * m), theta)
            else:
                g = g - through
        if HARD and DETACH != STATE:
            through = through * (1.0 - tl.div_rn(sent_of(m, theta, levels), theta))
        g_m = g * slope
        if ON_SPIKE:
            g_m = g_m * theta
        if DETACH != STATE:
            g_m = through + g_m
        g_v = leak * g_m
        if NEED_LEAK:
            before = tl.load(m_of + (at - neurons), mask=here & (t > 0), other=0.0)
            before = settled(before, sent_of(before, theta, levels), theta, HARD)
            before = tl.where(here & (t > 0), before, start)
            to_leak = to_leak + tl.where(here, g_m * before, 0.0)
        if WINDOW:
            tl.store(g_of + at, g_m, mask=here)
        else:
            tl.store(g_x + at, g_m.to(g_x.dtype.element_ty), mask=here)
    if NEED_LEAK:
        tl.store(g_leak + program, tl.sum(to_leak, axis=0))
    if WINDOW:
        tl.debug_barrier()
        for j in range(frames):
            total = tl.load(omega + j) * tl.load(g_of + rows, mask=here, other=0.0)
            at = rows
            for t in range(1, steps):
                at = at + neurons
                total = total + tl.load(omega + t * frames + j) * tl.load(g_of + at, mask=here, other=0.0)
            at = rows + (rows * 0 + j) * neurons
            if NEED_OMEGA:
                value = tl.load(x + at, mask=here, other=0.0).to(tl.float32)
                for t in range(steps):
                    g_m = tl.load(g_of + (rows + (rows * 0 + t) * neurons), mask=here, other=0.0)
                    tl.store(g_omega + ((program * steps + t) * frames + j), tl.sum(g_m * value, axis=0))
            tl.store(g_x + at, total.to(g_x.dtype.element_ty), mask=here)


@triton.jit
def clip_forward(z, theta_at, out, count, low, high, AFTER: tl.constexpr, BLOCK: tl.constexpr):
    """Payloads of QCFS, value by value."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    here = i < count
    theta = tl.load(theta_at) + i.to(tl.float32) * 0.0
    r = tl.div_rn(tl.load(z + i, mask=here, other=0.0).to(tl.float32) + theta * 0.5, theta)
    if AFTER:
        s = clipped(tl.floor(r), low, high)
    else:
        s = tl.floor(clipped(r, low, high))
    tl.store(out + i, (theta * s).to(out.dtype.element_ty), mask=here)


@triton.jit
def clip_backward(
    z, g_o, theta_at, g_z, g_theta, count, low, high,
    AFTER: tl.constexpr, NEED_THETA: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """g_z, and this program's part of g_theta `[programs]`."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    here = i < count
    theta = tl.load(theta_at) + i.to(tl.float32) * 0.0
    r = tl.div_rn(tl.load(z + i, mask=here, other=0.0).to(tl.float32) + theta * 0.5, theta)
    s = r
    if AFTER:
        s = tl.floor(r)
    inside = (s >= low) & (s <= high)
    g = tl.load(g_o + i, mask=here, other=0.0).to(tl.float32)
    g_r = tl.where(inside, g * theta, 0.0)
    g_m = tl.div_rn(g_r, theta)
    tl.store(g_z + i, g_m.to(g_z.dtype.element_ty), mask=here)
    if NEED_THETA:
        terms = g * tl.floor(clipped(s, low, high)) - g_r * tl.div_rn(r, theta) + 0.5 * g_m
        tl.store(g_theta + tl.program_id(0), tl.sum(tl.where(here, terms, 0.0), axis=0))


@triton.jit(do_not_specialize=["steps"])
def excess_forward(
    x, leak, theta, v0, out, end, neurons, steps, step, top,
    KEPT: tl.constexpr, EACH: tl.constexpr, GRID: tl.constexpr, EVEN: tl.constexpr, END: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Payloads `[T,N]` of EM-PF and, with END, the last potentials; with GRID in whole multiples of `step`."""
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    here = n < neurons
    rows = n.to(tl.int64)
    v = begun(v0, n, here, EACH)
    for t in range(steps):
        at = rows + (rows * 0 + t) * neurons
        m = tl.load(x + at, mask=here, other=0.0).to(tl.float32)
        if KEPT:
            m = tl.load(leak + t) * v + m
        bound = tl.load(theta + t)
        s = m - bound
        s = tl.where(s < 0.0, 0.0, s)
        if GRID:
            ratio = tl.div_rn(s, step + s * 0.0)
            if EVEN:  # whole numbers alone are left behind 2^23; the sum rounds to the nearest, ties to even
                code = (tl.where(ratio > top, top, ratio) + HALF_EVEN) - HALF_EVEN
            else:
                code = tl.floor(ratio + 0.5)
            s = clipped(code, 0.0, top) * step
        tl.store(out + at, s.to(out.dtype.element_ty), mask=here)
        v = tl.where(m > bound, bound, m)
    if END:
        tl.store(end + rows, v, mask=here)


@triton.jit(do_not_specialize=["steps"])
def excess_backward(
    x, g_o, leak, theta, v0, m_of, g_x, g_leak, g_theta, g_start, neurons, steps,
    KEPT: tl.constexpr, EACH: tl.constexpr, DETACH: tl.constexpr, NEED_LEAK: tl.constexpr,
    NEED_THETA: tl.constexpr, NEED_START: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """g_x `[T,N]`; sums of this program: g_leak, g_theta `[programs,T]`, g_start `[programs]`."""
    program = tl.program_id(0)
    n = program * BLOCK + tl.arange(0, BLOCK)
    here = n < neurons
    rows = n.to(tl.int64)
    start = begun(v0, n, here, EACH)
    v = start
    for t in range(steps):
        at = rows + (rows * 0 + t) * neurons
        m = tl.load(x + at, mask=here, other=0.0).to(tl.float32)
        if KEPT:
            m = tl.load(leak + t) * v + m
        tl.store(m_of + at, m, mask=here)
        v = tl.where(m > tl.load(theta + t), tl.load(theta + t), m)
    tl.debug_barrier()
    g_v = n.to(tl.float32) * 0.0
    for i in range(steps):
        t = steps - 1 - i
        at = rows + (rows * 0 + t) * neurons
        fires = tl.load(m_of + at, mask=here, other=0.0) - tl.load(theta + t) > 0.0
        g = tl.load(g_o + at, mask=here, other=0.0).to(tl.float32)
        direct = tl.where(fires, g, 0.0)
        to_theta = -direct
        g_m = direct
        if DETACH == NOTHING:
            to_theta = tl.where(fires, g_v, 0.0) - direct
            g_m = direct + tl.where(fires, 0.0, g_v)
        elif DETACH == RESET:
            to_theta = 0.0 - direct
            g_m = direct + g_v
        g_v = tl.load(leak + t) * g_m
        tl.store(g_x + at, g_m.to(g_x.dtype.element_ty), mask=here)
        if NEED_THETA:
            tl.store(g_theta + (program * steps + t), tl.sum(tl.where(here, to_theta, 0.0), axis=0))
        if NEED_LEAK:
            before = tl.load(m_of + (at - neurons), mask=here & (t > 0), other=0.0)
            bound = tl.load(theta + tl.maximum(t - 1, 0))
            before = tl.where(t > 0, tl.where(before > bound, bound, before), start)
            tl.store(g_leak + (program * steps + t), tl.sum(tl.where(here, g_m * before, 0.0), axis=0))
    if NEED_START:
        tl.store(g_start + program, tl.sum(tl.where(here, g_v, 0.0), axis=0))
