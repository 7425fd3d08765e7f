"""Weights fitted on calibration samples: mean currents, errors of currents, and what the program then does."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
import torch

import snn2chip
from snn2chip.compiler import compile_float_graph
from snn2chip.errors import InputError
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.linear_layers import AffineLayer
from snn2chip.ir.nodes import Synapse
from snn2chip.quantize.calibrated import fit_weights
from snn2chip.quantize.spec import QuantSpec
from snn2chip.quantize.weights import errors, quantize_weights
from snn2chip.testing import graphs

RNG = np.random.default_rng(0)
BASE = RNG.integers(0, 12, (300, 1, 3, 3)).repeat(2, axis=2).repeat(2, axis=3)
X, OTHER = np.split(BASE + RNG.integers(0, 4, (300, 1, 6, 6)), [150])  # neighbours go together, as in pictures
GRAPH = graphs.chain(2)


def rounded(graph: LayerGraph, mode: str, *, fitted: bool) -> LayerGraph:
    """The float graph with integers times their units as weights; fitted or plain."""
    spec = QuantSpec(weights=mode)
    made, parts = fit_weights(graph, X, spec=spec) if fitted else (graph, {})
    changed = []
    for layer in made.layers:
        if isinstance(layer, AffineLayer) and layer.parts is None:
            if fitted and layer.name in parts:
                weight = parts[layer.name].weight().reshape(layer.weight.shape)
            else:
                target = layer.weight.double().numpy()
                weight = torch.as_tensor(
                    target + errors(quantize_weights(layer, target, np.ones(1), mode)).reshape(target.shape)
                )
            changed.append(attrs.evolve(layer, weight=weight))
    return made.with_layers(*changed)


@pytest.mark.parametrize("mode", ["int8", "int4", "int2", "ternary", "binary"])
def test_mean_currents_are_the_float_ones(mode: str) -> None:
    """Every layer reads what the rounded layers before it send."""
    got, want = (g.run(torch.as_tensor(X).double(), collect=True) for g in (rounded(GRAPH, mode, fitted=True), GRAPH))
    for name in ("c1", "c2", "fc"):
        a, b = (run.values[name].transpose(0, 2).flatten(1).mean(1) for run in (got, want))
        assert (a - b).abs().max() < 1e-4 * want.values[name].abs().max()


@pytest.mark.parametrize("mode", ["int4", "int3", "ternary"])
def test_currents_are_closer_on_other_samples(mode: str) -> None:
    x = torch.as_tensor(OTHER).double()
    want = GRAPH.run(x, collect=True).values
    fitted, plain = (rounded(GRAPH, mode, fitted=f).run(x, collect=True).values for f in (True, False))
    for name in ("c1", "fc"):
        lost = [float((found[name] - want[name]).square().mean()) for found in (fitted, plain)]
        assert lost[0] < 0.9 * lost[1], name


def test_trained_integers_and_float_weights_stay() -> None:
    graph, parts = fit_weights(GRAPH, X, spec=QuantSpec(weights="int4"))
    assert set(parts) == {"c1", "fc"}  # c2 was trained binary
    for name in ("c1", "c2", "fc"):
        assert torch.equal(graph.layer(name).weight, GRAPH.layer(name).weight)  # type: ignore[attr-defined]
    for made in parts.values():
        assert int(made.integers.abs().max()) <= 7
        assert bool((made.scale > 0).all())


@pytest.mark.parametrize("mode", ["keep", "int8", "int4"])
def test_the_program_holds_the_fitted_integers_and_does_what_they_say(mode: str) -> None:
    _, parts = fit_weights(GRAPH, X, spec=QuantSpec(weights=mode))
    program = compile_float_graph(GRAPH, X, weights=mode, rounding="fitted")
    assert program.meta["rounding"] == "fitted"
    for name, made in parts.items():
        synapse = program[name]
        assert isinstance(synapse, Synapse)
        assert np.array_equal(synapse.weight, made.integers.numpy().reshape(synapse.weight.shape))
    trace = snn2chip.run(program, OTHER, backend="reference")
    floats = rounded(GRAPH, mode, fitted=True).run(torch.as_tensor(OTHER).double(), collect=True)
    for name in ("n1", "n2"):
        unit = np.asarray(program.meta["units"]["payload"][name])
        sent = trace.payloads[name] * unit.reshape(-1, *[1] * (trace.payloads[name].ndim - 3))
        assert (np.abs(sent - floats.values[name].numpy()) < 1e-6).mean() > 0.995
    assert sum("fitted" in row["field"] for row in program.records) == len(parts)
    assert len(parts) == (2 if mode == "int4" else 0)  # 8 bits hold these weights exactly


def test_residual_networks_compile_and_are_closer() -> None:
    graph = graphs.residual(2)
    shape = graph.input.raw_shape
    x = np.random.default_rng(3).integers(0, 16, (200, *shape))
    floats = graph.run(torch.as_tensor(x[100:]).float()).output.numpy()
    off = []
    for rounding in ("nearest", "fitted"):
        program = compile_float_graph(graph, x[:100], weights="int3", rounding=rounding)
        outputs = snn2chip.run(program, x[100:], record="outputs", backend="torch").outputs
        unit = program.meta["units"]["potential"]["readout"][0] / program.steps
        off.append(float(np.square(outputs * unit - floats).mean()))
    assert off[1] < off[0]


def test_other_words_are_refused() -> None:
    with pytest.raises(InputError, match="rounding must be nearest or fitted, got 'best'"):
        compile_float_graph(GRAPH, X, rounding="best")
