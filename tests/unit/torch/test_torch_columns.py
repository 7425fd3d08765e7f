"""Weights for products by events: the smallest type that holds them, or none."""

from __future__ import annotations

import numpy as np
import pytest
from snn2chip_backends.torch.linear import Columns, library_cost

from snn2chip.ir.nodes import Synapse
from snn2chip.ir.types import PayloadType


@pytest.mark.parametrize(("reach", "kind"), [(127, np.int8), (128, np.int16), (32767, np.int16), (32768, None)])
def test_weights_take_the_least_bytes_that_hold_them(reach: int, kind: type | None) -> None:
    """|w| < 2^7: int8, < 2^15: int16, else none; one row per source neuron."""
    weight = np.array([[1, -reach, 0], [0, 2, 3]])
    found = Columns.of(Synapse("s", "linear", weight, bits=17), PayloadType(0, 1), (3,))
    if kind is None:
        assert found is None
    else:
        assert found is not None
        assert found.weights.dtype == kind
        assert (found.weights == weight.T).all()
        assert found.binary


HELD = [(0, 1, True), (23, 63, True), (23, 64, False), (28, 1, True), (29, 1, False)]


@pytest.mark.parametrize(("exponent", "top", "held"), HELD)
def test_sums_beyond_32_bits_are_left_to_wider_ones(exponent: int, top: int, held: bool) -> None:
    """sum |w| * payload * 2^exponent < 2^31: 3 + 1 = 4 here."""
    synapse = Synapse("s", "linear", np.array([[3, -1]]), exponent=exponent)
    found = Columns.of(synapse, PayloadType(0, top), (2,))
    assert (found is not None) is (4 * top << exponent < 1 << 31)
    assert (found is not None) is held


def test_more_work_costs_more() -> None:
    """Rows, digits and events each add to what a product is held to cost."""
    columns = Columns.of(Synapse("s", "linear", np.ones((64, 32), dtype=int)), PayloadType(0, 1), (32,))
    assert columns is not None
    assert columns.cost(4, 10) < columns.cost(4, 20) < columns.cost(40, 20)
    assert library_cost(columns, 4, 1) < library_cost(columns, 400, 1) < library_cost(columns, 400, 2)
    assert library_cost(columns, 4, 0) < library_cost(columns, 4000, 0)
