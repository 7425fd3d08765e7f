"""Which layer needs its bits: the float network with one layer's weights quantized at a time.

Everything else stays float (thresholds, potentials, other layers), so a row is that layer's own influence. The row
of all layers together is the bits sweep. Rows follow from one float run and one run per row, block by block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from math import prod
from typing import Any

import attrs
import numpy as np
import torch

from snn2chip.data.labels import check_labels
from snn2chip.errors import InputError
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.linear_layers import AffineLayer
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.quantize.spec import QuantSpec
from snn2chip.quantize.weights import errors, quantize_weights

MODES = ("int8", "int4", "int2", "ternary", "binary")
ALL = "all layers"
NOISE = 1e-5
"""Rounding of a float32 network, relative to a layer's largest value."""


@attrs.frozen(kw_only=True)
class Sensitivity:
    """What it costs to quantize `layer` alone in `mode`.

    `accuracy` (None without labels), `agreement`: share of samples with the float network's class; `spikes`: share of
    the payloads of all neurons that stay the same, `lowest` of the neurons' layers the smallest such share.
    """

    layer: str
    mode: str
    accuracy: float | None
    agreement: float
    spikes: float
    lowest: float


def sensitivity(
    graph: LayerGraph,
    inputs: Any,
    *,
    modes: Sequence[str] = MODES,
    layers: str = "*",
    labels: Any = None,
    time_axis: bool = False,
    block: int = 64,
    progress: Callable[[int], None] | None = None,
) -> tuple[Sensitivity, ...]:
    """Quantize the layers that fit the pattern `layers` one at a time, then together, in every mode.

    `graph`: a float graph (its folded form is what the quantizer sees) on raw samples `[N, ...]` (`[T, N, ...]` with
    `time_axis`). Weights that were trained in a mode's width stay. `progress` is told after every run how many
    samples it took, in all `rows * samples`. Raises InputError for a mode, pattern or labels that do not fit.
    """
    for mode in modes:
        QuantSpec(weights=mode)
    chosen = matching(graph, layers)
    x = np.asarray(inputs)
    axis = 1 if time_axis else 0
    total = x.shape[axis]
    y = None if labels is None else np.asarray(labels)
    if total == 0 or (y is not None and len(y) != total):
        raise InputError(f"{total} samples" + ("" if y is None else f", {len(y)} labels"))
    if y is not None:
        check_labels(y, prod(graph.shapes[graph.output.name]), name="labels")
    variants: dict[tuple[str, str], LayerGraph] = {}
    for mode in modes:
        changed = [_quantized(layer, mode) for layer in chosen]
        variants |= {(_title(layer), mode): graph.with_layers(layer) for layer in changed}
        variants[ALL, mode] = graph.with_layers(*changed)
    counts = {key: _Counts() for key in variants}
    for start in range(0, total, block):
        part = torch.as_tensor(x[:, start : start + block] if time_axis else x[start : start + block]).float()
        truth = graph.run(part, collect=True)
        want = truth.output.flatten(1).argmax(1)
        for key, variant in variants.items():
            counts[key].add(graph, truth, want, variant.run(part, collect=True), y, start)
            if progress is not None:
                progress(len(want))
    return tuple(counts[key].row(*key, total=total, labelled=y is not None) for key in variants)


def matching(graph: LayerGraph, pattern: str) -> list[AffineLayer]:
    """The layers with weights whose name or path fits the pattern; InputError if there are none."""
    maps = [m for m in graph.layers if isinstance(m, AffineLayer)]
    chosen = [m for m in maps if fnmatchcase(m.name, pattern) or fnmatchcase(m.path, pattern)]
    if not chosen:
        raise InputError(f"no layer with weights is called {pattern!r}; there are {', '.join(_title(m) for m in maps)}")
    return chosen


def sensitivity_text(rows: Sequence[Sensitivity]) -> str:
    """The rows as a table of text, the most sensitive layer of a mode first."""
    head = f"{'layer':<28} {'weights':<8} {'accuracy':>9} {'agreement':>9} {'spikes':>9} {'lowest':>9}"
    modes = list(dict.fromkeys(row.mode for row in rows))
    ordered = sorted(rows, key=lambda row: (modes.index(row.mode), row.spikes))
    lines = [head, "-" * len(head)]
    for row in ordered:
        accuracy = "-" if row.accuracy is None else f"{row.accuracy:.4f}"
        shares = f"{accuracy:>9} {row.agreement:>9.4f} {row.spikes:>9.4f} {row.lowest:>9.4f}"
        lines.append(f"{row.layer:<28} {row.mode:<8} {shares}")
    return "\n".join(lines)


def _title(layer: AffineLayer) -> str:
    return layer.path or layer.name


def _quantized(layer: AffineLayer, mode: str) -> AffineLayer:
    """The layer with float weights that are exactly the integers times their unit."""
    target = layer.weight.detach().cpu().double().numpy()
    made = quantize_weights(layer, target, np.ones(1), mode)
    if made.exact:
        return layer
    weight = torch.as_tensor((target + errors(made).reshape(target.shape)), dtype=layer.weight.dtype)
    return attrs.evolve(layer, weight=weight.to(layer.weight.device), parts=None)


@attrs.define
class _Counts:
    hits: int = 0
    same: int = 0
    equal: dict[str, int] = attrs.field(factory=dict)
    sent: dict[str, int] = attrs.field(factory=dict)

    def add(self, graph: LayerGraph, truth: Any, want: torch.Tensor, got: Any, labels: Any, start: int) -> None:
        """One block of samples."""
        classes = got.output.flatten(1).argmax(1)
        self.same += int((classes == want).sum())
        if labels is not None:
            self.hits += int((classes.cpu().numpy() == labels[start : start + len(classes)]).sum())
        for layer in graph.layers:
            if isinstance(layer, NeuronLayer) and layer.soma.fire not in ("relay", "sigmoid", "none"):
                a, b = truth.values[layer.name], got.values[layer.name]
                near = (a - b).abs() <= NOISE * a.abs().amax()
                self.equal[layer.name] = self.equal.get(layer.name, 0) + int(near.sum())
                self.sent[layer.name] = self.sent.get(layer.name, 0) + near.numel()

    def row(self, layer: str, mode: str, *, total: int, labelled: bool) -> Sensitivity:
        """The shares."""
        shares = [self.equal[name] / self.sent[name] for name in self.sent]
        return Sensitivity(
            layer=layer,
            mode=mode,
            accuracy=self.hits / total if labelled else None,
            agreement=self.same / total,
            spikes=sum(self.equal.values()) / max(sum(self.sent.values()), 1),
            lowest=min(shares, default=1.0),
        )
