"""Float layers of channel attention: SECA as the user wrote it, and the gate and band matrix it is taken apart into.

seca    y = x * sigmoid( conv1d_K( mean over space of x ) )     along the channels, zero padding K//2
gate    y = x * s                                               s one number per channel
band    y = W x + b,   W[o, i] = w[i - o + K//2]                that convolution as a linear map
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import attrs
import torch
from torch import Tensor
from torch.nn import functional

from snn2chip.ir.layers import Layer, Shape, as_tensor, brief
from snn2chip.ir.linear_layers import LinearLayer


@attrs.frozen(kw_only=True, eq=False)
class SecaLayer(Layer):
    """Channel attention of `[C,H,W]`: `weight` `[K]`, K odd, `bias` a number, the same at every step."""

    kind: ClassVar[str] = "seca"
    weight: Tensor = attrs.field(converter=as_tensor)
    bias: Tensor = attrs.field(converter=as_tensor)

    def out_shape(self, shapes: Sequence[Shape]) -> tuple[Shape, list[str]]:
        """Return the shape of the source."""
        bad = [] if len(shapes[0]) == 3 else [f"attends channels of [C,H,W], the source has {list(shapes[0])}"]
        if self.weight.dim() != 1 or self.weight.numel() % 2 == 0:
            bad.append(f"weight has shape {list(self.weight.shape)}, expected [K] with K odd")
        if self.bias.numel() != 1:
            bad.append(f"bias has shape {list(self.bias.shape)}, expected one number")
        return shapes[0], bad

    def apply(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return x times its score."""
        x = inputs[0]
        mean = x.mean((-2, -1))
        weight, bias = self.weight.to(x).view(1, 1, -1), self.bias.to(x).view(1)
        rows = mean.reshape(-1, 1, mean.shape[-1])
        score = torch.sigmoid(functional.conv1d(rows, weight, bias, padding=self.weight.numel() // 2))
        return x * score.view(*mean.shape, 1, 1)

    def details(self) -> list[str]:
        """Return weight and bias."""
        return [f"weight={brief(self.weight)}", f"bias={brief(self.bias)}"]


@attrs.frozen(kw_only=True, eq=False)
class GateLayer(Layer):
    """The first value `[C,...]` times the second, `[C]`: one number per channel."""

    kind: ClassVar[str] = "gate"
    arity: ClassVar[int | None] = 2

    def out_shape(self, shapes: Sequence[Shape]) -> tuple[Shape, list[str]]:
        """Return the shape of the first value."""
        fits = shapes[1] == shapes[0][:1]
        return shapes[0], [] if fits else [f"multiplies {list(shapes[0])} by {list(shapes[1])}, expected [C]"]

    def apply(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return the product."""
        x, score = inputs
        return x * score.view(*score.shape, *[1] * (x.dim() - score.dim()))


@attrs.frozen(kw_only=True, eq=False)
class BandLayer(LinearLayer):
    """A linear map along the channels with few weights per output; its integers have 8 bits in every mode."""

    fixed_mode: ClassVar[str] = "int8"

    @property
    def taps(self) -> int:
        """Most weights of one output that are not 0."""
        return max(int((self.weight != 0).sum(1).max()), 1)


def band(weight: Tensor, channels: int) -> Tensor:
    """Return `[C, C]` float64 for a kernel `[K]`: entry [o, i] is w[i - o + K//2], 0 outside of the kernel."""
    at = torch.arange(channels)
    offset = at[None, :] - at[:, None] + weight.numel() // 2
    inside = (offset >= 0) & (offset < weight.numel())
    return torch.where(inside, weight.double()[offset.clamp(0, weight.numel() - 1)], 0.0)
