"""Maps without state of a `.nir` file as float layers: their geometry comes from the file, their shapes from us."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from snn2chip.frontends.nir_file import NirNode
from snn2chip.frontends.nir_neurons import Unfit
from snn2chip.ir.channel_layers import AvgPoolLayer, ScaleLayer, SumPoolLayer
from snn2chip.ir.delay_layer import DelayLayer
from snn2chip.ir.layers import FlattenLayer, IdentityLayer, Layer, Shape
from snn2chip.ir.linear_layers import Conv2dLayer, LinearLayer

MAX_GEOMETRY = 1 << 20


def _array(node: NirNode, key: str, *dims: int) -> Any:
    value = node.fields.get(key)
    if value is None or isinstance(value, str):
        raise Unfit(f"{key} is missing")
    array = np.asarray(value)
    if array.ndim not in dims or array.size == 0:
        raise Unfit(f"{key} has shape {list(array.shape)}, expected {' or '.join(map(str, dims))} axes")
    return array


def _tensor(value: Any) -> torch.Tensor:
    array = np.asarray(value)
    wide = array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)
    return torch.tensor(np.ascontiguousarray(wide, dtype=wide.dtype.newbyteorder("=")))


def _whole(node: NirNode, key: str, count: int, default: int | None = None) -> tuple[int, ...]:
    """One whole number for every axis of space."""
    value = node.fields.get(key)
    if value is None and default is not None:
        return (default,) * count
    if value is None or isinstance(value, str):
        raise Unfit(f"{key} is missing, or the text {value!r}")
    flat = np.asarray(value).ravel()
    if flat.size not in (1, count) or (flat != np.rint(flat)).any() or np.abs(flat).max() > MAX_GEOMETRY:
        raise Unfit(f"{key} = {flat[:4].tolist()}, expected {count} whole numbers")
    return tuple(int(n) for n in (flat if flat.size == count else np.repeat(flat, count)))


def _linear(node: NirNode, name: str, shape: Shape) -> Layer:
    weight = _array(node, "weight", 2)
    if len(shape) != 1 and math.prod(shape) != shape[-1]:
        raise Unfit(f"reads {list(shape)} by its last axis; a flatten must stand between")
    bias = _tensor(_array(node, "bias", 1)) if node.kind == "Affine" else None
    return LinearLayer(name=name, path=node.name, weight=_tensor(weight), bias=bias)


def _conv(node: NirNode, name: str, shape: Shape) -> Layer:
    axes = 2 if node.kind == "Conv2d" else 1
    weight = _array(node, "weight", axes + 2)
    stride, dilation = (_whole(node, key, axes, 1) for key in ("stride", "dilation"))
    (groups,) = _whole(node, "groups", 1, 1)
    kernel = weight.shape[2:]
    if min(*stride, *dilation, groups, 1) < 1:
        raise Unfit(f"stride {stride}, dilation {dilation} and groups {groups} must be positive")
    if len(shape) != axes + 1:
        raise Unfit(f"reads {list(shape)}, expected {axes + 1} axes")
    padding = _padding(node, stride, dilation, kernel)
    bias = _tensor(_array(node, "bias", 1)) if node.fields.get("bias") is not None else None
    if axes == 1:
        weight, stride, padding, dilation = weight[:, :, None], (1, *stride), (0, *padding), (1, *dilation)
    return Conv2dLayer(
        name=name,
        path=node.name,
        weight=_tensor(weight),
        bias=bias,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )


def _padding(node: NirNode, stride: Any, dilation: Any, kernel: Any) -> tuple[int, ...]:
    value = node.fields.get("padding")
    if not isinstance(value, str):
        padding = _whole(node, "padding", len(kernel), 0)
        if min(padding) < 0:
            raise Unfit(f"padding {padding} is negative")
        return padding
    if value == "valid":
        return (0,) * len(kernel)
    if value != "same" or any(s != 1 for s in stride):
        raise Unfit(f"padding {value!r} with stride {list(stride)}; 'same' has a meaning for stride 1 only")
    total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    if any(n % 2 for n in total):
        raise Unfit(f"padding 'same' with kernel {list(kernel)} pads one side more, which has no form", refused=True)
    return tuple(n // 2 for n in total)


def _pool(node: NirNode, name: str, shape: Shape) -> Layer:
    kernel = _whole(node, "kernel_size", 2)
    stride, padding = _whole(node, "stride", 2), _whole(node, "padding", 2, 0)
    if min(*kernel, *stride) < 1 or min(padding) < 0:
        raise Unfit(f"kernel {kernel}, stride {stride}, padding {padding}: expected positive sizes")
    average = node.kind == "AvgPool2d"
    factor = torch.tensor(1.0 / (kernel[0] * kernel[1]) if average else 1.0, dtype=torch.float64)
    kind = AvgPoolLayer if average else SumPoolLayer
    return kind(name=name, path=node.name, kernel=kernel, stride=stride, padding=padding, factor=factor)


def _flatten(node: NirNode, name: str, shape: Shape) -> Layer:
    (start,) = _whole(node, "start_dim", 1, 1)
    (end,) = _whole(node, "end_dim", 1, -1)
    first, last = (d + len(shape) if d < 0 else d for d in (start, end))
    if not 0 <= first < max(len(shape), 1) or not first <= last < max(len(shape), 1):
        if len(shape) == 1:  # nothing left to flatten; torch counts the batch, this format does not
            return IdentityLayer(name=name, path=node.name)
        raise Unfit(f"flattens axes {start}..{end} of {list(shape)}, which has none such (the batch is not counted)")
    result = (*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :])
    if result == shape:
        return IdentityLayer(name=name, path=node.name)
    if len(result) > 1 and max(result) != math.prod(result):
        raise Unfit(
            f"flattens axes {start}..{end} of {list(shape)} into {list(result)}; only a whole flatten has a form "
            "(start_dim counts from 0 without the batch)",
            refused=True,
        )
    return FlattenLayer(name=name, path=node.name)


def _scale(node: NirNode, name: str, shape: Shape) -> Layer:
    scale = np.asarray(_array(node, "scale", *range(5)), dtype=np.float64)
    if scale.size == 1:
        return ScaleLayer(name=name, path=node.name, factor=torch.tensor(float(scale.ravel()[0]), dtype=torch.float64))
    try:
        rows = np.broadcast_to(scale, shape).reshape(shape[0], -1)
    except ValueError:
        raise Unfit(f"scale has shape {list(scale.shape)}, its source {list(shape)}") from None
    if not (rows == rows[:, :1]).all():
        raise Unfit("scale differs inside a channel; one factor per channel can be compiled", refused=True)
    return ScaleLayer(name=name, path=node.name, factor=torch.tensor(rows[:, 0].copy()))


def delay_layer(node: NirNode, name: str, *, dt: float | None, steps: int) -> Layer:
    """A delay in whole steps of `dt`, the same for all neurons."""
    if dt is None:
        raise Unfit("no neuron tells the time step that the delay is counted in; give the option dt")
    delay = np.asarray(_array(node, "delay", *range(5)), dtype=np.float64)
    if (delay != delay.flat[0]).any():
        raise Unfit("delays differ between neurons; one delay for all can be compiled", refused=True)
    count = float(delay.flat[0]) / dt
    if count < 0 or count > MAX_GEOMETRY or abs(count - round(count)) > 1e-3:
        raise Unfit(f"a delay of {float(delay.flat[0]):g} is no whole number of steps of dt = {dt:g}")
    if round(count) == 0:
        return IdentityLayer(name=name, path=node.name)
    return DelayLayer(name=name, path=node.name, delay=round(count), steps=steps)


MAPS: Mapping[str, Callable[[NirNode, str, Shape], Layer]] = {
    "Linear": _linear,
    "Affine": _linear,
    "Conv1d": _conv,
    "Conv2d": _conv,
    "SumPool2d": _pool,
    "AvgPool2d": _pool,
    "Flatten": _flatten,
    "Scale": _scale,
}
