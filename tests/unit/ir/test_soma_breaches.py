"""Every rule of the soma's parameters at its exact edge: what stands, and the one sentence for what does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from snn2chip.ir.soma import Soma
from snn2chip.ir.types import NEVER, V_MAX
from snn2chip.ir.validate_soma import soma_breaches

DROP: dict[str, Any] = {"reset": "drop"}
DELTA: dict[str, Any] = {"fire": "delta", "reset": "keep"}
TABLE: dict[str, Any] = {"fire": "table", "reset": "drop", "table": np.zeros(256, int)}
EXCESS: dict[str, Any] = {"fire": "excess", "reset": "drop", "theta": 5}


def breaches(shape: tuple[int, ...] = (2,), **fields: Any) -> list[str]:
    """What is wrong with a soma of two channels and three steps."""
    return list(soma_breaches(Soma("s", shape, **({"theta": 5} | fields)), 3))


@pytest.mark.parametrize("fields", [
    {}, DELTA, {**DELTA, "theta": 1},
    {**DELTA, "theta": V_MAX}, {**DELTA, "delta_shift": 23}, {**DELTA, "theta": [1, 9]},
    TABLE, {**TABLE, "table_shift": 23, "table_offset": -V_MAX}, EXCESS, {**EXCESS, "theta": -(1 << 23)},
    {"theta": [NEVER, V_MAX // 4], "levels": 4}, {"theta": [[5], [6], [7]], "leak": [[1], [2], [3]], "bias": [1, 2]},
    {"theta": np.array([[1, 2], [3, 4]]), "levels": 2, **DROP}, {"theta": [[1], [1]], "levels": 2, **DROP},
    {"window": np.full((3, 3), 32767), "window_shift": 30}, {"window": np.full((3, 3), -32767), "window_shift": 0},
    {"payload_bits": 1}, {"payload_bits": 24}, {"reset": "zero", "theta": 0}, {"reset": "zero", "theta": -4},
    {"v_min": 0, **DROP}, {"v_min": -3, **DROP}, {"v_init": 7, "v_min": 3},
    {"fire": "none", "v_init": 7, "v_min": 3, **DROP}, {**EXCESS, "theta": V_MAX, "levels": 3},
    {"v_init": np.ones((1, 2), int)}, {"fire": "none", "theta": None, "levels": V_MAX},
])  # fmt: skip
def test_what_stands(fields: dict[str, Any]) -> None:
    """Parameters at the ends of what is legal."""
    assert breaches(**fields) == []


SHAPES = "expected [T or 1, C or 1] with T=3, C=2, or per neuron [.., 2]"
ONCE = "expected [1, C or 1] (never per step) with T=3, C=2, or per neuron [.., 2]"
BEYOND = f"is beyond the largest potential {V_MAX}"
TABLES = f"table_shift must be 0..23 and |table_offset| <= {V_MAX}"


@pytest.mark.parametrize(("fields", "said"), [
    ({**DELTA, "theta": 0}, f"theta must be 1..{V_MAX} with fire='delta', got 0..0"),
    ({**DELTA, "theta": [-1, 9]}, f"theta must be 1..{V_MAX} with fire='delta', got -1..9"),
    ({**DELTA, "theta": [9, NEVER]}, f"theta must be 1..{V_MAX} with fire='delta', got 9..{NEVER}"),
    ({**DELTA, "delta_shift": 24}, "delta_shift must be 0..23 with fire='delta' and 0 without, got 24"),
    ({**DELTA, "delta_shift": -1}, "delta_shift must be 0..23 with fire='delta' and 0 without, got -1"),
    ({"delta_shift": 1}, "delta_shift must be 0..23 with fire='delta' and 0 without, got 1"),
    ({**EXCESS, "delta_shift": 1}, "delta_shift must be 0..23 with fire='delta' and 0 without, got 1"),
    ({**DELTA, "theta": None}, "fire='delta' needs theta"),
    ({"theta": None}, "fire='levels' needs theta"),
    ({"theta": 0}, "theta must be >= 1 with reset='subtract', got 0"),
    ({"theta": 0, "reset": "clamp"}, "theta must be >= 1 with reset='clamp', got 0"),
    ({"theta": [[1], [2]], "levels": 2, "ladder": True, "reset": "zero"},
     "a ladder of thresholds goes with fire='levels' and reset='drop'"),
    ({**EXCESS, "theta": [[1], [2]], "levels": 2, "ladder": True},
     "a ladder of thresholds goes with fire='levels' and reset='drop'"),
    ({**DELTA, "theta": [[1], [2]], "levels": 2, "ladder": True},
     "a ladder of thresholds goes with fire='levels' and reset='drop'"),
    ({"theta": [[1], [2]], "levels": 2, "ladder": True, "reset": "clamp"},
     "a ladder of thresholds goes with fire='levels' and reset='drop'"),
    ({"theta": [[2], [1]], "levels": 2, **DROP}, "a ladder must not decrease from one level to the next"),
    ({"theta": V_MAX, "levels": 2}, f"levels * theta = {2 * V_MAX} {BEYOND}"),
    ({"theta": [3, V_MAX // 2 + 1], "levels": [9, 2]}, f"levels * theta = {2 * (V_MAX // 2 + 1)} {BEYOND}"),
    ({"fire": "table", **DROP}, "fire='table' and a table of 256 entries belong together"),
    ({"table": np.zeros(256, int)}, "fire='table' and a table of 256 entries belong together"),
    ({**TABLE, "fire": "none"}, "fire='table' and a table of 256 entries belong together"),
    ({**TABLE, "table": np.zeros(255, int)}, "table must have 256 entries, got shape (255,)"),
    ({**TABLE, "table": np.zeros(257, int)}, "table must have 256 entries, got shape (257,)"),
    ({**TABLE, "table": np.zeros((256, 1), int)}, "table must have 256 entries, got shape (256, 1)"),
    ({**TABLE, "table": np.full(256, -V_MAX - 1)}, f"table entries must fit ±{V_MAX}"),
    ({**TABLE, "table_shift": 24}, TABLES), ({**TABLE, "table_shift": -1}, TABLES),
    ({**TABLE, "table_offset": V_MAX + 1}, TABLES), ({**TABLE, "table_offset": -V_MAX - 1}, TABLES),
    ({"window": np.zeros((3, 4), int)}, "window must be [T, T] with T=3, got shape (3, 4)"),
    ({"window": np.zeros((2, 2), int)}, "window must be [T, T] with T=3, got shape (2, 2)"),
    ({"window": np.full((3, 3), 1 << 15)}, "window entries must be signed 16 bit"),
    ({"window": np.full((3, 3), -(1 << 15))}, "window entries must be signed 16 bit"),
    ({"window_shift": 31}, "window_shift must be 0..30, got 31"),
    ({"window_shift": -1}, "window_shift must be 0..30, got -1"),
    ({"v_init": -7, **DROP}, "reset='drop' needs v_init = 0; put the shift into bias, every step"),
    ({"v_init": [0, 7], **DROP}, "reset='drop' needs v_init = 0; put the shift into bias, every step"),
    ({**EXCESS, "v_init": 7}, "reset='drop' needs v_init = 0; put the shift into bias, every step"),
    ({**TABLE, "v_init": 7}, "reset='drop' needs v_init = 0; put the shift into bias, every step"),
    ({"v_min": [0, 1], **DROP}, "reset='drop' has no state, so v_min must be <= 0"),
    ({"theta": [[1], [2]]}, f"theta has shape (2, 1); {SHAPES}"),
    ({"leak": [1, 2, 3]}, f"leak has shape (1, 3); {SHAPES}"),
    ({"v_min": np.zeros((4, 2), int)}, f"v_min has shape (4, 2); {SHAPES}"),
    ({"v_init": np.zeros((3, 2), int)}, f"v_init has shape (3, 2); {ONCE}"),
    ({"levels": [1, 1, 1]}, f"levels has shape (1, 3); {ONCE}"),
    ({"out_max": np.full((3, 1), 5)}, f"out_max has shape (3, 1); {ONCE}"),
    ({"theta": np.ones((3, 2), int), "levels": 2, "ladder": True, **DROP},
     "theta has shape (3, 2); expected [levels, C or 1] with T=3, C=2, or per neuron [.., 2]"),
    ({"leak": [1, -32769]}, "leak = -32769 is outside -32768..32767"),
    ({"leak": [32768, 1]}, "leak = 32768 is outside -32768..32767"),
    ({"leak": [-32768, 32768]}, "leak = 32768 is outside -32768..32767"),
    ({"leak": [-32769, 32768]}, "leak = -32769 is outside -32768..32767"),
    ({"bias": []}, f"bias has shape (1, 0); {SHAPES}"), ({"theta": []}, f"theta has shape (1, 0); {SHAPES}"),
    ({"levels": []}, f"levels has shape (1, 0); {ONCE}"),
    ({"fire": "bang"}, "fire must be one of levels, excess, relay, table, none, delta, got 'bang'"),
    ({"leak": None}, "leak must have a value"),
    ({"leak": None, "out_shift": None}, "leak, out_shift must have a value"),
])  # fmt: skip
def test_what_does_not_stand_is_said_once(fields: dict[str, Any], said: str) -> None:
    """One sentence, with what was expected and what was found."""
    assert breaches(**fields) == [said]


def test_everything_wrong_is_said_at_once() -> None:
    """Fields that need no value are passed over, not the rest behind them."""
    found = breaches(theta=None, leak=[1, 2, 3], out_shift=31, window_shift=31, v_min=None, payload_bits=0)
    assert len(found) == 5
    for field in ("leak", "out_shift", "window_shift", "payload_bits", "needs theta"):
        assert any(field in text for text in found)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (3, -1), (2**16, 2**16)])
def test_shapes_that_are_none(shape: tuple[int, ...]) -> None:
    """At least one axis, every size positive, fewer neurons than 2^31."""
    assert breaches(shape) == [f"shape must have at least one axis and only positive sizes, got {shape}"]


def test_parameters_per_neuron() -> None:
    """[1, *shape] and, where steps are allowed, [T, *shape]."""
    assert breaches((2, 3), theta=np.ones((3, 2, 3), int), v_init=np.ones((1, 2, 3), int)) == []
    assert len(breaches((2, 3), theta=np.ones((3, 3, 2), int))) == 1
    assert len(breaches((2, 3), v_init=np.ones((3, 2, 3), int))) == 1
