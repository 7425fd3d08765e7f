"""Pooling as part of the next or the previous linear map, exactly.

A sum-pool with window k, stride s and factor p is a sparse linear map. In front of a convolution with kernel K,
stride S and dilation D it becomes one convolution,

    W'[o, c, i*D*s + a] = p[c] * W[o, c, i]   for 0 <= a < k,    K' = (K-1)*D*s + k,   stride S*s,   padding P*s

behind one, the sums of its taps, K' = (k-1)*S + (K-1)*D + 1, stride S*s. In front of a linear layer it is the
transposed pooling of every weight row. Integer parts of the weights follow in all three.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import torch
from torch import Tensor
from torch.nn import functional

from snn2chip.ir.channel_layers import SumPoolLayer
from snn2chip.ir.layers import Shape
from snn2chip.ir.linear_layers import AffineLayer, Conv2dLayer, LinearLayer, WeightParts
from snn2chip.ir.space_layers import ResampleLayer
from snn2chip.passes.affine import scaled_input, scaled_output


def pool_then_linear(pool: SumPoolLayer, layer: LinearLayer, *, shape: Shape) -> LinearLayer:
    """Return linear(pool(x)) as one linear layer on x of `shape` [C,H,W]."""
    channels, height, width = shape
    out = pool.out_shape([shape])[0]
    scaled = scaled_input(layer, pool.factor, None, shape=out)
    assert isinstance(scaled, LinearLayer)

    def spread(weight: Tensor) -> Tensor:
        planes = weight.reshape(-1, 1, *out[1:]).double()
        ones = torch.ones(1, 1, *pool.kernel, dtype=torch.float64)
        rest = [
            n + 2 * p - k - (m - 1) * s
            for n, m, k, s, p in zip((height, width), out[1:], pool.kernel, pool.stride, pool.padding, strict=True)
        ]
        wide = functional.conv_transpose2d(planes, ones, None, pool.stride, pool.padding, rest)
        return wide.reshape(weight.shape[0], channels * height * width)

    weight, parts = _mapped(scaled, spread)
    return attrs.evolve(scaled, weight=weight, parts=parts)


def resample_then_linear(first: ResampleLayer, layer: LinearLayer, *, shape: Shape) -> LinearLayer:
    """Return linear(resample(x)) as one linear layer on x of `shape` [C,H,W]."""
    out = first.out_shape([shape])[0]
    scaled = scaled_input(layer, first.factor, None, shape=out)
    assert isinstance(scaled, LinearLayer)

    def spread(weight: Tensor) -> Tensor:
        planes = weight.reshape(-1, *out).double()
        wide = torch.einsum("ocij,iu,jv->ocuv", planes, first.rows.double(), first.cols.double())
        return wide.reshape(weight.shape[0], -1)

    weight, parts = _mapped(scaled, spread)
    return attrs.evolve(scaled, weight=weight, parts=parts)


def pool_then_conv(pool: SumPoolLayer, layer: Conv2dLayer, *, shape: Shape) -> Conv2dLayer | None:
    """Return conv(pool(x)) as one convolution on x of `shape`; None where padding makes that inexact."""
    pooled = pool.out_shape([shape])[0]
    padding: list[int] = []
    for axis in (0, 1):
        k, s, p = pool.kernel[axis], pool.stride[axis], pool.padding[axis]
        outside = layer.padding[axis]
        if outside and (p or k > s or pooled[1 + axis] * s < shape[1 + axis]):
            return None  # a padded position of the pooled plane would see real values
        padding.append(outside * s + p)
    scaled = scaled_input(attrs.evolve(layer, padding=(0, 0)), pool.factor, None, shape=pooled)
    assert isinstance(scaled, Conv2dLayer)

    def spread(weight: Tensor) -> Tensor:
        sizes = [
            (n - 1) * d * s + k
            for n, d, s, k in zip(weight.shape[2:], layer.dilation, pool.stride, pool.kernel, strict=True)
        ]
        wide = weight.new_zeros(*weight.shape[:2], *sizes, dtype=torch.float64)
        (dh, dw), (sh, sw) = layer.dilation, pool.stride
        for i in range(weight.shape[2]):
            for j in range(weight.shape[3]):
                top, left = i * dh * sh, j * dw * sw
                area = wide[:, :, top : top + pool.kernel[0], left : left + pool.kernel[1]]
                area += weight[:, :, i, j, None, None]
        return wide

    weight, parts = _mapped(scaled, spread)
    composed = attrs.evolve(
        scaled,
        weight=weight,
        parts=parts,
        stride=(layer.stride[0] * pool.stride[0], layer.stride[1] * pool.stride[1]),
        padding=(padding[0], padding[1]),
        dilation=(1, 1),
    )
    fits = composed.out_shape([shape]) == layer.out_shape([pooled])
    return composed if fits else None


def conv_then_pool(layer: Conv2dLayer, pool: SumPoolLayer, *, shape: Shape) -> Conv2dLayer | None:
    """Return pool(conv(x)) as one convolution on x of `shape`; None if the pooling pads."""
    if pool.padding != (0, 0):
        return None
    area = pool.kernel[0] * pool.kernel[1]
    bias = layer.bias_or_zero().double() * area
    scaled = scaled_output(attrs.evolve(layer, bias=bias), pool.factor, None)
    assert isinstance(scaled, Conv2dLayer)

    def spread(weight: Tensor) -> Tensor:
        sizes = [
            (k - 1) * s + (n - 1) * d + 1
            for n, d, s, k in zip(weight.shape[2:], layer.dilation, layer.stride, pool.kernel, strict=True)
        ]
        wide = weight.new_zeros(*weight.shape[:2], *sizes, dtype=torch.float64)
        (dh, dw), (sh, sw) = layer.dilation, layer.stride
        high, broad = (weight.shape[2] - 1) * dh + 1, (weight.shape[3] - 1) * dw + 1
        for a in range(pool.kernel[0]):
            for b in range(pool.kernel[1]):
                wide[:, :, a * sh : a * sh + high : dh, b * sw : b * sw + broad : dw] += weight
        return wide

    weight, parts = _mapped(scaled, spread)
    composed = attrs.evolve(
        scaled,
        weight=weight,
        parts=parts,
        bias=scaled.bias if layer.bias is not None else None,
        stride=(layer.stride[0] * pool.stride[0], layer.stride[1] * pool.stride[1]),
        dilation=(1, 1),
    )
    fits = composed.out_shape([shape])[0] == pool.out_shape([layer.out_shape([shape])[0]])[0]
    return composed if fits else None


def pool_then_pool(first: SumPoolLayer, second: SumPoolLayer) -> SumPoolLayer | None:
    """Return second(first(x)) as one sum-pool; None unless the first has disjoint windows and neither pads."""
    if first.kernel != first.stride or first.padding != (0, 0) or second.padding != (0, 0):
        return None
    return attrs.evolve(
        second,
        kernel=(first.kernel[0] * second.kernel[0], first.kernel[1] * second.kernel[1]),
        stride=(first.stride[0] * second.stride[0], first.stride[1] * second.stride[1]),
        factor=first.factor.double() * second.factor.double(),
    )


def _mapped(layer: AffineLayer, spread: Callable[[Tensor], Tensor]) -> tuple[Tensor, WeightParts | None]:
    """Return weight and parts of a layer after a linear map of its weights with integer entries."""
    if layer.parts is None:
        return spread(layer.weight.double()), None
    integers = spread(layer.parts.integers.double()).round().to(torch.int64)
    parts = WeightParts(scale=layer.parts.scale.double(), integers=integers)
    return parts.weight(), parts
