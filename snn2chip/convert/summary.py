"""What a conversion did to each layer: its threshold, its levels, and how far its mean payload is from the source.

a   activation of the source, mean over its steps       r   payload of the converted neuron, mean over its steps
bias = mean(r - a),  error = mean|r - a|,  both over samples and neurons, beside mean|a|
"""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.neuron_layer import NeuronLayer


@attrs.frozen(kw_only=True)
class LayerSummary:
    """One neuron layer: threshold range, levels and steps, and its deviation from the source (None without data)."""

    name: str
    path: str
    method: str
    theta: tuple[float, float]
    levels: int
    steps: int
    mean: float | None = None
    bias: float | None = None
    error: float | None = None


@torch.no_grad()
def summarise(
    source: LayerGraph, made: LayerGraph, x: Tensor | None = None, *, factor: float = 1.0
) -> tuple[LayerSummary, ...]:
    """Return a row per neuron of `made`; `x` are samples both take, `factor` r's own scale (L of a serialised net)."""
    runs = None if x is None else (source.run(x, collect=True).values, made.run(x, collect=True).values)
    rows = []
    for layer in made.layers:
        if not isinstance(layer, NeuronLayer):
            continue
        theta = layer.soma.theta
        row = LayerSummary(
            name=layer.name,
            path=layer.path,
            method=layer.soma.method or layer.soma.fire,
            theta=(float(theta.min()), float(theta.max())),
            levels=layer.soma.levels,
            steps=layer.soma.steps,
        )
        if runs is not None and layer.name in runs[0]:
            a, r = runs[0][layer.name].mean(0), runs[1][layer.name].mean(0) * factor
            row = attrs.evolve(
                row,
                mean=float(a.abs().mean()),
                bias=float((r - a).mean()),
                error=float((r - a).abs().mean()),
            )
        rows.append(row)
    return tuple(rows)
