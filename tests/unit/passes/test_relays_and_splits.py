"""Normal forms by hand: sums of sums become one, groups are parted where their sources end."""

from __future__ import annotations

import torch

from snn2chip.ir.channel_layers import ScaleLayer
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import AddLayer, FloatSoma, InputLayer, OutputLayer
from snn2chip.ir.linear_layers import Conv2dLayer, LinearLayer
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.passes.insert_relays import InsertRelays
from snn2chip.passes.split_concat import _grouped


def test_a_sum_of_a_sum_is_one_sum() -> None:
    """(a + b) + c into a neuron: one addition of three currents, or none if the neuron sums them itself."""
    layers = (
        InputLayer(name="x", shape=(2,)),
        *(LinearLayer(name=name, weight=torch.eye(2) * k) for k, name in enumerate("abc", 1)),
        AddLayer(name="first"),
        AddLayer(name="second"),
        NeuronLayer(name="n", soma=FloatSoma(steps=1, theta=1.0, unit=1.0)),
        OutputLayer(name="output"),
    )
    inputs = {"x": (), "a": ("x",), "b": ("x",), "c": ("x",), "first": ("a", "b"), "second": ("first", "c")}
    graph = LayerGraph(layers=layers, inputs={**inputs, "n": ("second",), "output": ("n",)}, steps=1)
    made = InsertRelays().run(graph)
    adds = list(made.of_kind("add"))
    assert len(adds) == 1
    assert sorted(made.inputs[adds[0].name]) == ["a", "b", "c"]
    x = torch.tensor([[1.0, -2.0], [0.1, 0.3]]).double()
    assert torch.equal(made.run(x).output, graph.run(x).output)


def test_a_sum_of_the_same_payloads_is_a_factor() -> None:
    """p + p into a neuron is one synapse of weight 2: no addition is left, and nothing else sums."""
    soma = FloatSoma(steps=1, theta=1.0, unit=1.0)
    layers = (
        InputLayer(name="x", shape=(2,)),
        LinearLayer(name="fc", weight=torch.eye(2, dtype=torch.float64)),
        NeuronLayer(name="p", soma=soma),
        AddLayer(name="twice"),
        NeuronLayer(name="n", soma=FloatSoma(steps=1, theta=1.5, unit=1.0)),
        OutputLayer(name="output"),
    )
    inputs = {"x": (), "fc": ("x",), "p": ("fc",), "twice": ("p", "p"), "n": ("twice",), "output": ("n",)}
    graph = LayerGraph(layers=layers, inputs=inputs, steps=1)
    made = InsertRelays().run(graph)
    assert made.of_kind("add") == ()
    (scale,) = (made.layer(name) for name in made.inputs["n"])
    assert isinstance(scale, ScaleLayer)
    assert float(scale.factor) == 2.0
    assert made.inputs[scale.name] == ("p",)
    x = torch.tensor([[1.0, 0.5]]).double()
    assert made.run(x).output.tolist() == graph.run(x).output.tolist() == [[1.0, 0.0]]


def test_groups_are_parted_where_the_sources_end() -> None:
    """Four channels in two groups: two sources of two channels read one group each; three and one cut a group."""
    layer = Conv2dLayer(name="c", weight=torch.arange(24.0).reshape(6, 2, 2, 1), groups=2)
    parts = _grouped(layer, [slice(0, 2), slice(2, 4)])
    assert parts is not None
    assert [part.groups for part in parts] == [1, 1]  # type: ignore[attr-defined]
    assert torch.equal(parts[0].weight, layer.weight[:3])  # type: ignore[attr-defined]
    assert torch.equal(parts[1].weight, layer.weight[3:])  # type: ignore[attr-defined]
    assert _grouped(layer, [slice(0, 3), slice(3, 4)]) is None
    assert _grouped(Conv2dLayer(name="c", weight=torch.ones(6, 4, 1, 1)), [slice(0, 2), slice(2, 4)]) is None
