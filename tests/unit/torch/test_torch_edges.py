"""Bounds and refusals of the exact engine at their edges."""

from __future__ import annotations

import numpy as np
import pytest
from snn2chip_backends.torch import TorchBackend
from snn2chip_backends.torch.bounds import soma_bounds

from snn2chip.ir.nodes import Input, Output, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma


@pytest.mark.parametrize(("shift", "arriving"), [(0, 30), (1, 15), (2, 8), (3, 4), (6, 0), (5, 1)])
def test_a_windows_sum_is_rounded_half_up(shift: int, arriving: int) -> None:
    """|a| <= 10 through rows of sums 3: (30 + 2^(shift-1)) >> shift arrives, T of them at leak 1."""
    soma = Soma("n", 2, fire="none", window=np.array([[3, 0], [-1, 2]]), window_shift=shift)
    bounds = soma_bounds(soma, 10, 2)
    assert bounds.mixing == 30
    assert bounds.driven == arriving
    assert bounds.total == 2 * arriving


def wide(weight: int, *, window: bool) -> Program:
    """Payloads up to 2^18 times an identity's weight into a non-firing soma."""
    soma = Soma("n", 2, fire="none", gain_shift=15, window=np.eye(1, dtype=int) if window else None)
    nodes = [Input("x", (2,), 0, 1 << 18), Synapse("w", "identity", weight), soma, Output("o", "potential")]
    return Program(nodes=nodes, edges=[("x", "w"), ("w", "n"), ("n", "o")], steps=1)


def test_only_what_is_summed_in_floats_is_held_to_their_exact_range() -> None:
    """An identity's current is summed in integers: 2^18 * 65 is beyond float32's 2^24, and no breach; mixed it is."""
    backend = TorchBackend(widest="float32")
    assert backend.limits(wide(65, window=False)) == []
    assert backend.limits(wide(64, window=True)) == []
    (told,) = backend.limits(wide(65, window=True))
    assert "sums of its window may reach" in told
