"""The soma's registers at their exact ends: the last legal value stands, the next one is named."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

from snn2chip.ir.soma import RANGES, Soma
from snn2chip.ir.types import NEVER, V_MAX
from snn2chip.ir.validate_soma import MAX_NEURONS, soma_breaches

CONTRACT = {
    "v_init": (-V_MAX, V_MAX),
    "leak": (-32768, 32767),
    "gain": (-32768, 32767),
    "gain_shift": (0, 15),
    "bias": (-(2**23), V_MAX),
    "theta": (-(2**23), NEVER),
    "levels": (1, V_MAX),
    "syn_leak": (0, 4096),
    "v_min": (-V_MAX, V_MAX),
    "v_reset": (-V_MAX, V_MAX),
    "out_gain": (1, 65535),
    "out_shift": (0, 30),
    "out_min": (-(2**23), 0),
    "out_max": (0, 2**24 - 1),
}


def test_the_ranges_are_the_contracts() -> None:
    """Signed 16 bits for leak and gain, 24 for potentials and biases, and so on, as the integer machine says."""
    assert RANGES == CONTRACT
    assert V_MAX == 2**23 - 1


def named(field: str, value: int, **more: Any) -> bool:
    """Whether a soma with `field = value` is refused for that field."""
    fields = {"theta": 1, "fire": "levels", "reset": "clamp", "v_reset": 0} | {field: value} | more
    return any(field in text for text in soma_breaches(Soma("s", (2,), **fields), 1))


@pytest.mark.parametrize("field", sorted(CONTRACT))
def test_the_ends_stand_and_what_is_beyond_is_named(field: str) -> None:
    """low and high are legal; low - 1 and high + 1 are not."""
    low, high = CONTRACT[field]
    more: dict[str, Any] = {"theta": None, "fire": "none", "reset": "drop"} if field == "levels" else {}
    if field == "theta":
        more = {"levels": 1}
    assert not named(field, low, **more) or field in ("theta", "out_min")
    assert not named(field, high, **more)
    assert named(field, low - 1, **more)
    assert named(field, high + 1, **more)


@pytest.mark.parametrize(("levels", "theta", "legal"), [(3, V_MAX // 3, True), (3, V_MAX // 3 + 1, False)])
def test_the_highest_level_is_within_the_potential(levels: int, theta: int, legal: bool) -> None:
    """levels * theta <= 2^23 - 1."""
    found = list(soma_breaches(Soma("s", (2,), theta=theta, levels=levels), 1))
    assert (found == []) is legal
    assert legal or f"{levels * theta}" in found[0]


def test_a_threshold_that_is_never_reached_has_no_highest_level() -> None:
    """theta = NEVER is left out of the product."""
    assert list(soma_breaches(Soma("s", (2,), theta=[NEVER, 5], levels=4), 1)) == []


@pytest.mark.parametrize(("shift", "offset", "legal"), [
    (0, 0, True), (23, V_MAX, True), (-1, 0, False), (24, 0, False), (3, V_MAX + 1, False), (3, -V_MAX - 1, False),
])  # fmt: skip
def test_a_table_is_read_within_the_potentials_bits(shift: int, offset: int, legal: bool) -> None:
    """0 <= table_shift <= 23 and |table_offset| <= 2^23 - 1."""
    soma = Soma("s", (2,), fire="table", reset="drop", table=np.zeros(256), table_shift=shift, table_offset=offset)
    found = list(soma_breaches(soma, 1))
    assert (found == []) is legal
    assert legal or "table_shift" in found[0]


@pytest.mark.parametrize("entry", [V_MAX, -V_MAX, V_MAX + 1, -V_MAX - 1])
def test_table_entries_are_potentials(entry: int) -> None:
    """|entry| <= 2^23 - 1."""
    table = np.zeros(256)
    table[7] = entry
    found = list(soma_breaches(Soma("s", (2,), fire="table", reset="drop", table=table), 1))
    assert (found == []) is (abs(entry) <= V_MAX)


def test_a_population_has_fewer_neurons_than_an_index_can_count() -> None:
    """2^31 neurons are the most; one row more is named before anything is allocated."""
    assert MAX_NEURONS == 2**31
    most = list(soma_breaches(Soma("s", (2, 2**30), theta=1), 1))
    more = list(soma_breaches(Soma("s", (2, 2**30 + 1), theta=1), 1))
    assert len(more) == len(most) + 1


def test_a_spike_of_nothing_is_a_legal_payload() -> None:
    """out_max = 0 sends zeros, and the payload type says so."""
    soma = Soma("s", (2,), theta=3, out_max=0)
    assert list(soma_breaches(soma, 1)) == []
    kind = soma.payload_type()
    assert (kind.lo, kind.hi) == (0, 0)


@pytest.mark.parametrize(("fields", "low", "high"), [
    ({"fire": "excess", "reset": "drop", "theta": 1, "out_gain": 3, "out_max": 100}, 0, 100),
    ({"fire": "levels", "theta": 1, "levels": 3, "out_gain": 5, "out_shift": 1}, 0, 8),
    ({"fire": "levels", "theta": 1, "levels": 3, "out_gain": 4, "out_shift": 3}, 0, 2),
    ({"fire": "relay", "reset": "drop", "out_min": -4, "out_max": 9}, -4, 9),
    ({"fire": "none"}, 0, 0),
])  # fmt: skip
def test_the_payload_type_is_what_the_rule_can_send(fields: dict[str, Any], low: int, high: int) -> None:
    """(s * out_gain + 2^(out_shift-1)) >> out_shift over the spikes s the rule allows, within the declared range."""
    kind = Soma("s", (2,), **fields).payload_type()
    assert (kind.lo, kind.hi) == (low, high)


DEFAULTS: dict[str, Any] = {
    "v_init": 0, "leak": 4096, "gain": 1, "gain_shift": 0, "bias": 0, "theta": None, "levels": 1, "syn_leak": None,
    "v_min": None, "fire": "levels", "reset": "subtract", "v_reset": 0, "table": None, "table_offset": 0,
    "table_shift": 0, "out_gain": 1, "out_shift": 0, "payload_bits": 23, "window": None, "window_shift": 0,
    "delta_shift": 0, "layer": "", "ladder": False, "out_min": 0, "out_max": V_MAX,
}  # fmt: skip


def test_everything_but_name_and_shape_is_given_by_name() -> None:
    """A rule in the third place would be read as an initial potential by whoever counts on."""
    given = inspect.signature(Soma).parameters
    by_place = [name for name, p in given.items() if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    assert by_place == ["name", "shape"]
    assert set(given) == {"name", "shape", *DEFAULTS}


def test_a_soma_of_defaults_integrates_and_fires_once() -> None:
    """No leak (4096 / 4096), gain 1, no bias, one level, soft reset, payloads 0 .. 2^23 - 1."""
    soma = Soma("s", (2,))
    for field, default in DEFAULTS.items():
        value = getattr(soma, field)
        assert value.tolist() == [[default]] if isinstance(value, np.ndarray) else value == default, field


def test_somas_are_told_apart_by_who_they_are() -> None:
    """Arrays have no single truth value, so equality is identity and a soma can be a key."""
    first, second = Soma("s", (2,), bias=[1, 2]), Soma("s", (2,), bias=[1, 2])
    assert first == first
    assert first != second
    assert len({first, second}) == 2
