"""Weights and biases fitted on calibration samples, layer after layer, each to what the layers before really send.

Two networks run side by side: the float one and the one rounded so far. A layer reads x in the first, y in the second:

    w'  = w + w E[(x - y) y^T] (E[y y^T] + r)^-1      if that makes up for what came before on other samples
    q, delta = w' rounded where the current feels it least (`rounding`)
    b'  = b + E[w x] - E[delta q y]                   the mean current is the float one

Moments are those about the mean. Weights trained in the width asked for keep their integers and get b' only; what
drives a neuron trained on integers is left alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from snn2chip.ir.attention_layers import BandLayer
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import Layer, OutputLayer
from snn2chip.ir.linear_layers import AffineLayer, Conv2dLayer, WeightParts
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.ir.raw import ByStep, count, holds_steps, named, part
from snn2chip.quantize.rounding import damped, round_with_feedback
from snn2chip.quantize.spec import FloatArray, QuantSpec
from snn2chip.quantize.weights import IntValues, array, folded, quantize_weights, top

RUN_BYTES = 1 << 28
"""What the values of the largest layer may take, of all samples together."""
ROWS, LEAST_ROWS, ROWS_PER_WEIGHT = 1 << 14, 1 << 12, 16
WHOLE = 2.0**-15
"""Relative error up to which weights count as on a grid that holds them already; they keep it."""
ENOUGH = 8
"""Rows per weight, of half the samples, from which on w' is looked for."""
GAIN = 0.95
"""What share of the current's error w' must leave, at most, on the other half of the samples."""


@torch.no_grad()
def fit_weights(
    graph: LayerGraph, data: Any, *, spec: QuantSpec, time_axis: ByStep = False
) -> tuple[LayerGraph, Mapping[str, WeightParts]]:
    """Fit a float graph in normal form to weights in the widths of `spec` on raw samples `[N, ...]` (`[T, N, ...]`).

    Returns the graph with its new biases, and integers with their units for the layers whose weights were rounded.
    """
    x = _first(graph, data, time_axis)
    users = {name: len(graph.users(name)) for name in graph.shapes}
    exact: dict[str, Tensor] = {}
    rounded: dict[str, Tensor] = {}
    layers: list[AffineLayer] = []
    parts: dict[str, WeightParts] = {}
    for layer in graph.layers:
        names = graph.inputs.get(layer.name, ())
        if isinstance(layer, OutputLayer):
            continue
        given = ([exact[n] for n in names], [rounded[n] for n in names]) if names else ([x[layer.name]],) * 2
        if isinstance(layer, NeuronLayer):
            exact[layer.name] = layer.simulate(given[0][0]).payload
            rounded[layer.name] = layer.simulate(given[1][0]).payload
        elif isinstance(layer, AffineLayer) and _may_change(graph, layer):
            made, found = _fit(layer, given[0][0], given[1][0], spec.mode_of(layer), _unit(graph, layer))
            layers.append(attrs.evolve(made, weight=layer.weight, parts=layer.parts))
            if found is not None:
                parts[layer.name] = found
            exact[layer.name], rounded[layer.name] = layer.apply(given[0]), made.apply(given[1])
        else:
            exact[layer.name], rounded[layer.name] = layer.apply(given[0]), layer.apply(given[1])
        for name in names:
            users[name] -= 1
            if not users[name]:
                del exact[name], rounded[name]
    return graph.with_layers(*layers), parts


def _first(graph: LayerGraph, data: Any, time_axis: ByStep) -> dict[str, Tensor]:
    """As many raw samples of every input as may be run at once, `[T or 1, N, *shape]`."""
    largest = max(math.prod(shape) for shape in graph.shapes.values())
    most = max(1, min(count(data, time_axis), RUN_BYTES // (4 * graph.steps * largest)))
    (first, *_) = layers = graph.input_layers
    found = {name or first.name: a for name, a in named(part(data, 0, most, time_axis)).items()}
    for layer in layers:
        x = torch.as_tensor(np.asarray(found[layer.name])).float()
        lead = tuple(x.shape[:2]) if holds_steps(layer.name, time_axis) else (1, most)
        found[layer.name] = x.reshape(*lead, *layer.shape)
    return found


def _may_change(graph: LayerGraph, layer: AffineLayer) -> bool:
    """Not what drives a neuron trained on integers, nor what reads payloads whose unit is found while lowering."""
    users = graph.users(layer.name)
    readers = [reader for user in users for reader in (graph.users(user.name) if user.kind == "add" else [user])]
    trained = any(isinstance(reader, NeuronLayer) and reader.soma.trained is not None for reader in readers)
    source = _source(graph, layer)
    relayed = source.kind == "host" or (isinstance(source, NeuronLayer) and source.soma.fire == "relay")
    return not (trained or relayed or isinstance(layer, BandLayer))


def _source(graph: LayerGraph, layer: Layer) -> Layer:
    (source,) = graph.sources(layer.name)
    return _source(graph, source) if source.kind == "delay" else source


def _unit(graph: LayerGraph, layer: AffineLayer) -> FloatArray:
    """The payload units that the lowering folds into the weights: 1, or those of the channels `[C]`."""
    source = _source(graph, layer)
    own = array(source.soma.unit).ravel() if isinstance(source, NeuronLayer) else np.ones(1)
    return own if own.size > 1 else np.ones(1)


def _fit(
    layer: AffineLayer, x: Tensor, y: Tensor, mode: str, unit: FloatArray
) -> tuple[AffineLayer, WeightParts | None]:
    """The layer with the weights and bias it gets, and their integers unless it keeps trained ones."""
    shape = tuple(x.shape[2:])
    target = folded(layer, unit, shape, ())
    plain = quantize_weights(layer, target, unit, mode)
    made, found = layer, None
    if not plain.exact and plain.error > WHOLE:
        values, delta = plain.values, plain.delta
        if plain.bits != 1:
            spread = torch.as_tensor(unit).reshape(-1, *[1] * (len(shape) - 1)).to(x)
            values, delta = _rounded(layer, target, x / spread, y / spread, top(plain.bits))
        found = WeightParts(scale=torch.as_tensor(delta), integers=torch.as_tensor(values.astype(np.int64)))
        back = folded(attrs.evolve(layer, weight=found.weight(), parts=None), 1.0 / unit, shape, ())
        made = attrs.evolve(layer, weight=torch.as_tensor(back).to(layer.weight), parts=None)
    off = (layer.apply([x]) - made.apply([y])).double().mean(1).transpose(0, 1).flatten(1).mean(1)
    return attrs.evolve(made, bias=layer.bias_or_zero().double() + off.cpu()), found


def _rounded(layer: AffineLayer, target: FloatArray, x: Tensor, y: Tensor, most: int) -> tuple[IntValues, FloatArray]:
    """Integers like `target` and their unit `[O]`, group by group."""
    flat = target.reshape(len(target), -1)
    groups = getattr(layer, "groups", 1)
    values, delta = np.empty(flat.shape, dtype=np.int8), np.empty(len(flat))
    for rows, (a, b) in zip(np.split(np.arange(len(flat)), groups), _reads(layer, x, y), strict=True):
        a, b = a - a.mean(0), b - b.mean(0)
        moments = b.T @ b / len(b)
        wanted = _made_up(flat[rows], a, b)
        values[rows], delta[rows] = round_with_feedback(wanted, moments, most)
    return values.reshape(target.shape), delta


def _made_up(w: FloatArray, a: FloatArray, b: FloatArray) -> FloatArray:
    """Weights `[O, K]` on `b [rows, K]` for the currents of `w` on `a`; `w` itself unless other samples gain by them.

    Where few payloads changed by chance a regression finds nothing, and its own noise is more than rounding costs.
    """
    half = len(b) // 2
    if half < ENOUGH * b.shape[1]:
        return w
    tried = _regressed(w, a[:half], b[:half])
    want = a[half:] @ w.T
    before, after = (float(np.square(want - b[half:] @ v.T).sum()) for v in (w, tried))
    return _regressed(w, a, b) if after < GAIN * before else w


def _regressed(w: FloatArray, a: FloatArray, b: FloatArray) -> FloatArray:
    found: FloatArray = w + np.linalg.solve(damped(b.T @ b / len(b)), (w @ ((a - b).T @ b / len(b))).T).T
    return found


def _reads(layer: AffineLayer, x: Tensor, y: Tensor) -> Iterator[tuple[FloatArray, FloatArray]]:
    """What the taps of every group read in both networks, float `[rows, K]`, at places spread over the samples."""
    if not isinstance(layer, Conv2dLayer):
        yield x.flatten(2).flatten(0, 1).double().numpy(), y.flatten(2).flatten(0, 1).double().numpy()
        return
    kernel, groups = tuple(layer.weight.shape[2:]), layer.groups
    taps = math.prod(layer.weight.shape[1:])
    a, b = (v.flatten(0, 1).unsqueeze(3) if v.dim() == 4 else v.flatten(0, 1) for v in (x, y))
    a, b = (functional.pad(v, [layer.padding[1]] * 2 + [layer.padding[0]] * 2) for v in (a, b))
    spans = [d * (k - 1) + 1 for d, k in zip(layer.dilation, kernel, strict=True)]
    places = [(n - span) // s + 1 for n, span, s in zip(a.shape[2:], spans, layer.stride, strict=True)]
    want = min(ROWS, max(LEAST_ROWS, ROWS_PER_WEIGHT * taps))
    skip = max(1, math.isqrt(len(a) * math.prod(places) // want))
    steps = tuple(s * min(skip, n) for s, n in zip(layer.stride, places, strict=True))
    found: list[list[Tensor]] = [[], []]
    for i in range(len(a)):  # another corner for every sample, so that all places count
        top_left = [s * (turn % min(skip, n)) for s, turn, n in zip(layer.stride, (i, i // skip), places, strict=True)]
        for v, rows in zip((a, b), found, strict=True):
            corner = v[i : i + 1, :, top_left[0] :, top_left[1] :]
            rows.append(functional.unfold(corner, kernel, dilation=layer.dilation, stride=steps)[0].T)
    both = [torch.cat(rows).double().numpy() for rows in found]
    for g in range(groups):
        own = slice(g * taps, (g + 1) * taps)
        yield both[0][:, own], both[1][:, own]
