"""Float layers that act on channels by themselves: scale, batch norm, average, sum and maximum pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import attrs
import torch
from torch import Tensor
from torch.nn import functional

from snn2chip.ir.layers import Layer, Shape, as_tensor, brief, optional_tensor, per_channel
from snn2chip.ir.linear_layers import Pair, pair
from snn2chip.ir.planes import as_plane, plane_of


def _one() -> Tensor:
    return torch.ones((), dtype=torch.float64)


def _channel_breaches(shape: Shape, **fields: Tensor | None) -> list[str]:
    channels = shape[0] if shape else 1
    return [
        f"{key} has shape {list(value.shape)}, expected a number or [{channels}]"
        for key, value in fields.items()
        if value is not None and tuple(value.shape) not in ((), (1,), (channels,))
    ]


@attrs.frozen(kw_only=True, eq=False)
class ScaleLayer(Layer):
    """y = factor*x + shift, both scalars or per channel `[C]` (the first feature axis)."""

    kind: ClassVar[str] = "scale"
    factor: Tensor = attrs.field(factory=_one, converter=as_tensor)
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
        shift = [] if self.shift is None else [f"shift={brief(self.shift)}"]
        return [f"factor={brief(self.factor)}", *shift]


@attrs.frozen(kw_only=True, eq=False)
class BatchNormLayer(Layer):
    """Batch norm at inference, `y = gamma*(x - mean)/sqrt(var + eps) + beta`, all fields `[C]`."""

    kind: ClassVar[str] = "batchnorm"
    mean: Tensor = attrs.field(converter=as_tensor)
    var: Tensor = attrs.field(converter=as_tensor)
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
        gamma, beta = (None if v is None else v.to(x) for v in (self.gamma, self.beta))
        y = functional.batch_norm(
            x.flatten(0, 1), self.mean.to(x), self.var.to(x), gamma, beta, training=False, eps=self.eps
        )
        return y.view(x.shape)

    def details(self) -> list[str]:
        """Return the statistics and the trained scale and shift."""
        shown = {"mean": self.mean, "var": self.var, "gamma": self.gamma, "beta": self.beta}
        return [f"{key}={brief(v)}" for key, v in shown.items() if v is not None]


@attrs.frozen(kw_only=True, eq=False)
class SumPoolLayer(Layer):
    """y = factor*(sum over the window), zero padding, factor a scalar or `[C]`; `[C,H,W] -> [C,H',W']`."""

    kind: ClassVar[str] = "sumpool"
    kernel: Pair = attrs.field(converter=pair)
    stride: Pair = attrs.field(converter=pair)
    padding: Pair = attrs.field(default=(0, 0), converter=pair)
    factor: Tensor = attrs.field(factory=_one, converter=as_tensor)

    def out_shape(self, shapes: Sequence[Shape]) -> tuple[Shape, list[str]]:
        """Return `[C, H', W']` with H' = floor((H + 2*padding - k)/stride) + 1."""
        plane, bad = plane_of(shapes[0])
        if bad:
            return shapes[0], bad
        bad = _channel_breaches(plane, factor=self.factor)
        size = [(n + 2 * self.padding[i] - self.kernel[i]) // self.stride[i] + 1 for i, n in enumerate(plane[1:])]
        if min(size) < 1:
            bad.append(f"kernel {list(self.kernel)} is larger than the padded source {list(shapes[0])}")
        return as_plane((plane[0], *size), like=shapes[0]), bad

    def apply(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return factor times the sum over every window."""
        x = inputs[0].unsqueeze(3) if inputs[0].dim() == 4 else inputs[0]
        y = functional.avg_pool2d(x.flatten(0, 1), self.kernel, self.stride, self.padding, divisor_override=1)
        y = (y * per_channel(self.factor, y, lead=1)).view(*x.shape[:2], *y.shape[1:])
        return y.squeeze(3) if inputs[0].dim() == 4 else y

    def details(self) -> list[str]:
        """Return factor and geometry."""
        pad = [] if self.padding == (0, 0) else [f"padding={self.padding[0]},{self.padding[1]}"]
        size = [f"kernel={self.kernel[0]},{self.kernel[1]}", f"stride={self.stride[0]},{self.stride[1]}"]
        return [f"factor={brief(self.factor)}", *size, *pad]


@attrs.frozen(kw_only=True, eq=False)
class AvgPoolLayer(SumPoolLayer):
    """Average pooling as the user wrote it: a sum-pool with factor 1/(kh*kw), padding counted."""

    kind: ClassVar[str] = "avgpool"


@attrs.frozen(kw_only=True, eq=False)
class MaxPoolLayer(Layer):
    """y = the largest value of the window, padding never chosen; `[C,H,W] -> [C,H',W']`."""

    kind: ClassVar[str] = "maxpool"
    kernel: Pair = attrs.field(converter=pair)
    stride: Pair = attrs.field(converter=pair)
    padding: Pair = attrs.field(default=(0, 0), converter=pair)

    def out_shape(self, shapes: Sequence[Shape]) -> tuple[Shape, list[str]]:
        """Return `[C, H', W']`, sizes as in `SumPoolLayer`."""
        summed = SumPoolLayer(name=self.name, kernel=self.kernel, stride=self.stride, padding=self.padding)
        return summed.out_shape(shapes)

    def apply(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return the maximum of every window."""
        x = inputs[0].unsqueeze(3) if inputs[0].dim() == 4 else inputs[0]
        y = functional.max_pool2d(x.flatten(0, 1), self.kernel, self.stride, self.padding)
        y = y.view(*x.shape[:2], *y.shape[1:])
        return y.squeeze(3) if inputs[0].dim() == 4 else y

    def details(self) -> list[str]:
        """Return the geometry."""
        pad = [] if self.padding == (0, 0) else [f"padding={self.padding[0]},{self.padding[1]}"]
        return [f"kernel={self.kernel[0]},{self.kernel[1]}", f"stride={self.stride[0]},{self.stride[1]}", *pad]
