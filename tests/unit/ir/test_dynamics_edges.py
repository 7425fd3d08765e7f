"""One step of the soma by hand where a shortcut of the definition could be wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from snn2chip.ir.dynamics import soma_start, soma_step, trunc4096, wrap24
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import V_MAX


def step(soma: Soma, arriving: Any) -> tuple[list[int], list[int]]:
    """Payloads and potentials after one step of one sample."""
    state = soma_start(soma, 1)
    payload = soma_step(soma, state, np.array([arriving]), 0)
    return payload[0].tolist(), state.v[0].tolist()


@pytest.mark.parametrize("top", [1, 2, 5])
def test_levels_of_negative_thresholds(top: int) -> None:
    """s = #{k in 1..levels: v >= k*theta}: with theta = -5 a lower potential still reaches the higher multiples."""
    v = list(range(-30, 4))
    expected = [sum(x >= k * -5 for k in range(1, top + 1)) for x in v]
    assert step(Soma("n", len(v), theta=-5, levels=top, reset="drop"), v)[0] == expected
    alone = Soma("n", 1, theta=-5, levels=top, reset="drop")  # nobody else goes on to the next multiple
    assert [step(alone, [x])[0][0] for x in v] == expected


def test_thresholds_of_both_signs() -> None:
    """A neuron that no longer reaches its next multiple does not stop one with a negative threshold."""
    soma = Soma("n", 3, theta=[[4, -5, 0]], levels=3, reset="zero", v_min=None)
    payload, v = step(soma, [3, -12, -1])
    assert payload == [0, 1, 0]
    assert v == [3, 0, -1]


def test_a_ladder_of_as_many_rungs_as_a_channel_has() -> None:
    """#{k <= levels: v >= theta_k} with fewer levels in some channels than the ladder has rows."""
    theta = np.array([[1, 2, 3], [5, 6, 7], [9, 10, 11]])
    soma = Soma("n", 3, theta=theta, levels=[1, 2, 3], reset="drop", ladder=True)
    assert soma.ladder is True
    for value in range(13):
        payload, _ = step(soma, [value] * 3)
        assert payload == [sum(value >= t for t in theta[:top, c]) for c, top in enumerate((1, 2, 3))]


@pytest.mark.parametrize(("reset", "after"), [
    ("subtract", [9, 2, 0]), ("zero", [9, 0, 0]), ("value", [9, -7, -7]), ("clamp", [9, 10, 10]), ("drop", [0, 0, 0]),
    ("subtract-delayed", [9, 12, 30]),
])  # fmt: skip
def test_what_every_reset_leaves(reset: str, after: list[int]) -> None:
    """theta = 10, three levels, potentials 9, 12 and 30, of which 0, 1 and 3 thresholds are fired; v_reset = -7."""
    soma = Soma("n", 3, theta=10, levels=3, reset=reset, v_reset=-7)
    payload, v = step(soma, [9, 12, 30])
    assert payload == [0, 1, 3]
    assert v == after


@pytest.mark.parametrize(("fire", "fields", "sent"), [
    ("levels", {"theta": 4, "levels": 2}, [0, 0, 1, 2]), ("excess", {"theta": 4}, [0, 0, 1, 8]),
    ("relay", {}, [-7, 3, 5, 12]), ("none", {}, [0, 0, 0, 0]),
    ("table", {"table": np.arange(256) * 3, "table_offset": 8, "table_shift": 1}, [0, 15, 18, 30]),
])  # fmt: skip
def test_what_every_rule_sends(fire: str, fields: dict[str, Any], sent: list[int]) -> None:
    """Potentials -7, 3, 5 and 12; a table is read at (v + 8) >> 1."""
    assert step(Soma("n", 4, fire=fire, reset="drop", **fields), [-7, 3, 5, 12])[0] == sent


def test_products_round_toward_zero() -> None:
    """v * factor / 4096 without its fraction, for every sign of both."""
    v = np.array([0, 1, -1, 4095, -4095, 4097, -4097, V_MAX, -V_MAX])
    for factor in (0, 1, -1, 2048, -2048, 4096, -4096, 32767, -32768):
        exact = [int(abs(int(x) * factor) // 4096) * (1 if int(x) * factor >= 0 else -1) for x in v]
        assert trunc4096(v, np.array(factor)).tolist() == exact


def test_24_bits_wrap_around() -> None:
    """2^23 is -2^23, one less than -2^23 is 2^23 - 1."""
    x = np.array([0, V_MAX, V_MAX + 1, -V_MAX - 1, -V_MAX - 2, (1 << 24) + 5, -(1 << 24) - 5])
    assert wrap24(x).tolist() == [0, V_MAX, -V_MAX - 1, -V_MAX - 1, V_MAX, 5, -5]
