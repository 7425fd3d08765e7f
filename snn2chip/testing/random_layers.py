"""Random float layers for a given source, with numbers that are exact in binary: see `random_graphs`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from snn2chip.ir.channel_layers import AvgPoolLayer, BatchNormLayer, ScaleLayer, SumPoolLayer
from snn2chip.ir.layers import InputLayer, Layer, Shape
from snn2chip.ir.linear_layers import Conv2dLayer, LinearLayer, WeightParts
from snn2chip.ir.space_layers import ResampleLayer, nearest, stuffed, windows

Rng = np.random.Generator


def named(name: str) -> dict[str, Any]:
    """Name and path of a layer."""
    return {"name": name, "path": f"net.{name}"}


def weights(rng: Rng, *shape: int) -> dict[str, Any]:
    """Multiples of 1/4, or binary and ternary parts with a power of two per channel; with or without a bias."""
    bias = torch.as_tensor(rng.integers(-4, 9, shape[0]) / 4) if rng.random() < 0.6 else None
    if rng.random() < 0.4:
        whole = torch.as_tensor(rng.choice([-1, 1] if rng.random() < 0.5 else [-1, 0, 1, 1], shape))
        parts = WeightParts(scale=torch.as_tensor(2.0 ** rng.integers(-2, 1, shape[0])), integers=whole.long())
        return {"weight": parts.weight(), "parts": parts, "bias": bias}
    return {"weight": torch.as_tensor(rng.integers(-3, 6, shape) / 4), "bias": bias}


def raw_input(rng: Rng, name: str, shape: Shape) -> tuple[InputLayer, bool]:
    """An input with or without a normalisation, and whether zero padding is off the mean of its integers."""
    if rng.random() < 0.4:
        return InputLayer(name=name, shape=shape), False
    per = (shape[0],) if rng.random() < 0.5 else ()
    part = 4 if rng.random() < 0.3 else 1
    mean = torch.as_tensor(rng.integers(0, 9 * part, per) / part)
    std = torch.as_tensor(2.0 ** rng.integers(0, 4, per))
    return InputLayer(name=name, shape=shape, scale=1.0, mean=mean, std=std), part > 1


def linear(rng: Rng, name: str, shape: Shape) -> LinearLayer:
    """2 to 5 outputs."""
    return LinearLayer(**named(name), **weights(rng, int(rng.integers(2, 6)), int(np.prod(shape))))


def conv(rng: Rng, name: str, shape: Shape, *, padded: bool) -> Conv2dLayer:
    """Any geometry that fits `[C,H,W]`, or `[C,L]` with a kernel of height 1."""
    channels, size = shape[0], (1, *shape[1:])[-2:]
    kernel = [int(rng.integers(1, min(3, n) + 1)) for n in size]
    dilation = [2 if k == 2 and n >= 3 and rng.random() < 0.3 else 1 for k, n in zip(kernel, size, strict=True)]
    padding = [int(rng.integers(0, k)) if padded else 0 for k in kernel]
    stride = [int(rng.integers(1, 3)) if n > 1 else 1 for n in size]
    groups = channels if rng.random() < 0.2 else 1
    outputs = groups * int(rng.integers(1, 3)) if groups > 1 else int(rng.integers(1, 4))
    made = weights(rng, outputs, channels // groups, *kernel)
    geometry: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return Conv2dLayer(**named(name), **made, **geometry)


def norm(rng: Rng, name: str, channels: int) -> BatchNormLayer:
    """Variances 4^k; factors of both signs, and 0."""
    gamma = torch.as_tensor(rng.choice([1.0, -0.5, 0.5, 2.0, 0.0], channels, p=[0.4, 0.2, 0.2, 0.15, 0.05]))
    return BatchNormLayer(
        **named(name),
        mean=torch.as_tensor(rng.integers(-4, 5, channels) / 4),
        var=torch.as_tensor(4.0 ** rng.integers(-1, 2, channels)),
        gamma=gamma if rng.random() < 0.8 else None,
        beta=torch.as_tensor(rng.integers(-2, 7, channels) / 4),
        eps=0.0,
    )


def scale(rng: Rng, name: str, channels: int, *, shifted: bool) -> ScaleLayer:
    """A power of two, for all channels or each, with or without a shift."""
    per = (channels,) if rng.random() < 0.5 else ()
    shift = torch.as_tensor(rng.integers(-4, 5, per) / 4) if shifted and rng.random() < 0.5 else None
    factor = torch.as_tensor(2.0 ** rng.integers(-1, 2, per)) * float(rng.choice([1, 1, -1]))
    return ScaleLayer(**named(name), factor=factor, shift=shift)


def pool(rng: Rng, name: str, shape: Shape, *, padded: bool) -> SumPoolLayer:
    """Sums and averages with power-of-two areas, also overlapping and padded."""
    size = (1, *shape[1:])[-2:]
    kernel = [2 if n >= 2 and rng.random() < 0.8 else 1 for n in size]
    stride = [k if rng.random() < 0.7 else 1 for k in kernel]
    padding = [k // 2 if padded and rng.random() < 0.2 else 0 for k in kernel]
    average = rng.random() < 0.6
    factor = 1.0 / (kernel[0] * kernel[1]) if average else float(rng.choice([1.0, 0.5]))
    kind = AvgPoolLayer if average else SumPoolLayer
    return kind(**named(name), kernel=kernel, stride=stride, padding=padding, factor=factor)


def resample(rng: Rng, name: str, shape: Shape) -> Layer:
    """Upsampling, zero stuffing and adaptive averages."""
    maps, factor = [], 1.0
    kind = rng.choice(["nearest", "stuffed", "average"])
    for n in (1, *shape[1:])[-2:]:
        if n == 1 or kind == "average":
            wanted = 1 if n in (1, 2, 4, 8) else n
            rows, divisor = windows(n, wanted)
            factor /= divisor
        elif kind == "nearest":
            rows = nearest(n, n + int(rng.integers(1, 4)))
        else:
            rows = stuffed(n, stride=2, first=int(rng.integers(0, 2)), length=2 * n)
        maps.append(rows)
    return ResampleLayer(**named(name), rows=maps[0], cols=maps[1], factor=factor)
