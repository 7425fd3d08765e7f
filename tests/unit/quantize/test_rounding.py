"""Rounding with feedback: against all integers there are, against plain rounding, and where both must agree."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from snn2chip.quantize.rounding import DAMPING, round_with_feedback
from snn2chip.quantize.spec import FloatArray
from snn2chip.quantize.weights import unit_of


def moments(rng: np.random.Generator, k: int, *, rank: int) -> FloatArray:
    """Second moments of inputs that go together: `rank` common causes and a little of their own."""
    x = rng.normal(size=(4000, rank)) @ rng.normal(size=(rank, k)) + 0.3 * rng.normal(size=(4000, k))
    return x.T @ x / len(x)


def felt(off: FloatArray, h: FloatArray) -> FloatArray:
    """Mean squared error of the current."""
    return np.einsum("ij,jk,ik->i", off, h, off)


def nearest(w: FloatArray, most: int) -> FloatArray:
    """Weights on the plain grid."""
    delta = unit_of(w, most)[:, None]
    return np.clip(np.floor(w / delta + 0.5), -most, most) * delta


@pytest.mark.parametrize("most", [1, 3])
def test_it_lies_between_plain_rounding_and_the_best_of_all_integers(most: int) -> None:
    rng = np.random.default_rng(most)
    h = moments(rng, 6, rank=2)
    w = rng.normal(size=(20, 6))
    values, delta = round_with_feedback(w, h, most)
    got = felt(delta[:, None] * values - w, h)
    plain = felt(nearest(w, most) - w, h)
    grid = np.array(list(product(range(-most, most + 1), repeat=6)))
    over = np.einsum("ij,jk,ik->i", grid, h, grid)
    with np.errstate(invalid="ignore", divide="ignore"):  # the unit of least squares for every integer vector
        gained = np.where(over > 0, np.square(w @ h @ grid.T) / over, 0.0)
    best = felt(w, h) - gained.max(1)
    assert (got >= best - 1e-9).all()
    assert got.sum() < plain.sum()
    assert got.sum() < 4 * best.sum()


@pytest.mark.parametrize(("most", "share"), [(127, 0.5), (7, 0.5)])
def test_inputs_that_go_together_share_their_errors(most: int, share: float) -> None:
    rng = np.random.default_rng(3)
    h = moments(rng, 80, rank=10)
    w = rng.normal(size=(30, 80))
    values, delta = round_with_feedback(w, h, most)
    assert values.dtype == np.int8
    assert np.abs(values).max() <= most
    assert (felt(delta[:, None] * values - w, h) < share * felt(nearest(w, most) - w, h)).mean() > 0.95


def test_inputs_on_their_own_are_rounded_on_their_own() -> None:
    rng = np.random.default_rng(4)
    w = rng.normal(size=(10, 40))
    values, delta = round_with_feedback(w, np.eye(40) * 2.0, 127)
    assert np.abs(values * delta[:, None] - w).max() <= 0.55 * delta.max()  # the unit moves a little afterwards


def test_silent_inputs_and_silent_channels() -> None:
    rng = np.random.default_rng(5)
    w = rng.normal(size=(4, 12))
    w[2] = 0.0
    h = moments(rng, 12, rank=3)
    h[5], h[:, 5] = 0.0, 0.0
    for given in (h, np.zeros((12, 12))):
        values, delta = round_with_feedback(w, given, 7)
        assert np.isfinite(delta).all()
        assert (delta > 0).all()
        assert not values[2].any()
        assert values[[0, 1, 3]].any(1).all()


def test_the_same_numbers_every_time() -> None:
    rng = np.random.default_rng(6)
    h, w = moments(rng, 70, rank=5), rng.normal(size=(9, 70))
    first, second = round_with_feedback(w, h, 7), round_with_feedback(w.copy(), h.copy(), 7)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert 0 < DAMPING < 0.1
