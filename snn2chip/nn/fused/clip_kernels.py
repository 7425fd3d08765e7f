"""Kernels of QCFS: each value by itself.

    r = (z + theta/2)/theta
    before:  a = theta*floor(clip(r, 1/2, L + 1/2))        after:  a = theta*clip(floor(r), 0, L)
    g_z = (g*theta)*1[inside]/theta,     g_theta = sum g*s - (g*theta)*1[inside]*(r/theta) + g_z/2

theta is a variable of three terms here, as it is in the torch code: the payload, the quotient and the shift.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from snn2chip.nn.fused.compiled import BLOCK, compiled, narrow, total, widen


@compiled
def forward(z: Any, theta: Any, shift: Any, low: Any, high: Any, after: bool, out: Any, first: int, last: int) -> None:
    """Write the payloads of values first .. last; constants are float32, low and high bound what is clipped."""
    if after:
        for i in range(first, last):
            s = np.floor((widen(z[i]) + shift) / theta)
            s = low if s < low else s
            out[i] = narrow(theta * (high if s > high else s), out)
    else:
        for i in range(first, last):
            r = (widen(z[i]) + shift) / theta
            r = low if r < low else r
            out[i] = narrow(theta * np.floor(high if r > high else r), out)


@compiled
def backward(
    z: Any,
    g_o: Any,
    theta: Any,
    shift: Any,
    low: Any,
    high: Any,
    after: bool,
    g_z: Any,
    g_theta: Any,
    first: int,
    last: int,
) -> None:
    """Write g_z of values first .. last and add to g_theta `[1]` float64, or leave the sum out where it is empty."""
    zero, half = np.float32(0.0), np.float32(0.5)
    terms = np.empty(BLOCK, np.float32)
    for start in range(first, last, BLOCK):
        n = min(BLOCK, last - start)
        values, grads, target = z[start : start + n], g_o[start : start + n], g_z[start : start + n]
        for i in range(n):
            r = (widen(values[i]) + shift) / theta
            clipped = np.floor(r) if after else r
            inside = (clipped >= low) & (clipped <= high)
            clipped = low if clipped < low else clipped
            clipped = high if clipped > high else clipped
            g = widen(grads[i])
            g_r = g * theta if inside else zero
            g_m = g_r / theta
            target[i] = narrow(g_m, target)
            terms[i] = g * np.floor(clipped) - g_r * (r / theta) + half * g_m
        if g_theta.shape[0] > 0:
            g_theta[0] += np.float64(total(terms, n))
