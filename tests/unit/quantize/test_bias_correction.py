"""Corrected biases: quantized weights have the float layer's mean current on the calibration data."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
import torch

import snn2chip
from snn2chip.compiler import compile_float_graph
from snn2chip.ir.linear_layers import AffineLayer
from snn2chip.quantize.bias_correction import correct_biases
from snn2chip.quantize.calibrate import calibrate
from snn2chip.quantize.lower import lower
from snn2chip.quantize.spec import QuantSpec
from snn2chip.testing import graphs

X = np.random.default_rng(0).integers(0, 16, (70, 1, 6, 6))
GRAPH = graphs.chain(2)
MODES = ["int4", "int2", "ternary", "binary"]


@pytest.mark.parametrize("mode", MODES)
def test_the_mean_current_of_the_integer_layer_is_the_float_one(mode: str) -> None:
    """The first layer, its integers read off the program; sums over all positions, borders as they are."""
    corrected = correct_biases(GRAPH, X, spec=QuantSpec(weights=mode), block=16)
    program = lower(GRAPH, calibrate(GRAPH, X), spec=QuantSpec(weights=mode))
    layer, other = GRAPH.layer("c1"), corrected.layer("c1")
    assert isinstance(layer, AffineLayer)
    assert isinstance(other, AffineLayer)
    soma = program["n1"]
    mu = np.asarray(program.meta["units"]["potential"]["n1"])
    delta = mu * np.broadcast_to(soma.gain[0], mu.shape) / 2.0 ** np.ravel(soma.gain_shift)
    weight = torch.as_tensor(program["c1"].weight * delta.reshape(-1, 1, 1, 1))
    x = torch.as_tensor(X).double()[None]
    rounded = attrs.evolve(layer, weight=weight, parts=None, bias=other.bias)
    (want, got, plain) = (
        m.apply([x]).mean((0, 1, 3, 4)) for m in (layer, rounded, attrs.evolve(rounded, bias=layer.bias))
    )
    assert (got - want).abs().max() < 1e-9 * want.abs().max()
    assert (plain - want).abs().max() > 1e-3 * want.abs().max()  # without correction it is not


def test_trained_integers_and_weights_stay_as_they_are() -> None:
    corrected = correct_biases(GRAPH, X, spec=QuantSpec(weights="int4"))
    assert corrected.layer("c2") is GRAPH.layer("c2")
    for name in ("c1", "fc"):
        assert torch.equal(corrected.layer(name).weight, GRAPH.layer(name).weight)  # type: ignore[attr-defined]


def test_compile_corrects_on_request_and_is_closer_on_other_samples() -> None:
    other = np.random.default_rng(8).integers(0, 16, (200, 1, 6, 6))
    floats = GRAPH.run(torch.as_tensor(other).float()).output.numpy()
    off = []
    for wanted in (False, True):
        program = compile_float_graph(GRAPH, X, weights="int2", bias_correction=wanted)
        unit = program.meta["units"]["potential"]["readout"][0] / 2
        off.append(np.square(snn2chip.run(program, other, record="outputs").outputs * unit - floats).mean())
    assert off[1] < 0.9 * off[0]
