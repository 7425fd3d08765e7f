"""IC-SNN: ReLU networks to IF neurons with initial potentials and coding compensation.

    m = v(t-1) + W x(t) + b (+ V/(2T)),   fire where m >= V,   v = m - V*fire,   payload V

    initial       "weights"  Algorithm 1: v(0) = mean((T*w + b) mod V) over the weight tensor
                  "data"     Algorithm 2: v(0) = mean of v(T) over neurons and samples, the network run from v_start
                  "zero"     v(0) = 0
    compensation  "bias"       V/(2T) on the bias of each of the T steps, V/2 in all
                  "potential"  V/(2T) once on v_start and once more on v(0): with "data", Algorithm 3 as printed
                  "none"
    residual      "in-range"   mean of v(T) inside [0, V]; "clamp": of v(T) clipped to it; "literal": of all, as printed

The default, "zero" with "bias", is the half-threshold shift of QCFS. The literal mean is drawn far below 0 by neurons
with negative drive. With "bias" a found v(0) includes the V/2 that the bias gives, which is taken off again.
`strict` fires where m > V, as printed: a start lower by one unit on integers, by 2^-20 V in float.
In a residual block one threshold serves all activations, and only the first has an initial potential and
compensation. Source: Li et al. Mathematics 2023, 11(1), 58.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import attrs
import torch
from torch import Tensor, nn

from snn2chip.convert.activations import exchange, source_graph
from snn2chip.convert.parallel_calibration import batches
from snn2chip.convert.threshold_balance import Pool, Units, balance, block_units
from snn2chip.errors import InputError, UnsupportedError
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import FloatSoma
from snn2chip.ir.linear_layers import AffineLayer
from snn2chip.nn.base import check_choice

Initial = Literal["zero", "weights", "data"]
Compensation = Literal["bias", "potential", "none"]
Residual = Literal["in-range", "clamp", "literal"]
STRICT_LSB = 2.0**-20
"""Share of V below which a float potential counts as a tie for `strict`."""


@attrs.frozen(kw_only=True)
class ICOptions:
    """What of IC-SNN to do; the defaults are recommended, `PRINTED` holds the paper's algorithms."""

    initial: Initial = "zero"
    compensation: Compensation = "bias"
    residual: Residual = "in-range"
    strict: bool = False
    pool: Pool = attrs.field(factory=Pool)

    def __attrs_post_init__(self) -> None:
        check_choice(
            "ICOptions",
            initial=(self.initial, get_args(Initial)),
            compensation=(self.compensation, get_args(Compensation)),
            residual=(self.residual, get_args(Residual)),
        )


PLAIN = ICOptions(compensation="none")
"""Threshold balancing alone, v(0) = 0."""
PRINTED: Mapping[str, ICOptions] = {
    "I-weights": ICOptions(initial="weights", compensation="none", strict=True),
    "I-data": ICOptions(initial="data", compensation="none", residual="literal", strict=True),
    "C": ICOptions(initial="zero", compensation="potential", strict=True),
    "IC": ICOptions(initial="data", compensation="potential", residual="literal", strict=True),
}
CORRECTED: Mapping[str, ICOptions] = {
    "I-weights": ICOptions(initial="weights", compensation="none"),
    "I-data": ICOptions(initial="data", compensation="none"),
    "C": ICOptions(),
    "IC": ICOptions(initial="data", compensation="bias"),
}


def to_ic_snn(
    model: nn.Module | LayerGraph,
    sample: Tensor | None = None,
    *,
    steps: int,
    data: Tensor | Iterable[Any],
    options: ICOptions | None = None,
    units: Units | None = None,
    thresholds: Mapping[str, float] | None = None,
) -> LayerGraph:
    """Return the graph of IF neurons for every ReLU, T = `steps`; `data` is the training set (or a part of it).

    `units` are the groups of activations with one threshold (default: residual blocks), `thresholds` V by layer name
    if already known. Raises InputError and UnsupportedError that name every layer in the way (a norm must be folded
    or absent, since Algorithm 1 reads weights).
    """
    options = ICOptions() if options is None else options
    if steps < 1:
        raise InputError(f"steps={steps}: expected an integer >= 1")
    graph = source_graph(model, sample)
    _check_norms(graph)
    units = block_units(graph) if units is None else units
    parts = batches(data)
    found = balance(graph, parts, units=units, pool=options.pool) if thresholds is None else dict(thresholds)
    first = [unit[0] for unit in units]
    start = _initial(graph, found, first, parts, steps=steps, options=options)
    return build(graph, found, start, steps=steps, options=options, first=first)


def build(
    graph: LayerGraph,
    thresholds: Mapping[str, float],
    start: Mapping[str, float],
    *,
    steps: int,
    options: ICOptions,
    first: Sequence[str],
) -> LayerGraph:
    """Return the spiking graph of given thresholds V and initial potentials; compensation on the layers of `first`."""
    somas = {}
    for name, v in thresholds.items():
        spread = v / (2 * steps) if options.compensation == "bias" and name in first else 0.0
        somas[name] = FloatSoma(
            steps=steps,
            theta=v,
            unit=v,
            v_init=start.get(name, 0.0) - (STRICT_LSB * v if options.strict else 0.0),
            v_init_rule="strict" if options.strict else "round",
            bias=spread,
            method="ic-snn",
        )
    return exchange(graph, somas, steps=steps, by="ic-snn")


def _initial(
    graph: LayerGraph,
    thresholds: Mapping[str, float],
    first: Sequence[str],
    data: Sequence[Tensor],
    *,
    steps: int,
    options: ICOptions,
) -> dict[str, float]:
    once = {name: thresholds[name] / (2 * steps) if options.compensation == "potential" else 0.0 for name in first}
    if options.initial == "zero":
        return once
    if options.initial == "weights":
        found = {name: weight_potential(graph, name, threshold=thresholds[name], steps=steps) for name in first}
    else:
        running = build(graph, thresholds, once, steps=steps, options=options, first=first)
        found = residual_potentials(running, data, names=first, residual=options.residual)
    given = {name: thresholds[name] / 2 if options.compensation == "bias" else 0.0 for name in first}
    return {name: found[name] + once[name] - given[name] for name in first}


def weight_potential(graph: LayerGraph, name: str, *, threshold: float, steps: int) -> float:
    """Algorithm 1: mean((T*w + b) mod V) over the weights of the layers that feed activation `name`.

    The bias enters once and is broadcast over the fan-in, mod lies in [0, V). UnsupportedError without weights.
    """
    parts = []
    for layer in _feeding(graph, name):
        bias = layer.bias_or_zero().double().view(-1, *[1] * (layer.weight.dim() - 1))
        parts.append(torch.remainder(steps * layer.weight.double() + bias, threshold).flatten())
    if not parts:
        raise UnsupportedError(f"{graph.layer(name).label}: no layer with weights feeds it, Algorithm 1 reads weights")
    return float(torch.cat(parts).mean())


def _feeding(graph: LayerGraph, name: str) -> list[AffineLayer]:
    found: list[AffineLayer] = []
    todo = list(graph.sources(name))
    while todo:
        layer = todo.pop()
        if isinstance(layer, AffineLayer):
            found.append(layer)
        elif layer.kind not in ("relu", "neuron", "input"):
            todo += graph.sources(layer.name)
    return found


@torch.no_grad()
def residual_potentials(
    graph: LayerGraph, data: Sequence[Tensor], *, names: Sequence[str], residual: Residual = "in-range"
) -> dict[str, float]:
    """Algorithm 2: mean of v(T) over neurons and samples of a spiking graph, by layer name.

    in-range averages what lies in [0, V], clamp clips to it first, literal averages everything.
    """
    check_choice("residual_potentials", residual=(residual, get_args(Residual)))
    total = dict.fromkeys(names, 0.0)
    count = dict.fromkeys(names, 0)
    for x in data:
        after = graph.run(x, collect=True).after
        for name in names:
            layer: Any = graph.layer(name)
            v, theta = after[name][-1].double(), float(layer.soma.theta)
            if residual == "clamp":
                v = v.clamp(0, theta)
            elif residual == "in-range":
                v = v[(v >= 0) & (v <= theta)]
            total[name] += float(v.sum())
            count[name] += v.numel()
    return {name: total[name] / max(count[name], 1) for name in names}


def _check_norms(graph: LayerGraph) -> None:
    norms = [
        f"{layer.label}: a batch norm; IC-SNN reads weights and thresholds of" for layer in graph.of_kind("batchnorm")
    ]
    if norms:
        raise UnsupportedError(
            [f"{text} a network without norms, fold them first (passes.FoldBatchNorm)" for text in norms]
        )
