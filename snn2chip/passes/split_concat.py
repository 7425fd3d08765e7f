"""Concatenation over channels, taken apart: every reader of joined channels reads each source by itself.

W [a; b] + c      = (W_a a + c) + W_b b          linear maps: columns of the weights by source, then a sum
f([a; b])         = [f(a); f(b)]                 what works on every channel by itself moves in front
[a; b] otherwise  = E_a a + E_b b                E: 0/1 weights that put channels in their place
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar

import attrs
import torch
from torch import Tensor

from snn2chip.ir.channel_layers import BatchNormLayer, MaxPoolLayer, ScaleLayer, SumPoolLayer
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import (
    PER_CHANNEL,
    AddLayer,
    FlattenLayer,
    FloatSoma,
    IdentityLayer,
    Layer,
    ReluLayer,
    Shape,
)
from snn2chip.ir.linear_layers import AffineLayer, Conv2dLayer, LinearLayer, WeightParts
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.ir.space_layers import ConcatLayer, ResampleLayer
from snn2chip.passes.base import Pass
from snn2chip.passes.edit import GraphEdit

_CHANNELS: dict[type, tuple[str, ...]] = {
    BatchNormLayer: ("mean", "var", "gamma", "beta"),
    ScaleLayer: ("factor", "shift"),
    SumPoolLayer: ("factor",),
    ResampleLayer: ("factor",),
    MaxPoolLayer: (),
    ReluLayer: (),
    FlattenLayer: (),
    IdentityLayer: (),
}
_Any = TypeVar("_Any")


@attrs.frozen(kw_only=True)
class SplitConcat(Pass):
    """Remove every concatenation."""

    name: ClassVar[str] = "split-concat"

    def run(self, graph: LayerGraph) -> LayerGraph:
        """Return the graph without concatenations."""
        if not graph.of_kind("concat"):
            return graph
        edit = GraphEdit(graph, by=self.name)
        while concats := edit.of_kind("concat"):
            if not _merged(edit, concats[0]):
                _take_apart(edit, concats[0])
        return edit.finish()


def _merged(edit: GraphEdit, concat: Layer) -> bool:
    """Let joins that read this one read its sources instead; whether there was any."""
    readers = [user.name for user in edit.users(concat.name) if user.kind == "concat"]
    for reader in readers:
        given = edit.inputs[reader]
        edit.inputs[reader] = [s for src in given for s in (edit.inputs[src] if src == concat.name else [src])]
    if readers and not edit.users(concat.name):
        del edit.layers[concat.name], edit.inputs[concat.name]
    return bool(readers)


def _take_apart(edit: GraphEdit, concat: Layer) -> None:
    sources = edit.inputs[concat.name]
    shapes = [edit.shape(src) for src in sources]
    ends = torch.tensor([0, *(shape[0] for shape in shapes)]).cumsum(0).tolist()
    slices = [slice(a, b) for a, b in itertools.pairwise(ends)]
    for user in dict.fromkeys(layer.name for layer in edit.users(concat.name)):
        layer = edit.layers[user]
        pieces = _alone(layer, slices) or _grouped(layer, slices)
        if pieces is not None:
            _join(edit, layer, pieces, sources, ConcatLayer)
            continue
        parts = _columns(layer, shapes, slices)
        if parts is not None:
            _join(edit, layer, parts, sources, AddLayer)
            edit.note(layer.name, f"its weights are split by the {len(sources)} sources of {concat.label}")
        else:
            placed = [_placing(concat, shapes, i, slices[i]) for i in range(len(sources))]
            joined = AddLayer(name=edit.fresh("joined"), path=concat.path, source=concat.source)
            edit.layers[joined.name] = joined
            edit.inputs[joined.name] = []
            _fill(edit, joined.name, placed, sources)
            edit.rewire(user, concat.name, joined.name)
    del edit.layers[concat.name], edit.inputs[concat.name]


def _join(edit: GraphEdit, layer: Layer, pieces: Sequence[Layer], sources: Sequence[str], kind: type[Layer]) -> None:
    """Put `pieces`, one per source, in the place of `layer`, joined by a layer of `kind` under its name."""
    edit.layers[layer.name] = kind(name=layer.name, path=layer.path, source=layer.source)
    edit.inputs[layer.name] = []
    _fill(edit, layer.name, pieces, sources)


def _fill(edit: GraphEdit, joint: str, pieces: Sequence[Layer], sources: Sequence[str]) -> None:
    for piece, src in zip(pieces, sources, strict=True):
        name = edit.fresh(f"{joint}_")
        edit.layers[name] = attrs.evolve(piece, name=name)
        edit.inputs[name] = [src]
        edit.inputs[joint] = (*edit.inputs[joint], name)


def _alone(layer: Layer, slices: Sequence[slice]) -> list[Layer] | None:
    """A layer that works on every channel by itself, once per source; None for any other."""
    for kind, fields in _CHANNELS.items():
        if isinstance(layer, kind):
            return [_cut(layer, fields, part) for part in slices]
    if isinstance(layer, NeuronLayer) and layer.soma.trained is None and layer.feedback is None:
        return [attrs.evolve(layer, soma=_soma(layer.soma, part)) for part in slices]
    return None


def _cut(value: _Any, fields: Sequence[str], part: slice) -> _Any:
    """`value` with those of `fields` that differ between channels cut down to `part` of the last axis."""
    found: dict[str, Tensor] = {}
    for name in fields:
        given = getattr(value, name)
        if given is not None and given.dim() and given.shape[-1] > 1:
            found[name] = given[..., part]
    return attrs.evolve(value, **found)  # type: ignore[misc]


def _soma(soma: FloatSoma, part: slice) -> FloatSoma:
    return _cut(soma, PER_CHANNEL, part)


def _grouped(layer: Layer, slices: Sequence[slice]) -> list[Layer] | None:
    """A grouped convolution whose groups end where the sources end, once per source."""
    if not isinstance(layer, Conv2dLayer) or layer.groups == 1:
        return None
    per_group, outputs = layer.weight.shape[1], layer.weight.shape[0] // layer.groups
    if any(part.start % per_group for part in slices):
        return None
    made: list[Layer] = []
    for part in slices:
        first, last = part.start // per_group, part.stop // per_group
        rows = slice(first * outputs, last * outputs)
        cut = _affine(layer, lambda w, rows=rows: w[rows], rows=rows)
        made.append(attrs.evolve(cut, groups=last - first))
    return made


def _columns(layer: Layer, shapes: Sequence[Shape], slices: Sequence[slice]) -> list[Layer] | None:
    """A linear map split by the sources it reads, the bias with the first; None for any other layer."""
    if isinstance(layer, LinearLayer):
        size = math.prod(shapes[0][1:])
        made: list[Layer] = []
        for part in slices:
            cut = slice(part.start * size, part.stop * size)
            made.append(_affine(layer, lambda w, cut=cut: w[:, cut], keep_bias=not made))
        return made
    if isinstance(layer, Conv2dLayer):
        dense = layer if layer.groups == 1 else _dense(layer)
        pieces: list[Layer] = []
        for part in slices:
            pieces.append(_affine(dense, lambda w, part=part: w[:, part], keep_bias=not pieces))
        return pieces
    return None


def _affine(layer: Any, cut: Callable[..., Tensor], *, rows: slice | None = None, keep_bias: bool = True) -> Any:
    """A layer with its weights, and their exact parts, cut; `rows` cuts its outputs."""
    assert isinstance(layer, AffineLayer)
    parts, bias, border = layer.parts, layer.bias, getattr(layer, "border_error", None)
    if parts is not None:
        scale = parts.scale if rows is None else parts.scale[rows]
        parts = WeightParts(scale=scale, integers=cut(parts.integers))
    if bias is not None:
        bias = (bias if rows is None else bias[rows]) if keep_bias else None
    extra: dict[str, Any] = {} if border is None else {"border_error": cut(border)}
    return attrs.evolve(layer, weight=cut(layer.weight), parts=parts, bias=bias, **extra)


def _dense(layer: Conv2dLayer) -> Conv2dLayer:
    """A grouped convolution as one of a single group, zeros between."""
    outputs, per_group = layer.weight.shape[:2]
    each = outputs // layer.groups

    def spread(w: Tensor) -> Tensor:
        wide = w.new_zeros(outputs, per_group * layer.groups, *w.shape[2:])
        for g in range(layer.groups):
            rows = slice(g * each, (g + 1) * each)
            wide[rows, g * per_group : (g + 1) * per_group] = w[rows]
        return wide

    made: Conv2dLayer = _affine(layer, spread)
    return attrs.evolve(made, groups=1)


def _placing(concat: Layer, shapes: Sequence[Shape], index: int, part: slice) -> Layer:
    """The 0/1 weights that put the channels of one source in their place among all channels."""
    channels, own = sum(shape[0] for shape in shapes), shapes[index][0]
    integers = torch.zeros(channels, own, dtype=torch.int64)
    integers[part] = torch.eye(own, dtype=torch.int64)
    where: dict[str, Any] = {"name": "", "path": concat.path, "source": concat.source}
    scale = torch.ones(channels, dtype=torch.float64)
    if len(shapes[index]) == 1:
        parts = WeightParts(scale=scale, integers=integers)
        return LinearLayer(weight=parts.weight(), parts=parts, **where)
    parts = WeightParts(scale=scale, integers=integers[:, :, None, None])
    return Conv2dLayer(weight=parts.weight(), parts=parts, **where)
