"""Small float graphs in normal form for tests, with numbers that are exact in binary."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from snn2chip.ir.channel_layers import ScaleLayer
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import AddLayer, FloatSoma, InputLayer, OutputLayer
from snn2chip.ir.linear_layers import Conv2dLayer, LinearLayer, WeightParts
from snn2chip.ir.neuron_layer import NeuronLayer


def binary(shape: tuple[int, ...], scale: float, seed: int) -> dict[str, Any]:
    """Random ±scale weights as a trained binary layer hands them over."""
    signs = torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    parts = WeightParts(scale=torch.full((shape[0],), scale, dtype=torch.float64), integers=signs)
    return {"weight": parts.weight(), "parts": parts}


def grid(shape: tuple[int, ...], step: float, top: int, seed: int) -> Tensor:
    """Random multiples of `step` up to `top` steps, float64."""
    values = torch.randint(-top, top + 1, shape, generator=torch.Generator().manual_seed(seed))
    return values.double() * step


def neuron(name: str, steps: int, **fields: Any) -> NeuronLayer:
    """A multi-level neuron with theta 1/2 unless `fields` say otherwise."""
    return NeuronLayer(
        name=name, path=f"net.{name}", soma=FloatSoma(steps=steps, **{"theta": 0.5, "unit": 0.5, **fields})
    )


def chain(steps: int, *, reduce: str = "mean", **fields: Any) -> LayerGraph:
    """input [1,6,6] -> conv(float) -> neuron -> conv(binary) -> neuron -> linear(float) -> output."""
    layers = (
        InputLayer(name="x", shape=(1, 6, 6)),
        Conv2dLayer(
            name="c1", path="net.c1", weight=_full_scale((4, 1, 3, 3), 1), bias=grid((4,), 2.0**-5, 9, 2), padding=1
        ),
        neuron("n1", steps, levels=3, **fields),
        Conv2dLayer(
            name="c2", path="net.c2", **binary((5, 4, 3, 3), 2.0**-3, 3), bias=grid((5,), 2.0**-5, 9, 4), stride=2
        ),
        neuron("n2", steps, levels=2, **fields),
        LinearLayer(name="fc", path="net.fc", weight=_full_scale((3, 20), 5), bias=grid((3,), 2.0**-4, 9, 6)),
        OutputLayer(name="output", reduce=reduce),
    )
    names = [layer.name for layer in layers]
    return LayerGraph(layers=layers, inputs={b: (a,) for a, b in pairwise(names)}, steps=steps)


def _full_scale(shape: tuple[int, ...], seed: int) -> Tensor:
    """Multiples of 2^-7 whose largest magnitude per output is 127 * 2^-7, so that 8 bits hold them exactly."""
    weight = grid(shape, 2.0**-7, 60, seed)
    weight.view(shape[0], -1)[:, 0] = 127 * 2.0**-7
    return weight


def residual(steps: int) -> LayerGraph:
    """input [4] -> fc -> n1 -> (binary fc + identity) -> n2 -> fc -> output."""
    first = grid((8, 4), 2.0**-7, 60, 1)
    first[:, 0] = 127 * 2.0**-7
    layers = (
        InputLayer(name="x", shape=(4,)),
        LinearLayer(name="f1", path="net.f1", weight=first),
        neuron("n1", steps, levels=3),
        LinearLayer(name="f2", path="net.f2", **binary((8, 8), 2.0**-2, 7), bias=grid((8,), 2.0**-4, 5, 8)),
        ScaleLayer(name="skip", path="net", factor=torch.tensor(1.0, dtype=torch.float64)),
        AddLayer(name="add", path="net"),
        neuron("n2", steps, levels=3),
        LinearLayer(name="fc", path="net.fc", weight=_full_scale((3, 8), 5)),
        OutputLayer(name="output"),
    )
    edges = {"f1": ("x",), "n1": ("f1",), "f2": ("n1",), "skip": ("n1",), "add": ("f2", "skip"), "n2": ("add",)}
    return LayerGraph(layers=layers, inputs={**edges, "fc": ("n2",), "output": ("fc",)}, steps=steps)
