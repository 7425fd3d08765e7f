"""Exact algebra of affine maps: a scale and shift per channel moved into weights, biases and somas.

    after a map    f*(W x + b) + c        = (f W) x + (f b + c)
    before a map   W (f*x + c) + b        = (W f) x + (W c + b)
    before a soma  gain*(f*I + c) + bias  = (gain f)*I + (bias + gain c)        c times the row sums of a window

All in float64. Exact weight parts `scale*integers` follow: a negative factor flips the signs of the integers, its
size goes to the scale; where a factor differs between input channels the parts cannot follow and are dropped.
"""

from __future__ import annotations

import math
from typing import TypeVar

import attrs
import torch
from torch import Tensor

from snn2chip.ir.channel_layers import ScaleLayer, SumPoolLayer
from snn2chip.ir.layers import FloatSoma, Layer, Shape
from snn2chip.ir.linear_layers import AffineLayer, Conv2dLayer, LinearLayer, WeightParts
from snn2chip.ir.space_layers import ResampleLayer

_Affine = TypeVar("_Affine", LinearLayer, Conv2dLayer)


def widen(value: Tensor, count: int) -> Tensor:
    """Return a scalar or `[count]` tensor as `[count]` in float64."""
    return value.double().flatten().expand(count)


def rows(factor: Tensor, like: Tensor) -> Tensor:
    """Return `[O]` ready to multiply weights `[O,...]`."""
    return factor.view(-1, *[1] * (like.dim() - 1))


def scaled_rows(weight: Tensor, factor: Tensor) -> Tensor:
    """Return `factor[o] * weight[o]`, rounded once to the weight's own type, which keeps large networks small."""
    made = torch.empty_like(weight)
    for row, size, out in zip(weight, factor.tolist(), made, strict=True):
        out.copy_(row.double() * size)
    return made


def plain_number(value: Tensor) -> Tensor:
    """Return a scalar for a tensor of equal numbers, else the tensor."""
    return value.flatten()[0] if bool((value == value.flatten()[0]).all()) else value


def scaled_output(layer: Layer, factor: Tensor, shift: Tensor | None) -> Layer | None:
    """Return `factor*layer(x) + shift` as one layer of the same kind, or None if that kind cannot hold it."""
    if isinstance(layer, AffineLayer):
        outputs = layer.weight.shape[0]
        f = widen(factor, outputs)
        bias = layer.bias_or_zero().double() * f
        bias = bias if shift is None else bias + widen(shift, outputs)
        parts = None if layer.parts is None else scaled_parts(layer.parts, f)
        weight = scaled_rows(layer.weight, f) if parts is None else parts.weight()
        kept = None if layer.bias is None and shift is None else bias
        return attrs.evolve(layer, weight=weight, bias=kept, parts=parts)
    if isinstance(layer, ScaleLayer):
        old = layer.shift
        moved = None if old is None else old.double() * factor.double()
        if shift is not None:
            moved = shift.double() if moved is None else moved + shift.double()
        return attrs.evolve(layer, factor=layer.factor.double() * factor.double(), shift=moved)
    if isinstance(layer, SumPoolLayer) and shift is None:
        return as_sumpool(layer, factor=plain_number(layer.factor.double() * factor.double()))
    if isinstance(layer, ResampleLayer) and shift is None:
        return attrs.evolve(layer, factor=plain_number(layer.factor.double() * factor.double()))
    return None


def scaled_parts(parts: WeightParts, factor: Tensor) -> WeightParts:
    """Return the parts of `factor[o] * w[o]`: signs of negative factors flipped, sizes in the scale."""
    sign = torch.where(factor < 0, -1, 1).to(torch.int64)
    return WeightParts(scale=parts.scale.double() * factor.abs(), integers=parts.integers * rows(sign, parts.integers))


def scaled_input(layer: Layer, factor: Tensor, shift: Tensor | None, *, shape: Shape) -> Layer | None:
    """Return `layer(factor*x + shift)` as one layer, for x of `shape`; None if that is not exact.

    A shift in front of zero padding is not exact: padding would have to become `-shift/factor`.
    """
    if isinstance(layer, LinearLayer):
        per_feature = math.prod(shape) // (shape[0] if shape else 1)
        f, c = (_per_input(v, shape, per_feature) for v in (factor, shift))
        assert f is not None
        return _with_inputs(layer, f.view(1, -1), None if c is None else layer.weight.double() @ c)
    if isinstance(layer, Conv2dLayer):
        if shift is not None and layer.padding != (0, 0):
            return None
        return conv_scaled_input(layer, factor, shift, channels=shape[0])
    if isinstance(layer, ScaleLayer):
        moved = None if shift is None else layer.factor.double() * shift.double()
        if layer.shift is not None:
            moved = layer.shift.double() if moved is None else moved + layer.shift.double()
        return attrs.evolve(layer, factor=layer.factor.double() * factor.double(), shift=moved)
    if isinstance(layer, SumPoolLayer) and shift is None:
        return as_sumpool(layer, factor=plain_number(layer.factor.double() * factor.double()))
    if isinstance(layer, ResampleLayer) and shift is None:
        return attrs.evolve(layer, factor=plain_number(layer.factor.double() * factor.double()))
    return None


def conv_scaled_input(layer: Conv2dLayer, factor: Tensor, shift: Tensor | None, *, channels: int) -> Conv2dLayer:
    """Return the convolution of factor*x + shift, as if padding were shifted too."""
    f = _by_group(layer, widen(factor, channels))
    moved = None
    if shift is not None:
        moved = (layer.weight.double() * _by_group(layer, widen(shift, channels))).sum((1, 2, 3))
    return _with_inputs(layer, f, moved)


def _by_group(layer: Conv2dLayer, value: Tensor) -> Tensor:
    """Return `[C]` as `[O, C/groups, 1, 1]`: the input channels every output channel reads."""
    per_group = value.view(layer.groups, -1)
    return per_group.repeat_interleave(layer.weight.shape[0] // layer.groups, 0)[:, :, None, None]


def _per_input(value: Tensor | None, shape: Shape, per_channel: int) -> Tensor | None:
    if value is None:
        return None
    return widen(value, shape[0] if shape else 1).repeat_interleave(per_channel)


def _with_inputs(layer: _Affine, factor: Tensor, moved: Tensor | None) -> _Affine:
    same = plain_number(factor)
    parts = None
    if layer.parts is not None and same.dim() == 0:
        parts = scaled_parts(layer.parts, same.expand(layer.weight.shape[0]))
    weight = layer.weight.double() * factor if parts is None else parts.weight()
    bias = layer.bias if moved is None else layer.bias_or_zero().double() + moved
    return attrs.evolve(layer, weight=weight, bias=bias, parts=parts)


def as_sumpool(layer: SumPoolLayer, *, factor: Tensor) -> SumPoolLayer:
    """Return a plain sum-pool of the same geometry with another factor."""
    return SumPoolLayer(
        name=layer.name,
        path=layer.path,
        source=layer.source,
        kernel=layer.kernel,
        stride=layer.stride,
        padding=layer.padding,
        factor=factor,
    )


def scaled_current(soma: FloatSoma, factor: Tensor, shift: Tensor | None) -> FloatSoma:
    """Return the soma that reads I where the old one read factor*I + shift."""
    gain, bias = soma.gain.double(), soma.bias.double()
    if shift is not None:
        moved = gain * shift.double()
        if soma.window is not None:
            moved = moved.reshape(-1, moved.shape[-1] if moved.dim() else 1) * soma.window.double().sum(1)[:, None]
        bias = bias + moved
        bias = bias[0] if bias.dim() == 2 and bool((bias == bias[0]).all()) else bias
    return attrs.evolve(soma, gain=gain * factor.double(), bias=bias)
