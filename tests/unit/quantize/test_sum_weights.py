"""Residual sums: every branch keeps the requested weight bits, and their sum is as good as the branches alone.

The float64 truth is built here from the program's own integer payloads (teacher forcing) and the float weights; the
error that the requested bits cost anyway is found by brute force over steps, branch by branch.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

import snn2chip
from snn2chip.ir.channel_layers import ScaleLayer, SumPoolLayer
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import AddLayer, InputLayer, OutputLayer
from snn2chip.ir.linear_layers import Conv2dLayer, LinearLayer
from snn2chip.ir.nodes import Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.quantize.calibrate import calibrate
from snn2chip.quantize.lower import lower
from snn2chip.quantize.spec import QuantSpec
from snn2chip.testing.graphs import neuron

MODES = ["keep", "int8", "int6", "int4", "int3", "int2", "ternary", "binary"]
TOPS = {"keep": 127, "ternary": 1, "binary": 1, **{f"int{n}": 2 ** (n - 1) - 1 for n in range(2, 9)}}
STEPS = 2
X = np.random.default_rng(3).integers(0, 256, (24, 4, 6, 6))


def weights(shape: tuple[int, ...], size: float, seed: int) -> Tensor:
    """Gaussian weights whose size differs from channel to channel by a factor of three."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.logspace(-0.25, 0.25, shape[0], dtype=torch.float64)
    return torch.randn(shape, generator=generator, dtype=torch.float64) * size * spread.reshape(-1, 1, 1, 1)


def conv(name: str, shape: tuple[int, ...], size: float, seed: int, **fields: Any) -> Conv2dLayer:
    bias = torch.randn(shape[0], generator=torch.Generator().manual_seed(99 + seed), dtype=torch.float64) * 0.1
    return Conv2dLayer(name=name, path=f"net.{name}", weight=weights(shape, size, seed), bias=bias, **fields)


def scale(name: str, factor: Any) -> ScaleLayer:
    return ScaleLayer(name=name, path="net", factor=torch.as_tensor(factor, dtype=torch.float64))


def net(kind: str) -> LayerGraph:
    """A sum of two branches before the neuron `n`, one of the shapes that residual networks have."""
    stem = (conv("c0", (4, 4, 3, 3), 1e-3, 0, padding=1), neuron("n0", STEPS, levels=3))
    source, out = "n0", 6
    if kind == "identity":
        branches: tuple[Any, ...] = (conv("a", (4, 4, 3, 3), 0.12, 1, padding=1), scale("b", 1.0))
    elif kind == "projection":
        branches = (
            conv("a", (5, 4, 3, 3), 0.12, 1, padding=1, stride=2),
            conv("b", (5, 4, 1, 1), 0.6, 2, stride=2),
        )
        out = 3
    elif kind == "pool":
        branches = (
            conv("a", (4, 4, 3, 3), 0.12, 1, padding=1, stride=2),
            SumPoolLayer(name="b", path="net", kernel=2, stride=2, factor=torch.tensor(0.25, dtype=torch.float64)),
        )
        out = 3
    elif kind == "signed":
        branches = (conv("a", (4, 4, 3, 3), 0.12, 1, padding=1), scale("b", [1.0, -0.7, 0.9, -1.3]))
    else:
        assert kind == "input"
        source = "x"
        branches = (conv("a", (4, 4, 3, 3), 6e-4, 1, padding=1), scale("b", 1 / 255))
    stem = stem if source == "n0" else ()
    channels = branches[0].weight.shape[0]
    head = LinearLayer(name="fc", path="net.fc", weight=weights((3, channels * out * out, 1, 1), 0.1, 7)[:, :, 0, 0])
    layers = (
        InputLayer(name="x", shape=(4, 6, 6)),
        *stem,
        *branches,
        AddLayer(name="add", path="net"),
        neuron("n", STEPS, levels=3),
        head,
        OutputLayer(name="output"),
    )
    edges = {"a": (source,), "b": (source,), "add": ("a", "b"), "n": ("add",), "fc": ("n",), "output": ("fc",)}
    first = {"c0": ("x",), "n0": ("c0",)} if stem else {}
    return LayerGraph(layers=layers, inputs={**first, **edges}, steps=STEPS)


NETS = ["identity", "projection", "pool", "signed", "input"]


def lowered(graph: LayerGraph, mode: str, x: np.ndarray = X, **spec: Any) -> Program:
    return lower(graph, calibrate(graph, x), spec=QuantSpec(weights=mode, **spec))


def best(weight: np.ndarray, mode: str) -> np.ndarray:
    """One branch alone in the given mode: per channel the step with the smallest squared error."""
    flat = weight.reshape(len(weight), -1)
    if mode == "binary":
        return (np.where(flat >= 0, 1, -1) * np.abs(flat).mean(1, keepdims=True)).reshape(weight.shape)
    if mode == "ternary":
        keep = np.abs(flat) > 0.7 * np.abs(flat).mean(1, keepdims=True)
        step = (np.abs(flat) * keep).sum(1, keepdims=True) / np.maximum(keep.sum(1, keepdims=True), 1)
        return (np.sign(flat) * keep * step).reshape(weight.shape)
    best_of, error = np.zeros_like(flat), np.full((len(flat), 1), np.inf)
    for part in np.linspace(0.2, 1.0, 401):
        step = np.maximum(np.abs(flat).max(1, keepdims=True), 1e-30) * part / TOPS[mode]
        tried = np.clip(np.rint(flat / step), -TOPS[mode], TOPS[mode]) * step
        now = np.square(tried - flat).sum(1, keepdims=True)
        best_of, error = np.where(now < error, tried, best_of), np.minimum(now, error)
    return best_of.reshape(weight.shape)


def current(layer: Any, payload: Tensor, weight: np.ndarray | None = None) -> np.ndarray:
    """Float64 current of one branch for payload values `[N, C, H, W]`."""
    if isinstance(layer, Conv2dLayer):
        w = layer.weight if weight is None else torch.as_tensor(weight)
        return functional.conv2d(payload, w, layer.bias, stride=layer.stride, padding=layer.padding).numpy()
    if isinstance(layer, SumPoolLayer):
        return functional.avg_pool2d(payload, 2, 2).numpy()
    return (payload * layer.factor.reshape(-1, 1, 1)).numpy()


def summed(program: Program, x: np.ndarray) -> tuple[np.ndarray, Tensor]:
    """The current with bias that the soma `n` integrated, in float units; the values of its source's payloads."""
    trace = snn2chip.run(program, x, backend="reference")
    soma = program["n"]
    assert isinstance(soma, Soma)
    mu = np.asarray(program.meta["units"]["potential"]["n"]).reshape(-1, 1, 1)
    shape = (-1, 1, 1)
    theta, v_init = (np.broadcast_to(getattr(soma, k)[0], mu.size).reshape(shape) for k in ("theta", "v_init"))
    after = trace.potentials["n"]
    earlier = np.concatenate([np.broadcast_to(v_init, after[:1].shape), after[:-1]])
    got = (after + trace.payloads["n"] * theta - earlier) * mu
    source = "n0" if "n0" in program.by_name else "x"
    payload = trace.payloads[source] if source == "n0" else np.broadcast_to(trace.inputs["x"], (STEPS, *x.shape))
    value = torch.as_tensor(payload * program.meta["units"]["payload"][source][0], dtype=torch.float64)
    return got.reshape(-1, *got.shape[2:]), value.flatten(0, 1)


def rms(value: np.ndarray) -> np.ndarray:
    """Root mean square per channel of `[N, C, H, W]`."""
    return np.sqrt(np.square(value).mean((0, 2, 3)))


def close(error: np.ndarray, alone: np.ndarray) -> None:
    """1.25 times what the bits cost anyway, 1.5 times in any one channel, and next to nothing where they are exact."""
    total = np.sqrt(np.square(alone).mean())
    assert np.sqrt(np.square(error).mean()) <= 1.25 * total + 2e-4
    assert (rms(error) <= 1.5 * np.maximum(rms(alone), total) + 2e-4).all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", NETS)
def test_no_synapse_has_more_bits_than_asked_for(kind: str, mode: str) -> None:
    program = lowered(net(kind), mode)
    for synapse in program.synapses:
        assert np.abs(synapse.values()).max() <= TOPS[mode]
        if mode == "binary":
            assert synapse.bits == 1
            assert set(np.unique(synapse.values())) <= {-1, 1}
        elif mode == "ternary":
            assert synapse.bits in (1, "ternary")
        else:
            assert synapse.bits in (1, "ternary") or synapse.bits <= (8 if mode == "keep" else int(mode[3:]))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", NETS)
def test_a_sum_costs_no_more_than_the_bits_of_its_branches(kind: str, mode: str) -> None:
    graph = net(kind)
    got, value = summed(lowered(graph, mode), X)
    branches = [graph.layer("a"), graph.layer("b")]
    want = sum(current(layer, value) for layer in branches)
    alone = sum(
        current(layer, value, best(layer.weight.numpy(), mode) if isinstance(layer, Conv2dLayer) else None)
        for layer in branches
    )
    assert (rms(want) > 0.1).all()  # a real current in every channel
    close(got - want, alone - want)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", NETS)
def test_sums_are_equal_on_both_backends(kind: str, mode: str) -> None:
    assert snn2chip.check(lowered(net(kind), mode), X[:4], backends=("reference", "torch")).equal


def factor(program: Program, soma: str) -> np.ndarray:
    """What the identity into `soma` multiplies its source's payload value by, read off the integers."""
    into = program[soma]
    assert isinstance(into, Soma)
    mu = np.asarray(program.meta["units"]["potential"][soma])
    delta = mu * into.gain[0] / 2.0 ** np.asarray(into.gain_shift).ravel()
    (synapse,) = (n for e in program.into[soma] if isinstance(n := program[e.src], Synapse) and n.kind != "conv2d")
    got = delta * synapse.dense() * 2.0**synapse.exponent
    (source,) = (program[e.src] for e in program.into[synapse.name])
    if isinstance(source, Soma) and source.fire == "relay":
        got = got * source.gain[0] * source.out_gain / 2.0 ** np.asarray(source.out_shift)
        (synapse,) = (program[e.src] for e in program.into[source.name])
        assert isinstance(synapse, Synapse)
        got = got * synapse.dense()
        (source,) = (program[e.src] for e in program.into[synapse.name])
    return np.ravel(got / program.meta["units"]["payload"][source.name][0])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["identity", "signed", "input", "pool"])
def test_the_factor_of_an_identity_is_right_to_nine_bits(kind: str, mode: str) -> None:
    graph = net(kind)
    want = np.broadcast_to(graph.layer("b").factor.numpy(), (4,))
    assert np.abs(factor(lowered(graph, mode), "n") / want - 1).max() < 2.0**-9


def test_an_identity_that_the_unit_is_tied_to_is_exact_without_a_relay() -> None:
    program = lowered(net("input"), "int8")
    assert not [s for s in program.somas if s.fire == "relay"]
    assert np.abs(factor(program, "n") * 255 - 1).max() < 1e-12


def test_overrides_give_every_branch_its_own_width() -> None:
    program = lowered(net("projection"), "int8", overrides={"net.b": "int3"})
    assert (program["a"].bits, program["b"].bits) == (8, 3)
    assert np.abs(program["b"].weight).max() == 3
    program = lowered(net("projection"), "binary", overrides={"a": "int8"})
    assert (program["a"].bits, program["b"].bits) == (8, 1)


@pytest.mark.parametrize("mode", ["keep", "int4", "binary"])
@pytest.mark.parametrize("dead", ["a", "b"])
def test_a_branch_without_weights_in_a_channel_leaves_the_others_alone(dead: str, mode: str) -> None:
    """A norm whose scale went to zero: the sum is the other branch there."""
    graph = net("projection")
    layers = {layer.name: layer for layer in graph.layers}
    layer = layers[dead]
    weight = layer.weight.clone()
    weight[2] = 1e-12 * weight[2]
    weight[3] = 0.0
    layers[dead] = attrs.evolve(layer, weight=weight)
    graph = LayerGraph(layers=tuple(layers.values()), inputs=graph.inputs, steps=STEPS)
    got, value = summed(lowered(graph, mode), X)
    branches = [graph.layer("a"), graph.layer("b")]
    want = sum(current(layer, value) for layer in branches)
    alone = sum(current(layer, value, best(layer.weight.numpy(), mode)) for layer in branches)
    close(got - want, alone - want)
