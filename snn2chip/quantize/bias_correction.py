"""Bias correction: what rounding the weights adds to a layer's mean current is taken off its bias.

    b'[c] = b[c] - E[(W_q - W) p][c]        mean over calibration samples, steps and positions

after M. Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, ICCV 2019 (section 4.2,
with data). The weights' integers stay the same; layers that were trained in the width asked for are left alone.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import torch

from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.linear_layers import AffineLayer
from snn2chip.ir.raw import ByStep, count, like, named, part
from snn2chip.quantize.spec import QuantSpec
from snn2chip.quantize.weights import errors, quantize_weights


@torch.no_grad()
def correct_biases(
    graph: LayerGraph, data: Any, *, spec: QuantSpec, time_axis: ByStep = False, block: int = 64
) -> LayerGraph:
    """Return the float graph in normal form with biases for weights in the widths of `spec`.

    `data`: raw samples `[N, ...]` (`[T, N, ...]` with `time_axis`), of several inputs by name. Lower the result,
    measure it against `graph`.
    """
    off: dict[str, AffineLayer] = {}
    for layer in graph.layers:
        if isinstance(layer, AffineLayer):
            target = layer.weight.detach().cpu().double().numpy()
            made = quantize_weights(layer, target, np.ones(1), spec.mode_of(layer))
            if not made.exact:
                wrong = torch.as_tensor(errors(made).reshape(target.shape)).to(layer.weight.device)
                off[layer.name] = attrs.evolve(layer, weight=wrong, bias=None, parts=None)
    x = like(data, {name: torch.as_tensor(np.asarray(a)).float() for name, a in named(data).items()})
    total = count(x, time_axis)
    means: dict[str, torch.Tensor] = {}
    for start in range(0, total, block):
        run = graph.run(part(x, start, start + block, time_axis), collect=True)
        for name, wrong_layer in off.items():
            extra = wrong_layer.apply([run.values[graph.inputs[name][0]].double()])
            mean = extra.transpose(0, 2).flatten(1).mean(1) * (min(block, total - start) / total)
            means[name] = means[name] + mean if name in means else mean
    changed = []
    for name, mean in means.items():
        layer = graph.layer(name)
        assert isinstance(layer, AffineLayer)
        changed.append(attrs.evolve(layer, bias=layer.bias_or_zero().double() - mean))
    return graph.with_layers(*changed)
