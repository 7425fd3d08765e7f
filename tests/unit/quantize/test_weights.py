"""Steps of few-bit weights: as good as trying all of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from snn2chip.ir.linear_layers import LinearLayer
from snn2chip.quantize.weights import errors, quantize_weights, whole_steps

UNIT = np.ones(1)


def linear(weight: np.ndarray) -> LinearLayer:
    return LinearLayer(name="fc", path="net.fc", weight=torch.as_tensor(weight))


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("draw", ["normal", "laplace", "uniform"])
def test_the_step_is_as_good_as_the_best_of_a_thousand(bits: int, draw: str) -> None:
    weight = getattr(np.random.default_rng(bits), draw)(size=(12, 200))
    top = 2 ** (bits - 1) - 1
    made = quantize_weights(linear(weight), weight, UNIT, f"int{bits}")
    assert np.abs(made.values).max() <= top
    got = np.square(errors(made)).sum(1)
    best = np.full(12, np.inf)
    for part in np.linspace(0.1, 1.0, 1000):
        step = np.abs(weight).max(1, keepdims=True) * part / top
        tried = np.clip(np.rint(weight / step), -top, top) * step
        best = np.minimum(best, np.square(tried - weight).sum(1))
    assert (got <= 1.05 * best).all()


@pytest.mark.parametrize("mode", ["binary", "ternary", "int2", "int4", "int8"])
def test_a_channel_without_weights_stays_without_current(mode: str) -> None:
    weight = np.random.default_rng(0).normal(size=(3, 50))
    weight[1] = 0.0
    made = quantize_weights(linear(weight), weight, UNIT, mode)
    assert np.isfinite(made.delta).all()
    assert (made.delta > 0).all()
    assert np.abs(made.delta[1] * made.values[1]).sum() < 1e-4 * np.abs(weight[0]).sum()


def test_weights_on_a_grid_keep_their_step() -> None:
    """The step is the greatest common measure of a channel; by brute force over whole numbers and one float factor."""
    rng = np.random.default_rng(5)
    for most in (7, 127):
        whole = rng.integers(-most, most + 1, (40, 30))
        whole[:, 3] = most  # the largest multiple is in every channel
        whole[::4] = 3 * (whole[::4] // 3)
        factor = rng.uniform(0.01, 2.0, (40, 1))
        got = whole_steps((whole * factor).astype(np.float32).astype(np.float64), most)
        want = np.gcd.reduce(np.abs(whole), axis=1) * factor[:, 0]
        np.testing.assert_allclose(got, want, rtol=1e-6)
    assert (whole_steps(rng.normal(size=(20, 30)), 127) == 0).all()
    assert whole_steps(np.zeros((1, 4)), 127) == 0
