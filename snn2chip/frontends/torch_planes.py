"""Rules for layers that change planes: pooling, resampling, transposed convolutions, and joining of channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from snn2chip.frontends.torch_build import Builder
from snn2chip.frontends.torch_layers import conv2d_layer
from snn2chip.frontends.torch_refusals import Refusal
from snn2chip.frontends.torch_tape import Op
from snn2chip.frontends.torch_values import STATIC, Value
from snn2chip.ir.channel_layers import AvgPoolLayer, MaxPoolLayer, SumPoolLayer
from snn2chip.ir.linear_layers import WeightParts, pair
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.ir.planes import plane_of
from snn2chip.ir.space_layers import ConcatLayer, ResampleLayer, nearest, stuffed, windows

MAX_WEIGHT = 127
"""Largest weight of eight bits."""


def avgpool_layer(
    b: Builder,
    op: Op,
    x: Value,
    *,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value:
    """Return the value of an average pooling, a sum with one factor everywhere; Refusal if it is not."""
    kernel = pair(kernel_size)
    step, pad = kernel if stride is None or stride in ((), []) else pair(stride), pair(padding)
    if not count_include_pad and pad != (0, 0):
        raise Refusal("does not count padding, so the border has another divisor; leave count_include_pad=True")
    size = _plane(b, op, x)
    if ceil_mode and any((n + 2 * p - k) % s for n, k, s, p in zip(size, kernel, step, pad, strict=True)):
        raise Refusal("rounds the size up (ceil_mode), so the border has another divisor; pad or crop the input")
    factor = 1.0 / (divisor_override or kernel[0] * kernel[1])
    kind = AvgPoolLayer if divisor_override is None else SumPoolLayer
    key = (kind.kind, kernel, step, pad, factor, op.path)
    return b.on_features(op, key, x, lambda **at: kind(kernel=kernel, stride=step, padding=pad, factor=factor, **at))


def maxpool_layer(
    b: Builder,
    op: Op,
    x: Value,
    *,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Value:
    """Return the value of a maximum pooling over binary spikes, or in front of the first neuron, the host's work."""
    size, kernel = _plane(b, op, x), pair(kernel_size)
    step, pad = kernel if stride is None or stride in ((), []) else pair(stride), pair(padding)
    if why := _no_maximum(b, b.split(op, x)[1].node, static=x.time == STATIC):
        raise Refusal(why)
    if return_indices or pair(dilation) != (1, 1):
        raise Refusal("has no integer form with return_indices or a dilation; leave them out")
    if ceil_mode and any((n + 2 * p - k) % s for n, k, s, p in zip(size, kernel, step, pad, strict=True)):
        raise Refusal("rounds the size up (ceil_mode), so windows reach over the border; pad or crop the input")
    key = ("maxpool", kernel, step, pad, op.path)
    return b.on_features(
        op, key, x, lambda **at: MaxPoolLayer(kernel=kernel, stride=step, padding=pad, **at), after_total=False
    )


def _no_maximum(b: Builder, node: str, *, static: bool) -> str:
    """Why a maximum over a layer's values has no integer form; empty if it has one."""
    layer = b.layers[node]
    if layer.kind in ("identity", "dropout", "maxpool", "flatten", "concat"):
        return next(filter(None, (_no_maximum(b, src, static=static) for src in b.inputs[node])), "")
    if isinstance(layer, NeuronLayer):
        if layer.binary:
            return ""
        sent = "graded payloads" if layer.soma.fire == "excess" else f"payloads of {layer.soma.levels} levels"
        return (
            f"picks the largest of {sent} of {layer.label}, which is not a function of their sum; use average pooling, "
            "or neurons that send one binary spike (IF, LIF, levels=1)"
        )
    if static and not b.behind_neurons(node):
        return ""
    return (
        f"picks the largest of values of {layer.label} ({layer.kind}) that are not spikes; pool behind the neuron, "
        "over its binary spikes, or use average pooling"
    )


def adaptive_maximum(b: Builder, op: Op, x: Value, *, output_size: Any, return_indices: bool = False) -> Value:
    """Return the value of an adaptive maximum pooling whose output size divides its input."""
    if return_indices:
        raise Refusal("has no integer form with return_indices; leave it out")
    size, out = _adapted(b, op, x, output_size)
    if any(n % w for n, w in zip(size, out, strict=True)):
        raise Refusal(f"pools {list(size)} to {list(out)} with windows of different sizes; use sizes that divide")
    return maxpool_layer(b, op, x, kernel_size=tuple(n // w for n, w in zip(size, out, strict=True)))


def adaptive_layer(b: Builder, op: Op, x: Value, *, output_size: Any) -> Value:
    """Return the value of an adaptive average pooling: plain pooling, or a fixed map where windows differ in size."""
    size, out = _adapted(b, op, x, output_size)
    if not any(n % w for n, w in zip(size, out, strict=True)):
        return avgpool_layer(b, op, x, kernel_size=tuple(n // w for n, w in zip(size, out, strict=True)))
    maps, divisors = zip(*(windows(n, w) for n, w in zip(size, out, strict=True)), strict=True)
    if (largest := int(maps[0].max()) * int(maps[1].max())) > MAX_WEIGHT:
        raise Refusal(
            f"pools {list(size)} to {list(out)} with windows whose sizes need weights up to {largest}, more than "
            f"{MAX_WEIGHT}; use sizes that divide"
        )
    return resample_layer(b, op, x, key=("adaptive", *out, op.path), maps=maps, factor=1.0 / math.prod(divisors))


def _adapted(b: Builder, op: Op, x: Value, output_size: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the spatial sizes of x and those wanted."""
    size = _plane(b, op, x)
    single = len(b.shapes[b.split(op, x)[1].node]) == 2
    wanted = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * (1 if single else 2)
    wanted = (1, *wanted) if single else wanted
    return size, tuple(n if w is None else int(w) for n, w in zip(size, wanted, strict=True))


def _plane(b: Builder, op: Op, x: Value) -> tuple[int, ...]:
    plane, wrong = plane_of(b.shapes[b.split(op, x)[1].node])
    if wrong:
        raise Refusal("; ".join(wrong))
    return plane[1:]


def resample_layer(
    b: Builder, op: Op, x: Value, *, key: Any, maps: Sequence[torch.Tensor], factor: float = 1.0
) -> Value:
    """Return the value of a fixed map of every plane: `maps` are its integer rows and columns."""
    rows, cols = maps
    return b.on_features(op, key, x, lambda **at: ResampleLayer(rows=rows, cols=cols, factor=factor, **at))


def upsample_layer(
    b: Builder,
    op: Op,
    x: Value,
    *,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: Any = None,
) -> Value:
    """Return the value of upsampling by repetition of the nearest position."""
    if mode != "nearest":
        raise Refusal(f"interpolates with mode={mode!r}; only mode='nearest' repeats whole spikes")
    plane = _plane(b, op, x)
    flat = len(b.shapes[b.split(op, x)[1].node]) == 2
    given = size if size is not None else scale_factor
    pairs = [given] * (1 if flat else 2) if not isinstance(given, (tuple, list)) else list(given)
    pairs = [1, *pairs] if flat else pairs
    want = pairs if size is not None else [n * f for n, f in zip(plane, pairs, strict=True)]
    if size is not None and flat:
        want[0] = 1
    if any(float(n) != int(n) or n < 1 for n in want):
        raise Refusal(f"resizes {list(plane)} by {scale_factor}, which is no whole size; give size or whole factors")
    out = [int(n) for n in want]
    maps = [nearest(n, w) for n, w in zip(plane, out, strict=True)]
    return resample_layer(b, op, x, key=("upsample", *out, op.path), maps=maps)


def conv_transpose_layer(
    b: Builder,
    op: Op,
    x: Value,
    *,
    key: Any,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    parts: WeightParts | None = None,
) -> Value:
    """Return the value of a transposed convolution, exactly: zeros between the positions, then a convolution.

    `weight` and `parts.integers` are `[C, O/groups, kh, kw]`, as torch keeps them.
    """
    plane, kernel = _plane(b, op, x), tuple(weight.shape[2:])
    step, pad, extra, spread = pair(stride), pair(padding), pair(output_padding), pair(dilation)
    maps, rest = [], []
    for n, k, s, p, e, d in zip(plane, kernel, step, pad, extra, spread, strict=True):
        border = d * (k - 1) - p  # a negative one crops
        cut = max(-border, 0)
        maps.append(stuffed(n, stride=s, first=-cut, length=(n - 1) * s + 1 + e - 2 * cut))
        rest.append(max(border, 0))
        if maps[-1].shape[0] < 1:
            raise Refusal("pads more than its kernel and its input hold; nothing is left")
    if any(m.shape[0] != m.shape[1] or not bool((m == torch.eye(len(m), dtype=m.dtype)).all()) for m in maps):
        x = resample_layer(b, op, x, key=("stuffed", step, pad, extra, spread, kernel, op.path), maps=maps)
    turned = partial(_turned, groups=groups)
    if parts is not None:
        if groups * weight.shape[1] != parts.scale.numel():
            raise Refusal(f"has {parts.scale.numel()} scales of its weights for {groups * weight.shape[1]} outputs")
        parts = WeightParts(scale=parts.scale, integers=turned(parts.integers))
    return conv2d_layer(
        b,
        op,
        x,
        key=key,
        weight=turned(weight) if parts is None else parts.weight(),
        bias=bias,
        padding=tuple(rest),
        dilation=spread,
        groups=groups,
        parts=parts,
    )


def _turned(weight: torch.Tensor, *, groups: int) -> torch.Tensor:
    """Return `[C, O/groups, kh, kw]` of a transposed convolution as `[O, C/groups, kh, kw]`, turned by half a turn."""
    inputs, outputs, *kernel = weight.shape
    grouped = weight.reshape(groups, inputs // groups, outputs, *kernel).transpose(1, 2)
    return grouped.reshape(groups * outputs, inputs // groups, *kernel).flip(2, 3)


def concat_layer(b: Builder, op: Op, values: Sequence[Value], *, dim: int) -> Value:
    """Return the value of tensors joined along their channels."""
    split = [b.split(op, x) for x in values]
    lead, times = split[0][0], {x.time for _, x in split}
    if any(axes != lead for axes, _ in split):
        raise Refusal("joins values with different layouts of steps and batch")
    if dim != len(lead):
        raise Refusal("joins features along an axis that is not the channels; join channels, torch.cat(..., 1)")
    times = times - {STATIC} or times
    if len(times) != 1 or next(iter(times)).kind == "total":
        raise Refusal("joins values of different steps; only values of the same step can be joined")
    node = b.add_layer(op, ("concat",), [x.node for _, x in split], ConcatLayer)
    return Value(node, next(iter(times)), (*lead, *((i,) for i in range(len(b.shapes[node])))))


def average_all(b: Builder, op: Op, x: Value, *, factor: float) -> Value:
    """Return `factor` times the mean over [H,W], in the layout of x with both spatial axes of length 1."""
    b.check_total(x.time, affine=True)
    height, width = plane_of(b.shapes[x.node])[0][1:]
    scale = factor / (height * width)
    kind = AvgPoolLayer if factor == 1.0 else SumPoolLayer
    node = b.add_layer(
        op,
        ("average_all", factor),
        [x.node],
        lambda **at: kind(kernel=(height, width), stride=(height, width), factor=scale, **at),
    )
    return Value(node, x.time, x.axes)
