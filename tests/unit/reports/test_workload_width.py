"""Stored bits of a layer's weights."""

from __future__ import annotations

import numpy as np
import pytest

from snn2chip import Input, Output, Program, Soma, Synapse
from snn2chip.reports.workload import _width


@pytest.mark.parametrize(
    ("weight", "bits", "sign", "width"),
    [
        ([[1, -1]], 1, "mixed", 2),
        ([[1, 0]], 1, "excitatory", 1),
        ([[1, 0]], "ternary", "mixed", 2),
        ([[7, -3]], 4, "mixed", 4),
    ],
)
def test_bits_of_one_weight(weight: list[list[int]], bits: int | str, sign: str, width: int) -> None:
    synapse = Synapse("w", "linear", np.asarray(weight), bits, sign=sign)
    nodes = [Input("x", 2), synapse, Soma("r", 1, fire="none"), Output("o")]
    Program(nodes=nodes, edges=[("x", "w"), ("w", "r"), ("r", "o")], steps=1)  # all four are legal programs
    assert _width(synapse) == width
