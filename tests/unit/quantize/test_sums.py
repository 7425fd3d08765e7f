"""The choice of a sum's unit: what every branch loses by it, and sums that no one branch can lead."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
import torch

import snn2chip
from snn2chip.ir.channel_layers import ScaleLayer
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import AddLayer, InputLayer, OutputLayer
from snn2chip.ir.linear_layers import LinearLayer, WeightParts
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.ir.soma import Soma
from snn2chip.quantize.calibrate import calibrate
from snn2chip.quantize.lower import lower
from snn2chip.quantize.spec import QuantSpec
from snn2chip.quantize.sums import Branch, plan_sum, whole_units
from snn2chip.quantize.weights import errors, quantize_weights
from snn2chip.testing.graphs import neuron

LIMIT = 2.0**21
X = np.random.default_rng(5).integers(0, 16, (60, 6))


def layered(weight: np.ndarray, mode: str, payload: float = 3.0) -> Branch:
    layer = LinearLayer(name="w", path="net.w", weight=torch.as_tensor(weight))
    made = quantize_weights(layer, weight, np.ones(1), mode)
    reach = np.abs(weight).sum(1) * payload
    return Branch(weights=made, payload=payload, mean=1.0, power=2.0, reach=reach, width=made.bits)


def identity(factor: np.ndarray, width: int | str, payload: float = 3.0) -> Branch:
    made = whole_units(factor)
    return Branch(
        weights=made, payload=payload, mean=1.0, power=2.0, reach=np.abs(factor) * payload, width=width, identity=True
    )


def planned(*branches: Branch) -> tuple[np.ndarray, tuple[object, ...]]:
    plan = plan_sum(branches, np.sum([b.reach for b in branches], axis=0), limit=LIMIT, shift=3)
    return plan.delta, plan.weights


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("mode", ["int8", "int4", "ternary", "binary"])
def test_what_is_placed_directly_is_right_and_the_unit_leaves_relays_their_bits(seed: int, mode: str) -> None:
    rng = np.random.default_rng(seed)
    sizes = 10.0 ** rng.uniform(-1, 1, (2, 5, 1))
    branches = [layered(rng.normal(size=(5, 40)) * size, mode) for size in sizes]
    branches.append(identity(rng.uniform(0.5, 2.0, 5) * 10.0 ** rng.uniform(-1, 1), branches[0].width))
    delta, plan = planned(*branches)
    reach = np.sum([b.reach for b in branches], axis=0)
    assert (reach / delta <= LIMIT * (1 + 1e-9)).all()
    own = np.sum([b.loss for b in branches], axis=0)
    lost = np.zeros(5)
    for branch, weights in zip(branches, plan, strict=True):
        if weights is None:
            lost += branch.loss + delta**2 / 12
            continue
        assert (weights.delta == delta).all()
        top = 1 if branch.width in (1, "ternary") else 2 ** (int(branch.width) - 1) - 1
        assert np.abs(weights.values).max() <= top
        lost += np.square(errors(weights)).sum(1) * branch.power
    assert (lost <= 1.6 * own + 1e-3 * own.max() + 1e-12).all()  # at most a quarter per placed branch


def test_a_tied_identity_is_exact() -> None:
    weight = np.random.default_rng(1).normal(size=(64, 144)) * 0.05
    factor = np.linspace(0.8, 1.3, 64)
    lead = layered(weight, "int8")
    delta, (conv, skip) = planned(lead, identity(factor, 8))
    assert skip is not None
    assert conv is not None
    np.testing.assert_allclose(skip.values * delta * 2.0**skip.exponent, factor, rtol=1e-13)
    off = conv.values * (delta * 2.0**conv.exponent)[:, None] - weight
    assert (np.square(off).sum(1) <= 1.3 * np.square(errors(lead.weights)).sum(1)).all()


def net(branches: tuple[object, ...], **fields: object) -> LayerGraph:
    first = torch.randn((8, 6), generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 0.05
    layers = (
        InputLayer(name="x", shape=(6,)),
        LinearLayer(name="f1", path="net.f1", weight=first),
        neuron("n1", 2, levels=3),
        LinearLayer(name="f0", path="net.f0", weight=first.flip(0)),
        neuron("n0", 2, levels=2),
        *branches,
        AddLayer(name="add", path="net"),
        neuron("n2", 2, levels=3, **fields),
        LinearLayer(name="fc", path="net.fc", weight=torch.eye(8, dtype=torch.float64)),
        OutputLayer(name="output"),
    )
    names = [b.name for b in branches]
    edges = {"f1": ("x",), "n1": ("f1",), "f0": ("x",), "n0": ("f0",), names[0]: ("n1",), names[1]: ("n0",)}
    return LayerGraph(
        layers=layers,
        inputs={**edges, "add": tuple(names), "n2": ("add",), "fc": ("n2",), "output": ("fc",)},
        steps=2,
    )


def trained(name: str, scale: torch.Tensor, seed: int) -> LinearLayer:
    signs = torch.randint(0, 2, (8, 8), generator=torch.Generator().manual_seed(seed)) * 2 - 1
    parts = WeightParts(scale=scale.double(), integers=signs)
    return LinearLayer(name=name, path=f"net.{name}", weight=parts.weight(), parts=parts)


def skip(name: str, factor: float) -> ScaleLayer:
    return ScaleLayer(name=name, path="net", factor=torch.tensor(factor, dtype=torch.float64))


def agreement(graph: LayerGraph, **spec: object) -> float:
    """Share of the sum neuron's payloads that are the float ones, fed by the program's own sources."""
    program = lower(graph, calibrate(graph, X), spec=QuantSpec(**spec))  # type: ignore[arg-type]
    trace = snn2chip.run(program, X, backend="reference")
    assert snn2chip.check(program, X[:5], backends=("reference", "torch")).equal
    assert trace.counts.totals["saturations"] == 0
    values = {n: torch.as_tensor(trace.payloads[n] * 0.5) for n in ("n1", "n0")}
    (a, b) = (graph.layer(n) for n in graph.inputs["add"])
    current = a.apply([values["n1"]]) + b.apply([values["n0"]])
    soma = graph.layer("n2")
    assert isinstance(soma, NeuronLayer)
    v, want = torch.zeros_like(current[0]), []
    for now in current if soma.soma.window is None else torch.einsum("ts,sbn->tbn", soma.soma.window, current):
        v = v + now
        want.append(torch.clamp(torch.floor(v / 0.5), 0, 3))
        v = v - 0.5 * want[-1]
    got = trace.payloads["n2"]
    assert (got != 0).mean() > 0.03
    return float((got == torch.stack(want).numpy()).mean())


def test_two_identities_alone() -> None:
    assert agreement(net((skip("a", 0.3731), skip("b", -0.1127)))) > 0.995
    assert agreement(net((skip("a", 0.25), skip("b", 0.5)))) == 1.0


@pytest.mark.parametrize("tiny", [1e-4, 1e-9])
def test_a_trained_channel_of_next_to_no_size_leads_no_sum(tiny: float) -> None:
    """A norm's scale near zero: its unit would push every other branch out of 24 bits."""
    scale = torch.full((8,), 0.125)
    scale[2] = tiny
    graph = net((trained("a", scale, 3), skip("b", 0.3)))
    assert agreement(graph) > 0.99
    program = lower(graph, calibrate(graph, X))
    assert program["a"].bits == 1
    assert set(np.unique(program["a"].weight)) == {-1, 1}


def test_two_trained_branches_keep_their_signs() -> None:
    graph = net((trained("a", torch.full((8,), 0.125), 3), trained("b", torch.linspace(0.05, 0.3, 8), 4)))
    assert agreement(graph) > 0.995
    program = lower(graph, calibrate(graph, X))
    assert all(set(np.unique(program[n].weight)) == {-1, 1} for n in "ab")
    assert [s.name for s in program.somas if s.fire == "relay"] == ["b_relay"]


def test_a_window_behind_a_sum_keeps_its_bits() -> None:
    window = torch.tensor([[0.9, 0.23], [0.31, 0.8]], dtype=torch.float64)
    weight = torch.randn((8, 8), generator=torch.Generator().manual_seed(9), dtype=torch.float64) * 0.2
    graph = net((LinearLayer(name="a", path="net.a", weight=weight), skip("b", 0.3)), window=window)
    assert agreement(graph) > 0.98
    program = lower(graph, calibrate(graph, X))
    soma = program["n2"]
    assert isinstance(soma, Soma)
    assert np.abs(soma.window).max() >= 32  # half a per cent of the largest entry, or better


def test_the_branch_order_does_not_matter() -> None:
    weight = np.random.default_rng(2).normal(size=(5, 30)) * 0.1
    parts = [layered(weight, "int8"), identity(np.linspace(1, 2, 5), 8)]
    forward, back = planned(*parts), planned(*parts[::-1])
    assert (forward[0] == back[0]).all()


def test_a_silent_sum_is_no_error() -> None:
    parts = [layered(np.zeros((3, 4)), "int8"), identity(np.zeros(3), 8)]
    parts = [attrs.evolve(p, reach=np.zeros(3), mean=0.0, power=0.0) for p in parts]
    delta, _ = planned(*parts)
    assert np.isfinite(delta).all()
    assert (delta > 0).all()
