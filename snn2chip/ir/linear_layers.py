"""Float layers that are affine maps: linear, conv2d, scale, batch norm, average and sum pooling.

Every one of them is `y = W x + b` for fixed W and b. `WeightParts` keeps the exact decomposition of binary,
ternary and few-bit weights, `w[o] = scale[o] * integers[o]`, so that passes can move signs and scales exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

import attrs
import torch
from torch import Tensor
from torch.nn import functional

from snn2chip.ir.layers import Layer, Shape, _tensor, brief, optional_tensor, per_channel

Pair = tuple[int, int]
_Weighted = TypeVar("_Weighted", "LinearLayer", "Conv2dLayer")


def pair(value: Any) -> Pair:
    """Return one number twice, or two numbers as they are."""
    items = tuple(int(v) for v in value) if isinstance(value, (tuple, list)) else (int(value),) * 2
    return (items * 2)[0:2] if len(items) == 1 else (items[0], items[1])


@attrs.frozen(kw_only=True, eq=False)
class WeightParts:
    """Weights as `scale[o] * integers[o]`: scale `[O]` > 0 in float, integers int64 like the weight."""

    scale: Tensor
    integers: Tensor

    @property
    def kind(self) -> str:
        """binary ({-1,+1}), ternary ({-1,0,+1}) or the signed width, such as int4."""
        top = int(self.integers.abs().max()) if self.integers.numel() else 0
        if top <= 1:
            return "binary" if bool((self.integers != 0).all()) else "ternary"
        return f"int{top.bit_length() + 1}"

    def weight(self) -> Tensor:
        """Return scale*integers in the scale's precision."""
        return self.scale.view(-1, *[1] * (self.integers.dim() - 1)) * self.integers.to(self.scale)


@attrs.frozen(kw_only=True, eq=False)
class AffineLayer(Layer):
    """What linear and conv2d share: weight `[O,...]`, optional bias `[O]`, optional exact parts of the weight."""

    weight: Tensor = attrs.field(converter=_tensor)
    bias: Tensor | None = attrs.field(default=None, converter=optional_tensor)
    parts: WeightParts | None = None

    def weight_breaches(self, dims: int) -> list[str]:
        """Return what is wrong with weight, bias and parts."""
        outputs = self.weight.shape[0]
        bad = [] if self.weight.dim() == dims else [f"weight {list(self.weight.shape)} is not {dims}-dimensional"]
        if self.bias is not None and tuple(self.bias.shape) != (outputs,):
            bad.append(f"bias has shape {list(self.bias.shape)}, expected [{outputs}]")
        if self.parts is not None:
            if self.parts.integers.shape != self.weight.shape or tuple(self.parts.scale.shape) != (outputs,):
                bad.append("weight parts and weight differ in shape")
            elif not torch.allclose(self.parts.weight().double(), self.weight.double(), rtol=1e-5, atol=0.0):
                bad.append("weight parts and weight differ in value")
        return bad

    def affine_details(self) -> list[str]:
        """Return weight and bias for the text form."""
        shown = [f"weight={brief(self.weight)}"]
        if self.parts is not None:
            shown = [f"{self.parts.kind}={brief(self.parts.integers)}", f"scale={brief(self.parts.scale)}"]
        return shown + ([] if self.bias is None else [f"bias={brief(self.bias)}"])

    def bias_or_zero(self) -> Tensor:
        """Return the bias `[O]`, zeros if there is none."""
        return self.weight.new_zeros(self.weight.shape[0]) if self.bias is None else self.bias


@attrs.frozen(kw_only=True, eq=False)
class LinearLayer(AffineLayer):
    """y = W x + b on all features of the source, flattened with the last axis fastest: `[N]` or `[C,H,W] -> [O]`."""

    kind: ClassVar[str] = "linear"

    def out_shape(self, shapes: Sequence[Shape]) -> tuple[Shape, list[str]]:
        """Return `[O]`."""
        bad = self.weight_breaches(2)
        if not bad and math.prod(shapes[0]) != self.weight.shape[1]:
            bad.append(f"weight takes {self.weight.shape[1]} inputs, the source has {list(shapes[0])}")
        return (self.weight.shape[0],), bad

    def apply(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return W x + b."""
        x = inputs[0].flatten(2)
        return functional.linear(x, self.weight.to(x), None if self.bias is None else self.bias.to(x))

    def details(self) -> list[str]:
        """Return weight and bias."""
        return self.affine_details()


@attrs.frozen(kw_only=True, eq=False)
class Conv2dLayer(AffineLayer):
    """Cross-correlation with zero padding, `[C,H,W] -> [O,H',W']`.

    `border_error` `[O, C/groups, kh, kw]`, if set, is the float error every tap makes where it falls on padding.
    """

    kind: ClassVar[str] = "conv2d"
    stride: Pair = attrs.field(default=1, converter=pair)
    padding: Pair = attrs.field(default=0, converter=pair)
    dilation: Pair = attrs.field(default=1, converter=pair)
    groups: int = 1
    border_error: Tensor | None = attrs.field(default=None, converter=optional_tensor)

    def out_shape(self, shapes: Sequence[Shape]) -> tuple[Shape, list[str]]:
        """Return `[O, H', W']` with H' = floor((H + 2*padding - dilation*(k-1) - 1)/stride) + 1."""
        bad = self.weight_breaches(4)
        if len(shapes[0]) != 3:
            return (self.weight.shape[0],), [*bad, f"needs a source [C,H,W], got {list(shapes[0])}"]
        if bad:
            return (self.weight.shape[0],), bad
        if shapes[0][0] != self.weight.shape[1] * self.groups or self.weight.shape[0] % self.groups:
            bad.append(f"weight {list(self.weight.shape)}, groups={self.groups} does not fit {list(shapes[0])}")
        size = [
            (n + 2 * self.padding[i] - self.dilation[i] * (self.weight.shape[2 + i] - 1) - 1) // self.stride[i] + 1
            for i, n in enumerate(shapes[0][1:])
        ]
        if min(size) < 1:
            bad.append(f"kernel {list(self.weight.shape[2:])} is larger than the padded source {list(shapes[0])}")
        return (self.weight.shape[0], *size), bad

    def apply(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return the convolution plus bias."""
        x = inputs[0]
        y = functional.conv2d(
            x.flatten(0, 1),
            self.weight.to(x),
            None if self.bias is None else self.bias.to(x),
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
        )
        return y.unflatten(0, x.shape[:2])

    def details(self) -> list[str]:
        """Return weight, bias and geometry."""
        geometry = [("stride", self.stride, (1, 1)), ("padding", self.padding, (0, 0))]
        geometry += [("dilation", self.dilation, (1, 1)), ("groups", (self.groups,), (1,))]
        text = [f"{key}={','.join(map(str, v))}" for key, v, default in geometry if v != default]
        border = [] if self.border_error is None else [f"border_error={self.border_error.abs().max().item():.4g}"]
        return self.affine_details() + text + border


@attrs.frozen(kw_only=True, eq=False)
class ScaleLayer(Layer):
    """y = factor*x + shift, both scalars or per channel `[C]` (the first feature axis)."""

    kind: ClassVar[str] = "scale"
    factor: Tensor = attrs.field(default=1.0, converter=_tensor)
    shift: Tensor | None = attrs.field(default=None, converter=optional_tensor)

    def out_shape(self, shapes: Sequence[Shape]) -> tuple[Shape, list[str]]:
        """Return the source's shape."""
        return shapes[0], _channel_breaches(shapes[0], factor=self.factor, shift=self.shift)

    def apply(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return factor*x + shift."""
        y = inputs[0] * per_channel(self.factor, inputs[0], lead=2)
        return y if self.shift is None else y + per_channel(self.shift, y, lead=2)

    def details(self) -> list[str]:
        """Return factor and shift."""
        return [f"factor={brief(self.factor)}"] + ([] if self.shift is None else [f"shift={brief(self.shift)}"])


@attrs.frozen(kw_only=True, eq=False)
class BatchNormLayer(Layer):
    """Batch norm at inference, `y = gamma*(x - mean)/sqrt(var + eps) + beta` per channel, all fields `[C]`."""

    kind: ClassVar[str] = "batchnorm"
    mean: Tensor = attrs.field(converter=_tensor)
    var: Tensor = attrs.field(converter=_tensor)
    gamma: Tensor | None = attrs.field(default=None, converter=optional_tensor)
    beta: Tensor | None = attrs.field(default=None, converter=optional_tensor)
    eps: float = 1e-5

    def out_shape(self, shapes: Sequence[Shape]) -> tuple[Shape, list[str]]:
        """Return the source's shape."""
        fields = {"mean": self.mean, "var": self.var, "gamma": self.gamma, "beta": self.beta}
        return shapes[0], _channel_breaches(shapes[0], **fields)

    def affine(self) -> tuple[Tensor, Tensor]:
        """Return (factor, shift) in float64: gamma/sqrt(var + eps) and beta - mean*factor."""
        factor = (self.var.double() + self.eps).rsqrt()
        factor = factor if self.gamma is None else factor * self.gamma.double()
        shift = -self.mean.double() * factor
        return factor, shift if self.beta is None else shift + self.beta.double()

    def apply(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return the normalised value."""
        x = inputs[0]
        cast = [None if v is None else v.to(x) for v in (self.mean, self.var, self.gamma, self.beta)]
        y = functional.batch_norm(x.flatten(0, 1), *cast, training=False, eps=self.eps)  # type: ignore[arg-type]
        return y.unflatten(0, x.shape[:2])

    def details(self) -> list[str]:
        """Return the statistics and the trained scale and shift."""
        shown = {"mean": self.mean, "var": self.var, "gamma": self.gamma, "beta": self.beta}
        return [f"{key}={brief(v)}" for key, v in shown.items() if v is not None]


@attrs.frozen(kw_only=True, eq=False)
class SumPoolLayer(Layer):
    """y = factor * (sum over the window), zero padding, `factor` a scalar or `[C]`; `[C,H,W] -> [C,H',W']`."""

    kind: ClassVar[str] = "sumpool"
    kernel: Pair = attrs.field(converter=pair)
    stride: Pair = attrs.field(converter=pair)
    padding: Pair = attrs.field(default=0, converter=pair)
    factor: Tensor = attrs.field(default=1.0, converter=_tensor)

    def out_shape(self, shapes: Sequence[Shape]) -> tuple[Shape, list[str]]:
        """Return `[C, H', W']` with H' = floor((H + 2*padding - k)/stride) + 1."""
        if len(shapes[0]) != 3:
            return shapes[0], [f"needs a source [C,H,W], got {list(shapes[0])}"]
        bad = _channel_breaches(shapes[0], factor=self.factor)
        size = [
            (n + 2 * self.padding[i] - self.kernel[i]) // self.stride[i] + 1 for i, n in enumerate(shapes[0][1:])
        ]
        if min(size) < 1:
            bad.append(f"kernel {list(self.kernel)} is larger than the padded source {list(shapes[0])}")
        return (shapes[0][0], *size), bad

    def apply(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return factor times the sum over every window."""
        x = inputs[0]
        y = functional.avg_pool2d(x.flatten(0, 1), self.kernel, self.stride, self.padding, divisor_override=1)
        return (y * per_channel(self.factor, y, lead=1)).unflatten(0, x.shape[:2])

    def details(self) -> list[str]:
        """Return factor and geometry."""
        pad = [] if self.padding == (0, 0) else [f"padding={self.padding[0]},{self.padding[1]}"]
        size = [f"kernel={self.kernel[0]},{self.kernel[1]}", f"stride={self.stride[0]},{self.stride[1]}"]
        return [f"factor={brief(self.factor)}", *size, *pad]


@attrs.frozen(kw_only=True, eq=False)
class AvgPoolLayer(SumPoolLayer):
    """Average pooling as the user wrote it: a sum-pool with factor 1/(kh*kw), padding counted."""

    kind: ClassVar[str] = "avgpool"


def _channel_breaches(shape: Shape, **fields: Tensor | None) -> list[str]:
    channels = shape[0] if shape else 1
    return [
        f"{key} has shape {list(value.shape)}, expected a number or [{channels}]"
        for key, value in fields.items()
        if value is not None and tuple(value.shape) not in ((), (1,), (channels,))
    ]
