"""Integer types: ranges by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from snn2chip.ir.types import IntType, PayloadType, WeightType, as_int, smallest_int, whole


@pytest.mark.parametrize(("bits", "signed", "lo", "hi"), [(8, True, -128, 127), (8, False, 0, 255), (1, True, -1, 0)])
def test_int_type(bits: int, signed: bool, lo: int, hi: int) -> None:
    kind = IntType(bits=bits, signed=signed)
    assert (kind.lo, kind.hi) == (lo, hi)


@pytest.mark.parametrize(
    ("lo", "hi", "kind", "bits", "dtype"),
    [
        (0, 1, "binary", 1, np.int8),
        (0, 0, "binary", 1, np.int8),
        (-1, 1, "ternary", 2, np.int8),
        (0, 15, "graded", 4, np.int8),
        (0, 255, "graded", 8, np.int16),
        (-8, 7, "signed", 4, np.int8),
        (-9, 7, "signed", 5, np.int8),
        (-256, 255, "signed", 9, np.int16),
        (0, (1 << 24) - 1, "graded", 24, np.int32),
    ],
)
def test_payload_type(lo: int, hi: int, kind: str, bits: int, dtype: type) -> None:
    payload = PayloadType(lo, hi)
    assert (payload.kind, payload.bits, payload.dtype()) == (kind, bits, dtype)
    assert payload.magnitude == max(-lo, hi)


@pytest.mark.parametrize(
    ("bits", "sign", "lo", "hi"),
    [
        (1, "mixed", -1, 1),
        ("ternary", "mixed", -1, 1),
        (2, "mixed", -2, 1),
        (8, "mixed", -128, 127),
        (8, "excitatory", 0, 255),
        (8, "inhibitory", -255, 0),
        (4, "excitatory", 0, 15),
    ],
)
def test_weight_range(bits: Any, sign: str, lo: int, hi: int) -> None:
    kind = WeightType(bits, sign)
    assert (kind.lo, kind.hi) == (lo, hi)
    assert kind.breaches(np.array([lo, hi])) == []
    assert kind.breaches(np.array([lo - 1])) != []
    assert kind.breaches(np.array([hi + 1])) != []


def test_one_bit_weights_have_no_zero_unless_sparse() -> None:
    weight = np.array([-1, 0, 1])
    assert "some are 0" in WeightType(1).breaches(weight)[0]
    assert WeightType(1).breaches(weight, stored_only=True) == []
    assert WeightType(8).breaches(np.zeros(0, np.int64)) == ["has no weights"]


@pytest.mark.parametrize(
    ("lo", "hi", "dtype"),
    [
        (-128, 127, np.int8),
        (-129, 0, np.int16),
        (0, 128, np.int16),
        (0, 1 << 15, np.int32),
        (0, 1 << 31, np.int64),
    ],
)
def test_smallest_int(lo: int, hi: int, dtype: type) -> None:
    assert smallest_int(lo, hi) is dtype


@pytest.mark.parametrize(
    ("given", "made"),
    [
        (5, 5),
        (5.0, 5),
        (True, 1),
        (np.uint8(200), 200),
        ([1.0, -2.0], [1, -2]),
        (np.array([True, False]), [1, 0]),
        (-(2.0**62), -(2**62)),
    ],
)
def test_as_int(given: Any, made: Any) -> None:
    array = as_int(given)
    assert array.tolist() == made
    assert array.dtype == np.int64
    assert not array.flags.writeable


@pytest.mark.parametrize("given", [0.5, [1, 2.5], "3", None, np.nan, np.inf, 2.0**63, 1e300, np.uint64(2**63), 1j])
def test_as_int_refuses(given: Any) -> None:
    with pytest.raises(TypeError):
        as_int(given)


def test_as_int_copies() -> None:
    mine = np.array([1, 2])
    held = as_int(mine)
    mine[0] = 9
    assert held.tolist() == [1, 2]


def test_whole() -> None:
    assert whole(np.int8(-3)) == -3
    for value in ([1], "1", 1.5, None):
        with pytest.raises(TypeError):
            whole(value)
