"""Weights fitted on samples, number by number: moments, regression, rows read by convolutions, blocks of samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import InputLayer, OutputLayer
from snn2chip.ir.linear_layers import Conv2dLayer, LinearLayer
from snn2chip.quantize import calibrated
from snn2chip.quantize.calibrated import ENOUGH, _first, _fit, _made_up, _reads, _regressed
from snn2chip.quantize.rounding import damped


def test_moments_get_one_per_cent_of_their_mean_diagonal() -> None:
    """diag(2, 4) + 0.01 * 3 on the diagonal; a layer that reads nothing gets the identity."""
    assert damped(np.diag([2.0, 4.0])) == pytest.approx(np.diag([2.03, 4.03]))
    assert damped(np.zeros((2, 2))) == pytest.approx(np.eye(2))


def test_regression_makes_up_for_halved_inputs() -> None:
    """b = a / 2 carries the same currents with W' = 2 W (1 % less for the damping); b = a changes nothing."""
    rng = np.random.default_rng(0)
    a, w = rng.normal(size=(4000, 3)), np.array([[1.0, -2.0, 0.5], [0.25, 3.0, -1.0]])
    assert _regressed(w, a, a / 2) == pytest.approx(2 * w, rel=0.03)
    assert _regressed(w, a, a) == pytest.approx(w)


@pytest.mark.parametrize("kernel", [2, 3])
def test_every_row_of_a_convolution_is_what_its_taps_read(kernel: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel as large as the image has one place; rows times weights are the convolution's own results."""
    rng = np.random.default_rng(1)
    weight = torch.as_tensor(rng.integers(-3, 4, (4, 2, kernel, kernel)))
    layer = Conv2dLayer(name="c", weight=weight.double(), groups=2)
    x = torch.as_tensor(rng.integers(0, 9, (1, 30, 4, kernel, kernel))).double()
    monkeypatch.setattr(calibrated, "ROWS", 4)
    monkeypatch.setattr(calibrated, "LEAST_ROWS", 4)
    want = layer.apply([x])[0, :, :, 0, 0].numpy()
    for g, (a, b) in enumerate(_reads(layer, x, x)):
        assert a.shape == (30, 2 * kernel * kernel)
        assert (a == b).all()
        own = weight[2 * g : 2 * g + 2].reshape(2, -1).double().numpy()
        assert (a @ own.T == want[:, 2 * g : 2 * g + 2]).all()


def test_rows_of_a_dilated_convolution_are_its_own_results() -> None:
    """Every row times the weights is a result of the dilated, strided, padded convolution somewhere."""
    rng = np.random.default_rng(2)
    weight = torch.as_tensor(rng.integers(-3, 4, (1, 1, 2, 3))).double()
    layer = Conv2dLayer(name="c", weight=weight, dilation=(2, 1), stride=(1, 2), padding=(1, 1))
    x = torch.as_tensor(rng.integers(1, 99, (1, 6, 1, 5, 6))).double()
    ((rows, _),) = _reads(layer, x, x)
    results = {float(v) for v in layer.apply([x]).flatten()}
    assert len(rows) >= 6
    assert {*(rows @ weight.reshape(-1).numpy()).tolist()} <= results


def test_the_weights_of_a_layer_behind_units_are_given_back_in_their_own_size() -> None:
    """Payloads worth 2 and 4: the fitted layer on the values themselves computes what the float layer does."""
    rng = np.random.default_rng(3)
    layer = LinearLayer(name="l", weight=torch.as_tensor(rng.normal(size=(3, 2))))
    x = torch.as_tensor(rng.integers(0, 5, (1, 200, 2))).double() * torch.tensor([2.0, 4.0])
    made, found = _fit(layer, x, x, "int8", np.array([2.0, 4.0]))
    assert found is not None
    assert (made.weight - layer.weight).abs().max() < 0.05
    assert (layer.apply([x]) - made.apply([x])).abs().max() < 0.5


def test_the_first_block_is_as_many_samples_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """samples * 4 bytes * steps * values of the largest layer <= RUN_BYTES."""
    layers = (InputLayer(name="x", shape=(5,)), LinearLayer(name="l", weight=torch.eye(5)), OutputLayer(name="o"))
    inputs = {"x": (), "l": ("x",), "o": ("l",)}
    graph = LayerGraph(layers=layers, inputs=inputs, steps=3)
    monkeypatch.setattr(calibrated, "RUN_BYTES", 4 * 3 * 5 * 7 + 59)
    (found,) = _first(graph, np.ones((20, 5)), False).values()
    assert found.shape == (1, 7, 5)


def test_both_networks_are_read_at_the_same_places() -> None:
    """Rows of the float network from x, rows of the rounded one from y, group by group."""
    rng = np.random.default_rng(5)
    layer = Conv2dLayer(name="c", weight=torch.ones(4, 2, 2, 2).double(), groups=2)
    x = torch.as_tensor(rng.integers(0, 9, (1, 20, 4, 5, 5))).double()
    for a, b in _reads(layer, x, 10 * x):
        assert (b == 10 * a).all()
        assert a.any()


def test_few_rows_leave_the_weights_as_they_are() -> None:
    """A regression on fewer than ENOUGH rows per weight (half of the rows judge it) would fit noise."""
    rng = np.random.default_rng(6)
    w = np.array([[1.0, -2.0, 0.5]])
    a = rng.normal(size=(2 * ENOUGH * 3, 3))
    assert _made_up(w, a[:-2], a[:-2] / 2) is w
    assert _made_up(w, a, a / 2) == pytest.approx(2 * w, rel=0.1)


def test_a_convolution_behind_channels_of_different_units_computes_the_same() -> None:
    """Payloads worth 2 and 4 in two channels of an image."""
    rng = np.random.default_rng(7)
    layer = Conv2dLayer(name="c", weight=torch.as_tensor(rng.normal(size=(3, 2, 2, 2))))
    x = torch.as_tensor(rng.integers(0, 5, (1, 60, 2, 4, 4))).double() * torch.tensor([2.0, 4.0])[:, None, None]
    made, found = _fit(layer, x, x, "int8", np.array([2.0, 4.0]))
    assert found is not None
    assert (made.weight - layer.weight).abs().max() < 0.05
    assert (layer.apply([x]) - made.apply([x])).abs().max() < 1.0
