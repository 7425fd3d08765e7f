"""Bytes of packed weights by hand."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from snn2chip.ir.nodes import Input, Output, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.quantize.widths import weight_bytes


def test_stored_values_times_their_bits() -> None:
    """9 binary values, 6 ternary of 2 bits, 3 stored of 8 bits: 9 + 12 + 24 = 45 bits, 6 bytes."""
    some = sparse.csr_matrix(np.array([[0, 5, 0], [-7, 0, 1]]))
    nodes = [
        Input("x", (3,), 0, 1),
        Synapse("a", "linear", np.ones((3, 3), dtype=int), bits=1),
        Soma("n", (3,), theta=2),
        Synapse("b", "linear", np.array([[1, 0, -1], [0, 0, 1]]), bits="ternary"),
        Synapse("c", "linear", some, bits=8),
        Soma("m", (2,), theta=2),
        Output("o", "count"),
    ]
    edges = [("x", "a"), ("a", "n"), ("n", "b"), ("b", "m"), ("n", "c"), ("c", "m"), ("m", "o")]
    assert weight_bytes(Program(nodes=nodes, edges=edges, steps=1)) == 6
