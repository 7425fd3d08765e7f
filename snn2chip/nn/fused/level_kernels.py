"""Kernels of the neurons that count equidistant thresholds: IF, LIF, M-HT, LM-HT.

    I(t) = x(t), or sum_j Omega[t,j]*x(j)     m = leak*v + I     o = theta*clip(floor(m/theta), 0, L)
    v = m - o,  or with a hard reset  m*(1 - o/theta)

The backward pass reads the currents again and computes the potentials anew, the same bits as before: less memory is
read than written and read again. Gradient rules: `snn2chip.nn.lif`, `snn2chip.nn.multilevel`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from snn2chip.nn.fused.compiled import BLOCK, begin, compiled, dot, narrow, widen

NOTHING, RESET, STATE = 0, 1, 2  # what is detached


@compiled
def arriving(x: Any, omega: Any, t: int, start: int, n: int, current: Any) -> None:
    """Write the currents of step t of neurons start .. start+n: x(t), or what the window makes of all steps."""
    if omega.shape[0] == 0:
        row = x[t, start : start + n]
        for i in range(n):
            current[i] = widen(row[i])
        return
    weight = omega[t, 0]
    row = x[0, start : start + n]
    for i in range(n):
        current[i] = weight * widen(row[i])
    for j in range(1, x.shape[0]):
        weight = omega[t, j]
        row = x[j, start : start + n]
        for i in range(n):
            current[i] = current[i] + weight * widen(row[i])


@compiled
def forward(
    x: Any,
    omega: Any,
    leak: Any,
    v0: Any,
    theta: Any,
    levels: Any,
    hard: bool,
    out: Any,
    end: Any,
    first: int,
    last: int,
) -> None:
    """Write payloads `[T,N]` of neurons first .. last and, unless empty, potentials `[N]`; constants are float32."""
    zero, one = np.float32(0.0), np.float32(1.0)
    v = np.empty(BLOCK, np.float32)
    current = np.empty(BLOCK, np.float32)
    for start in range(first, last, BLOCK):
        n = min(BLOCK, last - start)
        begin(v0, start, n, v)
        for t in range(out.shape[0]):
            arriving(x, omega, t, start, n, current)
            row = out[t, start : start + n]
            if hard:
                for i in range(n):
                    m = leak * v[i] + current[i]
                    s = np.floor(m / theta)
                    s = zero if s < zero else s
                    s = levels if s > levels else s
                    o = theta * s
                    row[i] = narrow(o, row)
                    v[i] = m * (one - o / theta)
            else:
                for i in range(n):
                    m = leak * v[i] + current[i]
                    s = np.floor(m / theta)
                    s = zero if s < zero else s
                    s = levels if s > levels else s
                    o = theta * s
                    row[i] = narrow(o, row)
                    v[i] = m - o
        if end.shape[0] > 0:
            end[start : start + n] = v[:n]


@compiled
def backward(
    x: Any,
    g_o: Any,
    omega: Any,
    leak: Any,
    v0: Any,
    theta: Any,
    levels: Any,
    low: Any,
    high: Any,
    height: Any,
    gamma: Any,
    square: Any,
    hard: bool,
    detach: int,
    g_x: Any,
    g_omega: Any,
    g_leak: Any,
    first: int,
    last: int,
) -> None:
    """Write g_x `[F,N]` of neurons first .. last and add to g_omega `[T,F]` and g_leak `[1]`, both float64.

    The surrogate is `height` on low <= m <= high, or with gamma > 0 the triangle of half width gamma. Sums are left
    out where g_omega or g_leak is empty.
    """
    steps, frames = g_o.shape[0], x.shape[0]
    zero, one = np.float32(0.0), np.float32(1.0)
    before = np.empty((steps, BLOCK), np.float32)  # v(t-1), then g_m(t)
    m_of = np.empty((steps, BLOCK), np.float32)
    o_of = np.empty((steps, BLOCK), np.float32)
    v = np.empty(BLOCK, np.float32)
    g_v = np.empty(BLOCK, np.float32)
    current = np.empty(BLOCK, np.float32)
    for start in range(first, last, BLOCK):
        n = min(BLOCK, last - start)
        begin(v0, start, n, v)
        for i in range(n):
            g_v[i] = zero
        for t in range(steps):
            arriving(x, omega, t, start, n, current)
            kept, potential, payload = before[t], m_of[t], o_of[t]
            for i in range(n):
                kept[i] = v[i]
                m = leak * v[i] + current[i]
                s = np.floor(m / theta)
                s = zero if s < zero else s
                s = levels if s > levels else s
                o = theta * s
                potential[i] = m
                payload[i] = o
                v[i] = m * (one - o / theta) if hard else m - o
        for t in range(steps - 1, -1, -1):
            potential, payload = m_of[t], o_of[t]
            g_row = g_o[t, start : start + n]
            for i in range(n):
                m = potential[i]
                if gamma > zero:
                    slope = gamma - abs(m - theta)
                    slope = (zero if slope < zero else slope) / square
                else:
                    slope = one if (m >= low) & (m <= high) else zero
                g = widen(g_row[i])
                through = g_v[i]
                if detach == NOTHING:
                    g = g + (-(through * m) / theta if hard else -through)
                if detach != STATE and hard:
                    through = through * (one - payload[i] / theta)
                g_m = g * slope * height
                if detach != STATE:
                    g_m = through + g_m
                potential[i] = g_m
                g_v[i] = leak * g_m
            if g_leak.shape[0] > 0:
                g_leak[0] += np.float64(dot(potential, before[t], n))
        if omega.shape[0] == 0:
            for t in range(steps):
                target, potential = g_x[t, start : start + n], m_of[t]
                for i in range(n):
                    target[i] = narrow(potential[i], target)
            continue
        for j in range(frames):
            row = x[j, start : start + n]
            for i in range(n):
                current[i] = widen(row[i])
                v[i] = omega[0, j] * m_of[0, i]
            for t in range(1, steps):
                weight, potential = omega[t, j], m_of[t]
                for i in range(n):
                    v[i] = v[i] + weight * potential[i]
            if g_omega.shape[0] > 0:
                for t in range(steps):
                    g_omega[t, j] += np.float64(dot(m_of[t], current, n))
            target = g_x[j, start : start + n]
            for i in range(n):
                target[i] = narrow(v[i], target)
