"""Every pass keeps what a network computes: with dyadic weights, to the last bit in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from snn2chip.errors import UnsupportedError
from snn2chip.frontends.torch import trace
from snn2chip.ir.graph import LayerGraph
from snn2chip.nn import MHT, TimeFold
from snn2chip.passes import (
    DEFAULT,
    ComposeLinear,
    ExpandAttention,
    FoldBatchNorm,
    FoldInputNorm,
    LeakRange,
    Pass,
    run_passes,
)
from snn2chip.testing.nets import NETS, dyadic, sample


def traced(name: str) -> tuple[LayerGraph, Tensor, Tensor]:
    """Return the graph of a net, another input with its steps first, and the model's own output for it."""
    make, shape, _, _ = NETS[name]
    model = dyadic(make(), seed=4)
    graph = trace(model, sample(*shape, seed=2))
    x = sample(*shape, seed=8)
    with torch.no_grad():
        expected = model(x).double()
    return graph, (x.transpose(0, 1) if name == "batch first" else x).double(), expected


@pytest.mark.parametrize("name", NETS)
def test_default_pipeline_is_exact(name: str) -> None:
    graph, x, expected = traced(name)
    lowered = run_passes(graph)
    assert lowered.normal_form_breaches() == []
    run = lowered.run(x, collect=True)
    assert torch.equal(run.output, expected)
    assert all(bool((run.values[layer.name] != 0).any()) for layer in lowered.of_kind("neuron"))
    original = graph.run(x, collect=True).values
    for layer in graph.of_kind("neuron"):  # same names, same spikes
        assert torch.equal(run.values[layer.name].reshape(original[layer.name].shape), original[layer.name])
    assert run_passes(lowered).text() == lowered.text()


@pytest.mark.parametrize("step", [*DEFAULT, FoldBatchNorm(into_weights=False), ComposeLinear(pools=False)], ids=repr)
def test_every_pass_alone_is_exact(step: Pass) -> None:
    changed = 0
    for name in NETS:
        graph, x, expected = traced(name)
        before = graph.text()
        after = run_passes(graph, passes=[step], normal_form=False)
        assert torch.equal(after.run(x).output, expected), name
        assert graph.text() == before, "a pass changed its input"
        changed += after.text() != before
    # none of these declares raw integers, attends channels or has leaks beyond 8
    assert changed or isinstance(step, (FoldInputNorm, ExpandAttention, LeakRange))


def test_what_is_left_is_reported_at_once() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2))
    graph = trace(model, torch.rand(3, 4))
    with pytest.raises(UnsupportedError) as error:
        run_passes(graph)
    assert [b.split(":")[0] for b in error.value.breaches] == ["relu1 (1)", "relu2 (3)"]
    assert all("convert it to a neuron" in b for b in error.value.breaches)


class Shortcuts(nn.Module):
    """One convolution read by a neuron and a sum, a sum read twice, a value added to itself."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.act1 = TimeFold(nn.Conv2d(1, 3, 3, padding=1)), MHT(steps=2, levels=4)
        self.conv = TimeFold(nn.Conv2d(3, 3, 3, padding=1))
        self.act2, self.act3 = MHT(steps=2, levels=2), MHT(steps=2, levels=2)

    def forward(self, x: Tensor) -> Tensor:
        u = self.stem(x)
        s = self.act1(u)
        w = self.conv(s) + u
        return self.act3((w + w) + (s + s) + self.act2(w)).flatten(2)


def test_relays_part_synapses() -> None:
    graph = trace(dyadic(Shortcuts(), seed=4), sample(2, 3, 1, 4, 4))
    lowered = run_passes(graph)
    x = sample(2, 3, 1, 4, 4, seed=6).double()
    assert torch.equal(lowered.run(x).output, graph.run(x).output)
    relays = {
        src.name
        for layer in lowered.of_kind("neuron")
        if layer.name.startswith("relay")
        for src in lowered.sources(layer.name)
    }
    assert relays == {"conv1", "add1"}  # the stem, read by a neuron and a sum; the sum that is read three times
    factors = sorted(float(layer.factor) for layer in lowered.of_kind("scale"))
    assert factors == [1.0, 1.0, 2.0, 2.0]  # stem and act2 once; w and s were added to themselves
    assert lowered.output.shape == (48,)


@pytest.mark.parametrize("kernel", [2, 4])
def test_pool_that_cannot_be_composed_gets_a_relay(kernel: int) -> None:
    """A pool that leaves out the last row in front of a padded convolution: composing would read that row."""
    model = nn.Sequential(
        TimeFold(nn.Conv2d(1, 2, 1)), MHT(steps=2, levels=4), TimeFold(nn.AvgPool2d(kernel)),
        TimeFold(nn.Conv2d(2, 2, 3, padding=1)), MHT(steps=2, levels=4),
    )  # fmt: skip
    graph = trace(dyadic(model, seed=4), sample(2, 3, 1, 9, 9))
    lowered = run_passes(graph)
    assert [layer.name for layer in lowered.of_kind("sumpool")] == ["pool1"]
    assert lowered.inputs["conv2"] == ("relay1",)
    x = sample(2, 3, 1, 9, 9, seed=6).double()
    assert torch.equal(lowered.run(x).output, graph.run(x).output)
    whole = run_passes(trace(model, sample(2, 3, 1, 8, 8)))
    assert whole.of_kind("sumpool") == ()
    assert whole.layer("conv2").out_shape([(2, 8, 8)])[0] == (2, 8 // kernel, 8 // kernel)


def test_growth_is_limited() -> None:
    model = nn.Sequential(MHT(steps=2), TimeFold(nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(2, 3))))
    graph = trace(dyadic(model, seed=4), sample(2, 3, 2, 8, 8))
    less = ComposeLinear(max_growth=63)
    small = run_passes(graph, passes=[less if isinstance(step, ComposeLinear) else step for step in DEFAULT])
    assert len(small.of_kind("sumpool")) == 1
    assert run_passes(graph).of_kind("sumpool") == ()
    x = sample(2, 3, 2, 8, 8, seed=6).double()
    assert torch.equal(small.run(x).output, graph.run(x).output)


class SharedConv(nn.Module):
    """A convolution read by neurons and by a pool; two linear layers in a row; flattened branches added."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool = TimeFold(nn.Conv2d(1, 2, 3)), TimeFold(nn.AvgPool2d(2))
        self.act1, self.act2 = MHT(steps=2, levels=4), MHT(steps=2, levels=4)
        self.low, self.head = nn.Linear(8, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        u = self.conv(x)
        a, b = self.pool(self.act1(u)), self.act2(self.pool(u))
        return self.head(self.low(a.flatten(2) + b.flatten(2))).mean(0)


def test_shared_convolution_keeps_its_own_form() -> None:
    model = dyadic(SharedConv(), seed=4)
    graph = trace(model, sample(2, 3, 1, 6, 6))
    x = sample(2, 3, 1, 6, 6, seed=6)
    with torch.no_grad():
        expected = model(x).double()
    lowered = run_passes(graph)
    run = lowered.run(x.double(), collect=True)
    assert torch.equal(run.output, expected)
    assert all(bool((run.values[layer.name] != 0).any()) for layer in lowered.of_kind("neuron"))
    # the plain convolution for act1, another one with the pool inside for act2, both under the user's path
    assert [layer.path for layer in lowered.of_kind("conv2d")] == ["conv.module", "conv.module"]
    shapes = {lowered.shapes[layer.name] for layer in lowered.of_kind("conv2d")}
    assert shapes == {(2, 4, 4), (2, 2, 2)}
    # head after low is one map [2, 8] on the sum, behind the relay that carries it
    assert [lowered.shapes[layer.name] for layer in lowered.of_kind("linear")] == [(2,)]
    assert lowered.of_kind("flatten") == ()
