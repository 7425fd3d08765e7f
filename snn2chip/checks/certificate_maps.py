"""What the certificate needs of a graph's linear maps: the rounding of float64 itself, and who depends on whom.

|fl(W x + b) - (W x + b)| <= (n + 8) * 2^-52 * (|W| |x| + |b|)      n terms, added in any order
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import torch
from torch import Tensor

from snn2chip.errors import UnsupportedError
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import Layer
from snn2chip.ir.linear_layers import AffineLayer
from snn2chip.ir.neuron_layer import NeuronLayer

ULP = 2.0**-52


def exchanged(layer: Layer, weights: Callable[[Tensor], Tensor], bias: Callable[[Tensor], Tensor | None]) -> Layer:
    """A linear map with other weights and another bias; raises UnsupportedError for any other layer."""
    if isinstance(layer, AffineLayer):
        shift = None if layer.bias is None else bias(layer.bias.double())
        return attrs.evolve(layer, weight=weights(layer.weight.double()), bias=shift, parts=None)
    fields: dict[str, Any] = {}
    if getattr(layer, "shift", None) is not None:
        fields["shift"] = bias(layer.shift.double())  # type: ignore[attr-defined]
    if not hasattr(layer, "factor"):
        raise UnsupportedError(f"{layer.label}: a {layer.kind} has no certificate")
    fields["factor"] = weights(layer.factor.double())
    return attrs.evolve(layer, **fields)


def terms(layer: Layer, shape: tuple[int, ...]) -> int:
    """How many products a linear map of a source of `shape` adds up at most."""
    if isinstance(layer, AffineLayer):
        return layer.weight[0].numel()
    return max(1, torch.Size(shape).numel() // (shape[0] if shape else 1))


def noise_of(graph: LayerGraph, values: Mapping[str, Tensor], seen: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bounds on float64's own rounding of every layer's value `[T, B, *shape]`, readers being fed `seen`.

    `values` are the computed ones. Layers in `seen` with another value (teacher forcing) are exact for their readers.
    """
    noise: dict[str, Tensor] = {}
    for layer in graph.layers:
        names = graph.inputs.get(layer.name, ())
        if layer.kind == "output":
            continue
        given = [(seen[n], noise[n], graph.shapes[n]) for n in names]
        if layer.kind == "input":
            x = values[layer.name]
            reach = float(x.abs().max()) + (float(layer.offset.abs().max()) if layer.offset is not None else 0.0)  # type: ignore[attr-defined]
            noise[layer.name] = torch.full_like(x, ((layer.frames or 1) + 8) * ULP * reach)  # type: ignore[attr-defined]
        elif isinstance(layer, NeuronLayer):
            noise[layer.name] = _relay(layer, *given[0][:2]) if layer.soma.fire == "relay" else ULP * seen[layer.name]
        elif layer.kind == "host":
            x, bad, shape = given[0]
            for part in layer.parts:  # type: ignore[attr-defined]
                bad = _part(part, x, bad, shape)
                shape, x = part.out_shape([shape])[0], part.apply([x])
            noise[layer.name] = bad
        elif layer.kind == "add":
            noise[layer.name] = sum((bad + 4 * ULP * x.abs() for x, bad, _ in given), torch.zeros(()).double())
        else:
            noise[layer.name] = _part(layer, *given[0])
    return noise


def _part(layer: Layer, x: Tensor, bad: Tensor, shape: tuple[int, ...]) -> Tensor:
    if layer.kind == "relu":
        return bad
    if layer.kind == "maxpool":
        return layer.apply([bad])
    size = exchanged(layer, torch.abs, torch.abs)
    share = (terms(layer, shape) + 8) * ULP
    only = exchanged(layer, torch.abs, lambda _: None)
    return share * size.apply([x.abs()]) + only.apply([bad])


def _relay(layer: NeuronLayer, current: Tensor, bad: Tensor) -> Tensor:
    gain, shift = float(layer.soma.gain.abs().max()), float(layer.soma.bias.abs().max())
    return float(layer.soma.unit.abs().max()) * (gain * (bad + 8 * ULP * current.abs()) + 8 * ULP * shift)


def reached(layer: Layer, opened: list[Tensor]) -> Tensor:
    """Where a layer reads anything that is marked: bool `[T, B, *shape]` of its sources to that of its value."""
    if layer.kind == "add":
        total = sum((mark.double() for mark in opened), torch.zeros(()).double())
        return total > 0.5
    if not opened[0].any():
        return layer.apply([opened[0].double()]) > torch.inf  # nothing, in the right shape
    marks = exchanged(layer, lambda w: (w != 0).double(), lambda _: None)
    return marks.apply([opened[0].double()]) > 0.5
