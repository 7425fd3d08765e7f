"""What a soma makes of the fields it is given: payload ranges, ladders, stored rows, what it keeps between steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from snn2chip.ir.soma import Soma
from snn2chip.ir.types import NEVER, V_MAX
from snn2chip.ir.validate_soma import soma_breaches


@pytest.mark.parametrize("bits", [1, 2, 22, 23, 24])
def test_the_largest_payload_of_so_many_bits(bits: int) -> None:
    """out_max = 2^payload_bits - 1."""
    assert Soma("s", (2,), payload_bits=bits).out_max.tolist() == [[2**bits - 1]]


@pytest.mark.parametrize("bits", [-3, -1, 0, 25, 64])
def test_bits_that_are_none_are_named_once(bits: int) -> None:
    """The default range stands in, so that the one thing wrong is the one thing said."""
    soma = Soma("s", (2,), theta=5, payload_bits=bits)
    assert soma.out_max.tolist() == [[2**23 - 1]]
    assert list(soma_breaches(soma, 1)) == [f"payload_bits must be 1..24, got {bits}"]


@pytest.mark.parametrize(("top", "low"), [(9, -9), ((1 << 22) + 5, -(1 << 22) - 5), (V_MAX, -V_MAX),
                                          (1 << 23, -(1 << 23)), ((1 << 24) - 1, -(1 << 23))])  # fmt: skip
def test_what_has_signs_sends_as_far_down_as_up(top: int, low: int) -> None:
    """out_min = max(-out_max, -2^23) for rules that send negative payloads, 0 for the others."""
    assert Soma("s", (2,), fire="relay", reset="drop", out_max=top).out_min.tolist() == [[low]]
    assert Soma("s", (2,), theta=1, out_max=top).out_min.tolist() == [[0]]


ROWS = [[1], [2]]


@pytest.mark.parametrize(("fields", "ladder"), [
    ({"theta": ROWS, "levels": 2}, True),
    ({"theta": ROWS, "levels": 1}, False),
    ({"theta": ROWS, "levels": 3}, False),
    ({"theta": ROWS, "levels": [2, 2]}, False),
    ({"theta": [[1]], "levels": 1}, False),
    ({"theta": None, "levels": 1}, False),
    ({"theta": ROWS, "levels": 2, "reset": "clamp"}, False),
    ({"theta": ROWS, "levels": 2, "reset": "zero"}, False),
    ({"theta": ROWS, "levels": 2, "fire": "excess"}, False),
    ({"theta": ROWS, "levels": 2, "fire": "delta"}, False),
    ({"theta": ROWS, "levels": 2, "fire": "relay"}, False),
    ({"theta": ROWS, "levels": 2, "ladder": False}, False),
])  # fmt: skip
def test_rows_of_theta_are_a_ladder_where_there_are_as_many_as_levels(fields: dict[str, Any], ladder: bool) -> None:
    """With fire="levels", reset="drop" and one number of levels; otherwise they are steps in time."""
    assert Soma("s", (2,), **{"reset": "drop", **fields}).ladder is ladder


def test_numbers_rows_and_steps_are_stored_as_steps_by_channels() -> None:
    """A number is [1, 1], a row [1, C], more as given; the first step is what `at` gives unless told otherwise."""
    soma = Soma("s", (3, 2), theta=5, bias=[1, 2, 3], leak=[[1], [2]], v_init=np.arange(6).reshape(1, 3, 2))
    assert soma.theta is not None
    assert (soma.theta.shape, soma.bias.shape, soma.leak.shape) == ((1, 1), (1, 3), (2, 1))
    assert soma.at("leak").tolist() == [[1]]
    assert soma.at("leak", 1).tolist() == [[2]]
    assert soma.at("theta", 1).tolist() == [[5]]
    assert soma.at("bias", 1).tolist() == [[1], [2], [3]]
    assert soma.at("v_init").tolist() == [[0, 1], [2, 3], [4, 5]]
    assert (soma.channels, soma.size) == (3, 6)
    assert Soma("s", ()).channels == 1


RESETS = ("subtract", "zero", "value", "clamp", "drop", "subtract-delayed", "keep")


@pytest.mark.parametrize("reset", RESETS)
def test_what_is_kept_from_one_step_to_the_next(reset: str) -> None:
    """A potential but with reset="drop"; a synaptic current; spikes to take off later; what was sent, for delta."""
    soma = Soma("s", (2,), theta=5, reset=reset)
    assert soma.stateful is (reset != "drop")
    assert Soma("s", (2,), theta=5, reset=reset, syn_leak=4).stateful
    assert soma.delayed is soma.remembers is (reset == "subtract-delayed")
    assert not Soma("s", (2,), fire="none", reset=reset).delayed
    assert Soma("s", (2,), fire="delta", theta=5, reset=reset).remembers


WIDE: dict[str, Any] = {"out_min": -(1 << 23), "out_max": (1 << 24) - 1}


@pytest.mark.parametrize(("fields", "low", "high"), [
    ({"fire": "levels", "theta": 1, "levels": 3, "out_min": -5}, 0, 3),
    ({"fire": "levels", "theta": 1, "levels": 1, "out_shift": 2}, 0, 0),
    ({"fire": "levels", "theta": 1, "levels": 5, "out_shift": 2}, 0, 1),
    ({"fire": "excess", "theta": 1, "reset": "drop", "out_min": -5, "out_max": 7}, 0, 7),
    ({"fire": "excess", "theta": 1, "reset": "drop", "out_shift": 20, **WIDE}, 0, 2 * NEVER >> 20),
    ({"fire": "relay", "reset": "drop", **WIDE}, -V_MAX, V_MAX),
    ({"fire": "delta", "theta": 1, "reset": "keep", **WIDE}, -(1 << 23), 2 * V_MAX),
    ({"fire": "delta", "theta": 1, "reset": "keep", "delta_shift": 3, **WIDE}, -2 * V_MAX >> 3, 2 * V_MAX >> 3),
    ({"fire": "table", "reset": "drop", "table": np.arange(-7, 249), **WIDE}, -7, 248),
    ({"fire": "table", "reset": "drop", "table": None, **WIDE}, -V_MAX, V_MAX),
    ({"fire": "none", **WIDE}, 0, 0),
])  # fmt: skip
def test_what_each_rule_can_send(fields: dict[str, Any], low: int, high: int) -> None:
    """levels 0..L; excess up to V_MAX + 2^23 < 2 * NEVER; a relay its potential; delta the way from end to end."""
    kind = Soma("s", (2,), **fields).payload_type()
    assert (kind.lo, kind.hi) == (low, high)
    if fields["fire"] == "excess" and "out_shift" in fields:
        assert V_MAX + (1 << 23) <= 2 * NEVER
