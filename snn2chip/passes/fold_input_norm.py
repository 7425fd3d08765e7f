"""Fold the normalisation of the input into the first layer; zero padding then means "mean".

Raw integers r give x = g*(r - m) per channel, g = scale/std, m = mean/scale. The input becomes p = r - offset with
offset = floor(m + 1/2), so that padding with p = 0 is the mean up to the remainder d = m - offset, |d| <= 1/2:

    W x + b = (W g) p + (b - sum W g d)

exact everywhere but where a tap falls on padding: there every tap (o, c, i, j) is off by -W g d, at most half a
raw unit, recorded as the convolution's `border_error`. A normalisation inside the model (a scale right behind the
input) is folded as well, once the raw values have a declared integer unit (`LayerGraph.with_normalisation`).
"""

from __future__ import annotations

from typing import ClassVar

import attrs
import torch
from torch import Tensor

from snn2chip.ir.channel_layers import ScaleLayer, SumPoolLayer
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import InputLayer, Layer
from snn2chip.ir.linear_layers import AffineLayer, Conv2dLayer
from snn2chip.passes.affine import conv_scaled_input, plain_number, scaled_input, widen
from snn2chip.passes.base import Pass
from snn2chip.passes.edit import GraphEdit


@attrs.frozen(kw_only=True)
class FoldInputNorm(Pass):
    """Fold scale, mean and std of the input into every layer that reads it."""

    name: ClassVar[str] = "fold-input-norm"

    def run(self, graph: LayerGraph) -> LayerGraph:
        """Return the graph whose inputs only subtract an integer offset."""
        edit = GraphEdit(graph, by=self.name)
        for layer in graph.input_layers:
            _absorb(edit, layer.name)
            _fold(edit, layer.name)
        return edit.finish()


def _fold(edit: GraphEdit, name: str) -> None:
    """Fold what one input does besides an integer offset into its readers."""
    given = edit.layers[name]
    assert isinstance(given, InputLayer)
    if not given.normalises or given.scale is None:
        return
    channels = given.shape[0] if given.shape else 1
    zero, one = torch.zeros(1), torch.ones(1)
    mean = widen(zero if given.mean is None else given.mean, channels) / given.scale
    factor = given.scale / widen(one if given.std is None else given.std, channels)
    offset = torch.floor(mean + 0.5)
    rest = mean - offset
    shift = -factor * rest if bool((rest != 0).any()) else None
    kept = offset if bool((offset != 0).any()) else None
    edit.replace(attrs.evolve(given, scale=1.0, mean=None, std=None, offset=kept))
    text = "raw units between the mean and the integer offset, the error of a tap on padding"
    edit.note(given.name, text, value=float(rest.abs().max()))
    for user in dict.fromkeys(layer.name for layer in edit.users(given.name)):
        _fold_into(edit, given, edit.layers[user], plain_number(factor), shift)


def _absorb(edit: GraphEdit, name: str) -> None:
    """Take scales behind the input into its normalisation: f*((r*s - m)/d) + c = (r*s - (m - c*d/f)) / (d/f)."""
    given = edit.layers[name]
    assert isinstance(given, InputLayer)
    while given.scale is not None and given.offset is None:
        (user, *others) = edit.users(name)
        if others or not isinstance(user, ScaleLayer) or not bool((user.factor > 0).all()):
            return
        channels = given.shape[0] if given.shape else 1
        factor = widen(user.factor, channels)
        std = widen(torch.ones(1) if given.std is None else given.std, channels)
        mean = widen(torch.zeros(1) if given.mean is None else given.mean, channels)
        if user.shift is not None:
            mean = mean - widen(user.shift, channels) * std / factor
        given = attrs.evolve(given, mean=mean, std=std / factor)
        edit.replace(given)
        edit.note(name, f"{user.label} taken into the normalisation of the input")
        edit.bypass(user.name)


def _fold_into(edit: GraphEdit, given: InputLayer, user: Layer, factor: Tensor, shift: Tensor | None) -> None:
    """Let one reader of the input take factor*p + shift."""
    folded = scaled_input(user, factor, shift, shape=given.shape)
    if folded is None and isinstance(user, Conv2dLayer) and shift is not None:
        channels = given.shape[0]
        whole = conv_scaled_input(user, factor, shift, channels=channels)
        error = conv_scaled_input(user, shift, None, channels=channels).weight
        folded = attrs.evolve(whole, border_error=error)
        edit.note(user.name, "largest error of one tap on padding, float units", value=float(error.abs().max()))
    if folded is None and isinstance(user, SumPoolLayer) and user.padding == (0, 0) and shift is not None:
        folded = scaled_input(user, factor, None, shape=given.shape)
        area = user.kernel[0] * user.kernel[1]
        moved = ScaleLayer(name=edit.fresh("scale"), path=user.path, shift=shift * user.factor.double() * area)
        edit.insert(moved, source=user.name)
    if folded is None:
        scale = ScaleLayer(name=edit.fresh("scale"), path=user.path, factor=factor, shift=shift)
        edit.insert(scale, source=given.name, users=[user.name])
        return
    edit.replace(folded)
    parts = user.parts if isinstance(user, AffineLayer) else None
    if parts is not None and isinstance(folded, AffineLayer) and folded.parts is None:
        edit.note(user.name, f"{parts.kind} weights became dense floats: std differs between the channels")
