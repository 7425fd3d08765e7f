"""Proven bounds by hand, and that the extremes they promise are really reached."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse
from snn2chip_backends.torch.bounds import partial_bound, program_bounds, soma_bounds
from snn2chip_backends.torch.exact import float_type, int_type

from snn2chip.ir.nodes import Input, Output, Product, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import NEVER, V_MAX, PayloadType


def test_types_by_bound() -> None:
    assert float_type((1 << 24) - 1) == float_type(1 << 24) == torch.float32
    assert float_type((1 << 24) + 1) == float_type(1 << 53) == torch.float64
    assert int_type((1 << 31) - 1) == torch.int32
    assert int_type(1 << 31) == torch.int64
    with pytest.raises(AssertionError):
        float_type((1 << 53) + 1)


def test_partial_sums_count_every_tap() -> None:
    weight = np.array([[3, -4, 0], [1, 1, 1]])
    assert partial_bound(Synapse("s", "linear", weight), 5) == 7 * 5
    assert partial_bound(Synapse("s", "linear", sparse.csr_matrix(weight)), 5) == 7 * 5
    assert partial_bound(Synapse("s", "conv2d", weight.reshape(2, 3, 1, 1)), 2) == 14
    assert partial_bound(Synapse("s", "sumpool", [2, -3], kernel_size=(2, 4)), 10) == 3 * 8 * 10
    assert partial_bound(Synapse("s", "identity", -7), 10) == 70
    assert partial_bound(Synapse("s", "identity", 1, exponent=5), 10) == 10, "the exponent costs no bits"


@pytest.mark.parametrize(
    ("fields", "total"),
    [
        ({}, 30),
        ({"v_init": -7}, 37),
        ({"bias": -4}, 42),
        ({"bias": [[1], [-2], [3]]}, 36),
        ({"leak": 2048}, 17),
        ({"leak": 8192}, 70),
        ({"gain": 3, "gain_shift": 1}, 45),
        ({"gain": [[0], [0], [-5]]}, 50),
        ({"v_min": 100}, 120),
        ({"v_min": -100}, 30),
        ({"fire": "levels", "reset": "drop", "theta": 5}, 10),
        ({"fire": "levels", "reset": "value", "theta": 5, "v_reset": -50}, 70),
        ({"fire": "levels", "reset": "subtract-delayed", "theta": -9, "levels": 2}, 66),
        ({"syn_leak": 100}, V_MAX + (1 << 23)),
    ],
)
def test_potential_of_three_steps_by_hand(fields: dict[str, Any], total: int) -> None:
    """|a| <= 10 and T = 3: the largest potential before saturation (after v_init, leak and bias have acted)."""
    soma = Soma("n", 2, **{"fire": "none", **fields})
    assert soma_bounds(soma, 10, 3).total == total


def test_a_window_by_hand() -> None:
    """|a| <= 10: partial sums of the mixture reach 10 * (1 + 2 + 3); behind 2 bits (60 + 2) >> 2 = 15 arrive."""
    window = [[1, -2, 3], [0, 4, 0], [1, 1, 1]]
    bounds = soma_bounds(Soma("n", 2, fire="none", window=window, window_shift=2, bias=1), 10, 3)
    assert (bounds.current, bounds.mixing, bounds.scaled, bounds.driven) == (10, 60, 15, 15)
    assert bounds.total == 3 * (15 + 1)


def test_long_samples_are_followed_until_they_settle() -> None:
    decaying = Soma("n", 1, fire="none", leak=2048)
    assert soma_bounds(decaying, 10, 1 << 20).total == 19
    growing = Soma("n", 1, fire="none")
    assert soma_bounds(growing, 10, 1 << 20).total == V_MAX + 10
    late = Soma("n", 1, fire="none", leak=2048, bias=np.r_[np.zeros(4999, int), 1000][:, None])
    assert soma_bounds(late, 10, 5000).total >= 1000 + 10


def test_spikes_and_what_is_sent() -> None:
    excess = soma_bounds(Soma("n", 1, fire="excess", reset="zero", theta=-20, out_gain=7, out_shift=3), 10, 1)
    assert (excess.total, excess.spike, excess.emitted) == (10, 30, 30 * 7 + 4)
    table = Soma("n", 1, fire="table", reset="drop", table=np.r_[np.zeros(255, int), -9])
    assert soma_bounds(table, 10, 1).spike == 9
    assert soma_bounds(Soma("n", 1, theta=NEVER, levels=3), 10, 1).spike == 3
    delta: dict[str, Any] = {"fire": "delta", "reset": "keep", "theta": 2}
    assert soma_bounds(Soma("n", 1, **delta), 10, 1).spike == 20
    assert soma_bounds(Soma("n", 1, **delta, v_min=15), 10, 1).spike == 30
    assert soma_bounds(Soma("n", 1, **delta, delta_shift=3), 10, 1).spike == 3, "-20 / 8 is floored to -3"


def test_payload_ranges_are_tightened_along_the_data_flow() -> None:
    """A relay of a 2x2 sum of binary payloads sends 0..4, whatever it declares; a loop keeps what is declared."""
    program = Program(
        nodes=[
            Input("in", (1, 4, 4), 0, 1),
            Synapse("pool", "sumpool", kernel_size=2),
            Soma("relay", (1, 2, 2), fire="relay", reset="drop"),
            Product("gate"),
            Soma("loop", (1, 2, 2), fire="relay", reset="drop", out_max=100),
            Synapse("back", "identity"),
        ],
        edges=[
            ("in", "pool"),
            ("pool", "relay"),
            ("relay", "gate"),
            ("loop", "gate", 1),
            ("gate", "loop"),
            ("loop", "back", 1),
            ("back", "loop"),
        ],
        steps=2,
    )
    types, bounds = program_bounds(program)
    assert program["relay"].payload_type() == PayloadType(-V_MAX, V_MAX)  # type: ignore[union-attr]
    assert types["relay"] == PayloadType(0, 4)
    assert types["loop"] == PayloadType(-100, 100)
    assert bounds["loop"].current == 4 * 100 + 100


def test_saturation_is_proven_away_exactly_at_the_limit() -> None:
    """At V_MAX nothing is clipped, one more and sat24 acts: the flag follows the arithmetic, not a guess."""
    from snn2chip.api import run

    for extra, saturates in ((0, False), (1, True)):
        program = Program(
            nodes=[
                Input("in", 1, -V_MAX, V_MAX),
                Synapse("s", "identity"),
                Soma("n", 1, fire="none", bias=extra),
                Output("o"),
            ],
            edges=[("in", "s"), ("s", "n"), ("n", "o")],
            steps=1,
        )
        assert program_bounds(program)[1]["n"].saturates is saturates
        trace = run(program, np.array([[V_MAX], [-V_MAX], [5]]))
        assert trace.outputs.ravel().tolist() == [V_MAX, -V_MAX + extra, 5 + extra]
        assert trace.counts.totals["saturations"] == extra
