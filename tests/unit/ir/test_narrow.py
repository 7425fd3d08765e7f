"""Arrays of few values in few bits: the same arrays back, in the room promised, whatever is declared."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snn2chip.ir.narrow import LEAST, narrowed, widened

RNG = np.random.default_rng(3)


@settings(max_examples=200, deadline=None)
@given(
    lo=st.integers(-128, 120),
    span=st.integers(0, 40),
    step=st.sampled_from([1, 2, 3]),
    size=st.integers(0, 3000),
    dtype=st.sampled_from(["int8", "int16", "int64"]),
)
def test_round_trip(lo: int, span: int, step: int, size: int, dtype: str) -> None:
    """Any array comes back with its values, type and shape, and never takes more room than before."""
    top = min(lo + span, 127)
    values = np.clip(lo + step * RNG.integers(0, (top - lo) // step + 1, size), -128, 127).astype(dtype)
    given_arrays = {"a": values.reshape(-1, 1), "b": values}
    stored, how = narrowed(given_arrays)
    again = widened(stored, how)
    for name, array in given_arrays.items():
        assert again[name].dtype == array.dtype
        assert np.array_equal(again[name], array)
        assert stored[name].nbytes <= array.nbytes
        assert (name in how) <= (array.size >= LEAST)


@pytest.mark.parametrize(
    ("values", "bits"),
    [
        ([-1, 1], 1),
        ([0, 1], 1),
        ([7], 1),
        ([-1, 0, 1], 2),
        ([0, 1, 2], 2),
        ([-8, 7], 4),
        ([-7, 0, 7], 4),
        ([0, 17], None),
    ],
)
def test_bits(values: list[int], bits: int | None) -> None:
    """Signs take one bit, ternary numbers two, four-bit numbers four."""
    array = np.concatenate([values, RNG.choice(values, 4096 - len(values))]).astype(np.int8)
    stored, how = narrowed({"w": array})
    assert (how["w"]["bits"] if how else None) == bits
    if bits is not None:
        assert stored["w"].nbytes == 4096 * bits // 8


SOUND = {"bits": 1, "lo": -1, "step": 2, "dtype": "int8", "shape": [2048]}


@pytest.mark.parametrize(
    "wrong",
    [
        {"shape": [10**12]},
        {"shape": [-2048]},
        {"shape": [2049]},
        {"bits": 3},
        {"bits": 2},
        {"step": 5},
        {"lo": 127},
        {"dtype": "float32"},
        {"dtype": "object"},
        {"dtype": ","},
    ],
)
def test_false_declarations(wrong: dict[str, object]) -> None:
    """What does not fit the bytes is refused before memory is taken."""
    stored, how = narrowed({"w": RNG.choice([-1, 1], 2048).astype(np.int8)})
    assert how == {"w": SOUND}
    with pytest.raises((ValueError, TypeError)):
        widened(stored, {"w": {**SOUND, **wrong}})
