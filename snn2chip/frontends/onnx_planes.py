"""The ONNX operations over planes: convolutions, pools and averages of one or two spatial axes, with equal pads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from snn2chip.frontends.onnx_reader import Call, Reader, Value
from snn2chip.frontends.torch_refusals import Refusal
from snn2chip.ir.channel_layers import AvgPoolLayer, MaxPoolLayer
from snn2chip.ir.layers import FlattenLayer
from snn2chip.ir.linear_layers import Conv2dLayer


def _pads(call: Call, kernel: Sequence[int], *, strides: Sequence[int], dilations: Sequence[int]) -> tuple[int, ...]:
    """Return the same padding before and after on every axis."""
    auto, axes = call.get("auto_pad", "NOTSET"), len(kernel)
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        if any(s != 1 for s in strides):
            raise Refusal(f"pads with auto_pad={auto} and strides; export with explicit pads")
        total = [d * (k - 1) for k, d in zip(kernel, dilations, strict=True)]
        if any(n % 2 for n in total):
            raise Refusal("pads an even kernel unevenly; use an odd kernel")
        return tuple(n // 2 for n in total)
    if auto not in ("NOTSET", "VALID"):
        raise Refusal(f"has auto_pad={auto!r}")
    pads = call.wholes("pads", [0] * 2 * axes, least=0) if auto == "NOTSET" else [0] * 2 * axes
    if pads[:axes] != pads[axes:]:
        raise Refusal(f"pads {pads[:axes]} before and {pads[axes:]} behind; only equal pads have a layer")
    return tuple(pads[:axes])


def _plane(values: Sequence[int], *, fill: int) -> tuple[int, int]:
    """Return the fields of one or two axes as those of a plane."""
    return (fill, int(values[0])) if len(values) == 1 else (int(values[0]), int(values[1]))


def _axes(shape: Sequence[int]) -> list[int]:
    """The spatial axes of `[C, ...]`; Refusal where there are none, or more than two."""
    if len(shape) not in (2, 3):
        raise Refusal(f"acts on {list(shape)}; expected [C, L] or [C, H, W]")
    return [1] * (len(shape) - 1)


def conv(b: Reader, call: Call) -> Value:
    """Conv: one or two spatial axes, groups, equal pads."""
    weight, bias, x = call.weight(1), call.number(2), call.data()
    ones = _axes(x.shape)
    if weight.dim() != len(x.shape) + 1:
        raise Refusal(f"has a weight {list(weight.shape)} for {list(x.shape)}; expected {len(x.shape) + 1} axes")
    kernel = list(weight.shape[2:])
    if (said := call.wholes("kernel_shape", kernel, least=1)) != kernel:
        raise Refusal(f"has kernel_shape={said}, but a weight {list(weight.shape)} with the kernel {kernel}")
    dilations, strides = (call.wholes(name, ones, least=1) for name in ("dilations", "strides"))
    return b.add(
        call,
        Conv2dLayer,
        [x],
        weight=weight.unsqueeze(2) if len(kernel) == 1 else weight,
        bias=bias,
        stride=_plane(strides, fill=1),
        padding=_plane(_pads(call, kernel, strides=strides, dilations=dilations), fill=0),
        dilation=_plane(dilations, fill=1),
        groups=call.whole("group", 1, least=1),
    )


def pool(b: Reader, call: Call) -> Value:
    """AveragePool and MaxPool."""
    x = call.data()
    ones = _axes(x.shape)
    if "kernel_shape" not in call.attributes:
        raise Refusal("has no kernel_shape")
    kernel = call.wholes("kernel_shape", ones, least=1)
    call.only(dilations=ones, storage_order=0)
    average = call.node.op_type == "AveragePool"
    strides = call.wholes("strides", ones, least=1)
    pads = _pads(call, kernel, strides=strides, dilations=ones)
    if average and any(pads) and not call.whole("count_include_pad", 0):
        raise Refusal("leaves its padding out of the average (count_include_pad=0); pad with count_include_pad=1")
    sizes = [n + 2 * p - k for n, p, k in zip(x.shape[1:], pads, kernel, strict=True)]
    if call.whole("ceil_mode", 0) and any(n % s for n, s in zip(sizes, strides, strict=True)):
        raise Refusal("rounds its size up (ceil_mode=1); export with ceil_mode=0 or sizes that divide")
    fields: dict[str, Any] = {"factor": 1.0 / math.prod(kernel)} if average else {}
    return b.add(
        call,
        AvgPoolLayer if average else MaxPoolLayer,
        [x],
        kernel=_plane(kernel, fill=1),
        stride=_plane(strides, fill=1),
        padding=_plane(pads, fill=0),
        **fields,
    )


def average_all(b: Reader, call: Call) -> Value:
    """GlobalAveragePool, and ReduceMean over all spatial axes."""
    x, keep = call.data(), True
    if call.node.op_type == "ReduceMean":
        given = call.values[1] if len(call.values) > 1 else None
        axes = call.get("axes", None) if given is None else np.asarray(given).tolist()
        keep = bool(call.whole("keepdims", 1))
        rank = len(x.shape) + 1
        if sorted(a % rank for a in axes or ()) != list(range(2, rank)):
            raise Refusal(f"averages over the axes {axes}; only all axes behind the channels have a layer")
    _axes(x.shape)
    size = _plane(x.shape[1:], fill=1)
    made = b.add(call, AvgPoolLayer, [x], kernel=size, stride=size, factor=1.0 / math.prod(size))
    return made if keep else b.add(call, FlattenLayer, [made])
