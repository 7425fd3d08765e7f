"""Kernels of the neurons that send their excess: EM-PF versions I and III.

    m = leak(t)*v + I (kept), or I       s = max(m - theta(t), 0)       v = min(m, theta(t))
    o = s, or s on the payload's grid

The backward pass reads the currents again, as `level_kernels` does. Gradient rules: `snn2chip.nn.empf`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from snn2chip.nn.fused.compiled import BLOCK, begin, compiled, dot, narrow, total, widen

NOTHING, RESET, STATE = 0, 1, 2  # what is detached


@compiled
def forward(
    x: Any,
    leak: Any,
    theta: Any,
    v0: Any,
    kept: bool,
    step: Any,
    top: Any,
    even: bool,
    out: Any,
    end: Any,
    first: int,
    last: int,
) -> None:
    """Write payloads `[T,N]` and, unless empty, the last potentials of neurons first .. last.

    leak and theta are `[T]`; step 0 sends s itself.
    """
    zero, half = np.float32(0.0), np.float32(0.5)
    v = np.empty(BLOCK, np.float32)
    sent = np.empty(BLOCK, np.float32)
    for start in range(first, last, BLOCK):
        n = min(BLOCK, last - start)
        begin(v0, start, n, v)
        for t in range(out.shape[0]):
            source, target = x[t, start : start + n], out[t, start : start + n]
            factor, bound = leak[t], theta[t]
            for i in range(n):
                m = factor * v[i] + widen(source[i]) if kept else widen(source[i])
                s = m - bound
                sent[i] = zero if s < zero else s
                v[i] = bound if m > bound else m
            if step > zero:
                for i in range(n):
                    ratio = sent[i] / step
                    code = np.rint(ratio) if even else np.floor(ratio + half)
                    code = zero if code < zero else code
                    sent[i] = (top if code > top else code) * step
            for i in range(n):
                target[i] = narrow(sent[i], target)
        if end.shape[0] > 0:
            end[start : start + n] = v[:n]


@compiled
def backward(
    x: Any,
    g_o: Any,
    leak: Any,
    theta: Any,
    v0: Any,
    kept: bool,
    detach: int,
    g_x: Any,
    g_leak: Any,
    g_theta: Any,
    g_start: Any,
    first: int,
    last: int,
) -> None:
    """Write g_x of neurons first .. last; add to g_leak `[T]`, g_theta `[T]`, g_start `[1]`, float64, unless empty."""
    steps, zero = g_o.shape[0], np.float32(0.0)
    before = np.empty((steps, BLOCK), np.float32)  # v(t-1)
    m_of = np.empty((steps, BLOCK), np.float32)  # m(t), then g_m(t)
    v = np.empty(BLOCK, np.float32)
    g_v = np.empty(BLOCK, np.float32)
    to_theta = np.empty(BLOCK, np.float32)
    for start in range(first, last, BLOCK):
        n = min(BLOCK, last - start)
        begin(v0, start, n, v)
        for i in range(n):
            g_v[i] = zero
        for t in range(steps):
            source, earlier, potential = x[t, start : start + n], before[t], m_of[t]
            factor, bound = leak[t], theta[t]
            for i in range(n):
                m = factor * v[i] + widen(source[i]) if kept else widen(source[i])
                earlier[i] = v[i]
                potential[i] = m
                v[i] = bound if m > bound else m
        for t in range(steps - 1, -1, -1):
            potential, grads, target = m_of[t], g_o[t, start : start + n], g_x[t, start : start + n]
            factor, bound = leak[t], theta[t]
            if detach == STATE:
                for i in range(n):
                    g = widen(grads[i])
                    g_m = g if potential[i] - bound > zero else zero
                    to_theta[i] = -g_m
                    potential[i] = g_m
                    g_v[i] = factor * g_m
                    target[i] = narrow(g_m, target)
            else:
                for i in range(n):
                    g, through = widen(grads[i]), g_v[i]
                    fires = potential[i] - bound > zero
                    direct = g if fires else zero
                    clamped = fires & (detach == NOTHING)
                    g_m = direct + (zero if clamped else through)
                    to_theta[i] = (through if clamped else zero) - direct
                    potential[i] = g_m
                    g_v[i] = factor * g_m
                    target[i] = narrow(g_m, target)
            if g_theta.shape[0] > 0:
                g_theta[t] += np.float64(total(to_theta, n))
            if g_leak.shape[0] > 0:
                g_leak[t] += np.float64(dot(potential, before[t], n))
        if g_start.shape[0] > 0:
            g_start[0] += np.float64(total(g_v, n))
