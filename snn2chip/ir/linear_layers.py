"""Float layers with weights: linear and conv2d, `y = W x + b`.

`WeightParts` keeps the exact decomposition of binary, ternary and few-bit weights,
`w[o] = scale[o] * integers[o]`, so that passes can move signs and scales exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import attrs
import torch
from torch import Tensor
from torch.nn import functional

from snn2chip.ir.layers import Layer, Shape, as_tensor, brief, optional_tensor
from snn2chip.ir.planes import as_plane, plane_of

Pair = tuple[int, int]


def pair(value: Any) -> Pair:
    """Return one number twice, or two numbers as they are."""
    items = tuple(int(v) for v in value) if isinstance(value, (tuple, list)) else (int(value),) * 2
    return items[0], items[-1]


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
    """What linear and conv2d share: weight `[O,...]`, optional bias `[O]`, optional exact weight parts."""

    weight: Tensor = attrs.field(converter=as_tensor)
    bias: Tensor | None = attrs.field(default=None, converter=optional_tensor)
    parts: WeightParts | None = None
    parts_fit: bool = attrs.field(init=False, repr=False)  # compared once: shapes are asked for often

    @parts_fit.default
    def _compare_parts(self) -> bool:
        if self.parts is None:
            return True
        if self.parts.integers.shape != self.weight.shape or self.parts.scale.shape != self.weight.shape[:1]:
            return False
        return torch.allclose(self.parts.weight().double(), self.weight.double(), rtol=1e-5, atol=0.0)

    def weight_breaches(self, dims: int) -> list[str]:
        """Return what is wrong with weight, bias and parts."""
        outputs = self.weight.shape[0]
        shape = list(self.weight.shape)
        bad = [] if len(shape) == dims else [f"weight {shape} is not {dims}-dimensional"]
        if self.bias is not None and tuple(self.bias.shape) != (outputs,):
            bad.append(f"bias has shape {list(self.bias.shape)}, expected [{outputs}]")
        if not self.parts_fit:
            bad.append("weight parts (scale, integers) and weight differ in shape or value")
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
    """y = W x + b, the source `[N]` or `[C,H,W]` read flat with the last axis fastest; result `[O]`."""

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
    """Cross-correlation with zero padding, `[C,H,W] -> [O,H',W']`, or `[C,L] -> [O,L']` with kernels of height 1.

    `border_error` `[O, C/groups, kh, kw]`, if set, is the error every tap makes where it falls on padding.
    """

    kind: ClassVar[str] = "conv2d"
    stride: Pair = attrs.field(default=(1, 1), converter=pair)
    padding: Pair = attrs.field(default=(0, 0), converter=pair)
    dilation: Pair = attrs.field(default=(1, 1), converter=pair)
    groups: int = 1
    border_error: Tensor | None = attrs.field(default=None, converter=optional_tensor)

    def out_shape(self, shapes: Sequence[Shape]) -> tuple[Shape, list[str]]:
        """Return `[O, H', W']` with H' = floor((H + 2*padding - dilation*(k-1) - 1)/stride) + 1."""
        plane, wrong = plane_of(shapes[0])
        bad = self.weight_breaches(4) + wrong
        if bad:
            return (self.weight.shape[0],), bad
        outputs, per_group, *kernel = self.weight.shape
        channels, *size = plane
        if channels != per_group * self.groups or outputs % self.groups:
            bad.append(f"weight {outputs, per_group, *kernel}, groups={self.groups} does not fit {list(shapes[0])}")
        for i, k in enumerate(kernel):
            size[i] = (size[i] + 2 * self.padding[i] - self.dilation[i] * (k - 1) - 1) // self.stride[i] + 1
        if min(size) < 1:
            bad.append(f"kernel {kernel} is larger than the padded source {list(shapes[0])}")
        return as_plane((outputs, *size), like=shapes[0]), bad

    def apply(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return the convolution plus bias."""
        x = inputs[0]
        flat = x.dim() == 4
        y = functional.conv2d(
            (x.unsqueeze(3) if flat else x).flatten(0, 1),
            self.weight.to(x),
            None if self.bias is None else self.bias.to(x),
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
        )
        y = y.view(*x.shape[:2], *y.shape[1:])
        return y.squeeze(3) if flat else y

    def details(self) -> list[str]:
        """Return weight, bias and geometry."""
        geometry = {
            "stride": (self.stride, (1, 1)),
            "padding": (self.padding, (0, 0)),
            "dilation": (self.dilation, (1, 1)),
        }
        text = [f"{key}={pair[0]},{pair[1]}" for key, (pair, default) in geometry.items() if pair != default]
        text += [] if self.groups == 1 else [f"groups={self.groups}"]
        if self.border_error is not None:
            text.append(f"border_error={self.border_error.abs().max().item():.4g}")
        return self.affine_details() + text
