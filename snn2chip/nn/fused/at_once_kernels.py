"""Kernel of the parallel neuron: T compares of one sum per neuron while it is in the cache, each payload written once.

o[t] = unit where S + psi >= k*theta, else 0*unit       k = t+1, or T-t with the spikes last
"""

from __future__ import annotations

from typing import Any

import numpy as np

from snn2chip.nn.fused.compiled import BLOCK, compiled


@compiled
def forward(target: Any, theta: Any, unit: Any, end: bool, out: Any, first: int, last: int) -> None:
    """Write payloads `[T,N]` of S + psi `[N]` for neurons first .. last; theta and unit are `[1]` or `[N]`."""
    steps = out.shape[0]
    for start in range(first, last, BLOCK):
        n = min(BLOCK, last - start)
        reached = target[start : start + n]
        for t in range(steps):
            k, row = np.float32(steps - t if end else t + 1), out[t, start : start + n]
            if theta.shape[0] == 1:
                bound, on, off = k * theta[0], unit[0], np.float32(0.0) * unit[0]
                for i in range(n):
                    row[i] = on if reached[i] >= bound else off
            else:
                for i in range(n):
                    on = unit[start + i]
                    row[i] = on if reached[i] >= k * theta[start + i] else np.float32(0.0) * on
