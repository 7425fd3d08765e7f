"""Relays keep the bias of the maps they follow, and integers without a bias as they are."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from snn2chip import Input, Output, Program, Synapse, run
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import FloatSoma, InputLayer, OutputLayer
from snn2chip.ir.linear_layers import LinearLayer, WeightParts
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.quantize.calibrate import calibrate
from snn2chip.quantize.lower import lower
from snn2chip.quantize.relays import lower_relay


def relayed(bias: list[float], delta: list[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Float current, dequantised payloads and integers of a relay behind an identity of two channels."""
    d, b = np.array(delta), np.array(bias)
    top = 20 * d + np.abs(b)
    lowered = lower_relay(name="r", label="r", path="", shape=(2,), delta=d, bias=b, current=top, unit=None)
    program = Program(
        nodes=[Input("x", (2,), -20, 20), Synapse("w", "identity"), lowered.soma, Output("o", "payload")],
        edges=[("x", "w"), ("w", "r"), ("r", "o")],
        steps=1,
    )
    x = np.stack(np.meshgrid(np.arange(-20, 21), np.arange(-20, 21)), axis=-1).reshape(-1, 2)
    payload = run(program, x, backend="reference").payloads["r"][0]
    return x * d + b, payload * np.broadcast_to(lowered.unit, (2,)), payload


@pytest.mark.parametrize("bias", [[-0.73, -0.04], [0.0, 0.31]])
@pytest.mark.parametrize("delta", [[2.0, 22.0], [4.0, 4.0]])
def test_a_bias_much_smaller_than_the_unit_is_kept(bias: list[float], delta: list[float]) -> None:
    want, got, _ = relayed(bias, delta)
    assert np.abs(got - want).max() < 2e-3 * max(delta)


@pytest.mark.parametrize("delta", [[2.0, 22.0], [4.0, 4.0]])
def test_without_a_bias_the_integers_pass_as_they_are(delta: list[float]) -> None:
    want, got, payload = relayed([0.0, 0.0], delta)
    assert (got == want).all()
    assert np.abs(payload).max() == 20


@pytest.mark.parametrize("trained", [False, True])
def test_a_relay_leaves_the_maps_behind_it_their_24_bits(trained: bool) -> None:
    """255 inputs of 15 bits through 8-bit weights of one sign need 30 bits; the relay sends fewer."""
    weight = torch.full((3, 255), 127 / 1024, dtype=torch.float64)
    parts = WeightParts(scale=torch.full((3,), 1 / 1024, dtype=torch.float64), integers=torch.full((3, 255), 127))
    layers = (
        InputLayer(name="x", shape=(255,)),
        LinearLayer(name="a", weight=torch.eye(255, dtype=torch.float64), bias=torch.full((255,), 0.3)),
        NeuronLayer(name="r", soma=FloatSoma(steps=1, theta=1.0, unit=1.0, fire="relay", reset="drop")),
        LinearLayer(name="b", weight=weight, parts=parts if trained else None, bias=torch.full((3,), 1e6)),
        OutputLayer(name="output", reduce="mean"),
    )
    names = [layer.name for layer in layers]
    graph = LayerGraph(layers=layers, inputs={b: (a,) for a, b in pairwise(names)}, steps=1)
    x = np.random.default_rng(0).integers(200, 256, (20, 255))
    program = lower(graph, calibrate(graph, x))
    trace = run(program, x, backend="reference", record="all")
    synapse = program["b"]
    assert isinstance(synapse, Synapse)
    weights = synapse.dense()
    current = trace.payloads["r"].astype(np.int64) @ weights.T
    assert np.abs(current).max() < 2**23
    assert np.abs(current).max() > 2**20, "no coarser than it must be"
    got = current * (program.meta["units"]["payload"]["r"][0] / 1024 * 127 / np.abs(weights).max())
    want = graph.run(torch.as_tensor(x).double()).output.numpy() - 1e6
    assert np.abs(got[0] - want).max() < 2e-3 * np.abs(want).max()
