"""The soma's parameters: stored forms, legal combinations, every breach with its name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from snn2chip.errors import ProgramError
from snn2chip.ir.nodes import Input, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import FIRES, LEGAL_RESETS, RESETS, Soma
from snn2chip.ir.types import NEVER, V_MAX
from snn2chip.ir.validate_soma import soma_breaches

MINIMAL: dict[str, dict[str, Any]] = {
    "levels": {"theta": 3},
    "excess": {"theta": 3},
    "relay": {},
    "table": {"table": np.zeros(256)},
    "none": {},
    "delta": {"theta": 3},
}


def breaches(steps: int = 4, shape: tuple[int, ...] = (2, 3), **fields: Any) -> list[str]:
    return list(soma_breaches(Soma("s", shape, **fields), steps))


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("fire", FIRES)
def test_legal_combinations(fire: str, reset: str) -> None:
    """levels: all but keep; excess: clamp, zero, drop; relay, table: drop; delta: keep; none ignores it."""
    found = breaches(fire=fire, reset=reset, **MINIMAL[fire])
    if reset in LEGAL_RESETS[fire]:
        assert found == []
    else:
        assert len(found) == 1
        assert f"fire={fire!r} goes with reset" in found[0]


def test_the_table_of_legal_resets_is_the_contract() -> None:
    assert LEGAL_RESETS["excess"] == ("clamp", "zero", "drop")
    assert LEGAL_RESETS["relay"] == LEGAL_RESETS["table"] == ("drop",)
    assert LEGAL_RESETS["delta"] == ("keep",)
    assert {*LEGAL_RESETS["levels"], "keep"} == set(RESETS) == set(LEGAL_RESETS["none"])
    assert "keep" not in LEGAL_RESETS["levels"]


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (5, [[5]]),
        ([5, 6], [[5, 6]]),
        ([[5], [6], [7], [8]], [[5], [6], [7], [8]]),
        ([[1, 2], [3, 4], [5, 6], [7, 8]], [[1, 2], [3, 4], [5, 6], [7, 8]]),
        (np.float64(4.0), [[4]]),
        (np.arange(1, 7).reshape(1, 2, 3), [[[1, 2, 3], [4, 5, 6]]]),
    ],
)
def test_stored_form(given: Any, stored: list[Any]) -> None:
    """A scalar, a 1-D array (always per channel), or the stored form itself."""
    soma = Soma("s", (2, 3), theta=given)
    assert soma.theta is not None
    assert soma.theta.tolist() == stored
    assert soma.theta.dtype == np.int64
    assert not soma.theta.flags.writeable
    assert list(soma_breaches(soma, 4)) == []


def test_value_of_each_neuron_and_step() -> None:
    soma = Soma("s", (2, 3), theta=[[1, 2], [3, 4]], bias=np.arange(6).reshape(1, 2, 3), leak=[[5], [6]])
    assert np.broadcast_to(soma.at("theta", 1), (2, 3)).tolist() == [[3, 3, 3], [4, 4, 4]]
    assert soma.at("bias", 1).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert int(soma.at("leak", 1).ravel()[0]) == 6


def test_defaults() -> None:
    soma = Soma("s", (2,), theta=1)
    plain = {"v_init": 0, "leak": 4096, "gain": 1, "gain_shift": 0, "bias": 0, "levels": 1, "out_gain": 1}
    assert {f: getattr(soma, f).item() for f in plain} == plain
    assert (soma.fire, soma.reset) == ("levels", "subtract")
    assert (soma.out_min.item(), soma.out_max.item(), soma.out_shift.item()) == (0, V_MAX, 0)
    assert soma.syn_leak is soma.v_min is soma.window is soma.table is None
    assert Soma("r", (1,), fire="relay", reset="drop", payload_bits=5).out_min.item() == -31
    assert Soma("r", (1,), theta=1, payload_bits=5).out_max.item() == 31


def test_when_a_ladder_is_read_as_one() -> None:
    two = [[1], [2]]
    assert Soma("s", (1,), theta=two, levels=2, reset="drop").ladder
    assert not Soma("s", (1,), theta=two, levels=2, reset="drop", ladder=False).ladder
    assert not Soma("s", (1,), theta=two, levels=2, reset="zero").ladder
    assert not Soma("s", (1,), theta=two, levels=1, reset="drop").ladder
    assert not Soma("s", (1,), theta=[[1]], levels=1, reset="drop").ladder
    assert Soma("s", (1,), theta=[[1]], levels=1, reset="drop", ladder=True).ladder


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"theta": 0}, "theta must be >= 1 with reset='subtract', got 0"),
        ({"theta": -3, "reset": "clamp"}, "theta must be >= 1 with reset='clamp', got -3"),
        ({"theta": NEVER + 1, "reset": "zero"}, f"theta = {NEVER + 1} is outside"),
        ({"theta": -NEVER - 1, "reset": "zero"}, f"theta = {-NEVER - 1} is outside"),
        ({"theta": None}, "fire='levels' needs theta"),
        ({"theta": None, "fire": "excess", "reset": "drop"}, "fire='excess' needs theta"),
        ({"theta": 1 << 22, "levels": 2}, f"levels * theta = {1 << 23} is beyond the largest potential {V_MAX}"),
        ({"theta": [1, V_MAX], "levels": [9, 2]}, f"levels * theta = {2 * V_MAX} is beyond"),
        ({"theta": 3, "levels": 0}, "levels = 0 is outside"),
        ({"theta": 3, "leak": 32768}, "leak = 32768 is outside -32768..32767"),
        ({"theta": 3, "gain": -32769}, "gain = -32769 is outside"),
        ({"theta": 3, "gain_shift": 16}, "gain_shift = 16 is outside 0..15"),
        ({"theta": 3, "bias": 1 << 23}, f"bias = {1 << 23} is outside"),
        ({"theta": 3, "syn_leak": 4097}, "syn_leak = 4097 is outside 0..4096"),
        ({"theta": 3, "syn_leak": -1}, "syn_leak = -1 is outside 0..4096"),
        ({"theta": 3, "v_min": -NEVER}, f"v_min = {-NEVER} is outside"),
        ({"theta": 3, "v_init": NEVER}, f"v_init = {NEVER} is outside"),
        ({"theta": 3, "out_gain": 0}, "out_gain = 0 is outside 1..65535"),
        ({"theta": 3, "out_gain": 65536}, "out_gain = 65536 is outside"),
        ({"theta": 3, "out_shift": 31}, "out_shift = 31 is outside 0..30"),
        ({"theta": 3, "out_min": 1}, "out_min = 1 is outside"),
        ({"theta": 3, "out_max": 1 << 24}, f"out_max = {1 << 24} is outside"),
        ({"theta": 3, "payload_bits": 25}, "payload_bits must be 1..24, got 25"),
        ({"theta": 3, "reset": "drop", "v_init": 1}, "reset='drop' needs v_init = 0"),
        ({"theta": 3, "reset": "drop", "v_min": 1}, "reset='drop' has no state, so v_min must be <= 0"),
        ({"theta": [[3], [2]], "levels": 2, "reset": "drop"}, "a ladder must not decrease"),
        ({"theta": [[1], [2]], "levels": 2, "ladder": True}, "a ladder of thresholds goes with fire='levels'"),
        ({"theta": [[1], [2], [3]], "levels": 2, "reset": "drop", "ladder": True}, "theta has shape (3, 1)"),
        ({"fire": "table", "reset": "drop"}, "fire='table' and a table of 256 entries belong together"),
        ({"theta": 3, "table": np.zeros(256)}, "fire='table' and a table of 256 entries belong together"),
        ({"fire": "table", "reset": "drop", "table": np.zeros(255)}, "table must have 256 entries, got shape (255,)"),
        ({"fire": "table", "reset": "drop", "table": np.full(256, NEVER)}, "table entries must fit"),
        (
            {"fire": "table", "reset": "drop", "table": np.zeros(256), "table_shift": 24},
            "table_shift must be 0..23",
        ),
        ({"theta": 3, "window": np.ones((3, 3))}, "window must be [T, T] with T=4, got shape (3, 3)"),
        ({"theta": 3, "window": np.full((4, 4), 1 << 15)}, "window entries must be signed 16 bit"),
        ({"theta": 3, "window": np.ones((4, 4)), "window_shift": 31}, "window_shift must be 0..30, got 31"),
        ({"theta": [[3]] * 3}, "theta has shape (3, 1); expected [T or 1, C or 1] with T=4, C=2"),
        ({"theta": [1, 2, 3]}, "theta has shape (1, 3)"),
        (
            {"theta": 3, "v_init": [[1], [2], [3], [4]]},
            "v_init has shape (4, 1); expected [1, C or 1] (never per step)",
        ),
        ({"theta": 3, "levels": [[1], [2], [3], [4]]}, "levels has shape (4, 1)"),
        ({"theta": 3, "out_max": [[1], [2], [3], [4]]}, "out_max has shape (4, 1)"),
        ({"theta": 3, "bias": np.zeros((1, 3, 2))}, "bias has shape (1, 3, 2)"),
        ({"theta": 3, "fire": "always"}, "fire must be one of"),
        ({"theta": 3, "reset": "hard"}, "reset must be one of"),
        ({"theta": 3, "bias": None, "gain": None}, "gain, bias must have a value"),
    ],
)
def test_every_breach_is_named(fields: dict[str, Any], told: str) -> None:
    found = breaches(**fields)
    assert any(told in text for text in found), found


@pytest.mark.parametrize(
    "fields",
    [
        {"theta": V_MAX},
        {"theta": NEVER},
        {"theta": [3, NEVER], "levels": 5},
        {"theta": -V_MAX - 1, "reset": "zero"},
        {"theta": 0, "reset": "subtract-delayed"},
        {"theta": (1 << 22) - 1, "levels": 2},
        {"theta": [V_MAX, 1], "levels": [1, V_MAX]},
        {"theta": 3, "leak": -32768, "gain": 32767, "gain_shift": 15},
        {"theta": 3, "bias": -V_MAX - 1, "v_min": -V_MAX, "v_init": V_MAX},
        {"theta": 3, "syn_leak": 0, "out_gain": 65535, "out_shift": 30, "out_max": (1 << 24) - 1},
        {"theta": [[-5], [0], [0], [9]], "levels": 4, "reset": "drop"},
        {"theta": np.arange(24).reshape(4, 2, 3), "reset": "zero"},
        {"theta": 3, "window": np.full((4, 4), -32767), "window_shift": 30},
        {"fire": "none", "reset": "drop"},
        {"fire": "none", "v_init": 5, "reset": "subtract-delayed"},
    ],
)
def test_the_ends_of_the_ranges_are_legal(fields: dict[str, Any]) -> None:
    assert breaches(**fields) == []


def test_all_breaches_at_once_with_the_users_own_layer() -> None:
    nodes = [
        Input("in", (2,)),
        Synapse("w", "linear", np.ones((2, 2))),
        Soma("bad", (2,), theta=0, leak=99999, v_min=NEVER, layer="features.3"),
    ]
    with pytest.raises(ProgramError) as raised:
        Program(nodes=nodes, edges=[("in", "w"), ("w", "bad")], steps=1)
    assert len(raised.value.breaches) == 3
    assert all(text.startswith("bad (features.3): ") for text in raised.value.breaches)
    assert "3 problems in the program" in str(raised.value)


@pytest.mark.parametrize("value", [2.5, "5", None, [1, [2, 3]], np.inf, np.nan, 1e30, object()])
def test_only_whole_numbers(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        Soma("s", (2,), theta=3, bias=value if value is not None else [None])


@pytest.mark.parametrize(
    ("fields", "lo", "hi"),
    [
        ({"theta": 3, "levels": 4}, 0, 4),
        ({"theta": 3, "levels": 4, "out_max": 2}, 0, 2),
        ({"theta": 3, "levels": [2, 6], "out_gain": 5, "out_shift": 1}, 0, 15),
        ({"theta": 3, "fire": "excess", "reset": "drop", "out_max": 15}, 0, 15),
        ({"fire": "relay", "reset": "drop", "out_max": 7}, -7, 7),
        ({"fire": "relay", "reset": "drop", "out_max": 7, "out_min": -2}, -2, 7),
        ({"fire": "table", "reset": "drop", "table": [-3] * 128 + [9] * 128}, -3, 9),
        ({"fire": "table", "reset": "drop", "table": [3] * 256, "out_max": 100}, 0, 3),
        ({"fire": "none"}, 0, 0),
    ],
)
def test_declared_payload_range(fields: dict[str, Any], lo: int, hi: int) -> None:
    """Tightened where the rule proves more; 0 is always inside."""
    kind = Soma("s", (2,), **fields).payload_type()
    assert (kind.lo, kind.hi) == (lo, hi)


@pytest.mark.parametrize(
    ("fields", "stateful"),
    [
        ({"theta": 1}, True),
        ({"theta": 1, "reset": "drop"}, False),
        ({"theta": 1, "reset": "drop", "syn_leak": 0}, True),
        ({"fire": "relay", "reset": "drop"}, False),
    ],
)
def test_stateful(fields: dict[str, Any], stateful: bool) -> None:
    assert Soma("s", (1,), **fields).stateful is stateful
