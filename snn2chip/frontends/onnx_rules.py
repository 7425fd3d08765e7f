"""The ONNX operations with a float layer: each turns values and attributes into layers, or refuses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from snn2chip.frontends.onnx_reader import Call, Reader, Rule, Value
from snn2chip.frontends.onnx_values import Data, reshaped
from snn2chip.frontends.torch_refusals import Refusal
from snn2chip.ir.channel_layers import AvgPoolLayer, BatchNormLayer, MaxPoolLayer, ScaleLayer
from snn2chip.ir.layers import AddLayer, FlattenLayer, ReluLayer
from snn2chip.ir.linear_layers import Conv2dLayer, LinearLayer
from snn2chip.ir.space_layers import ConcatLayer


def _pads(call: Call, kernel: Sequence[int], *, dilations: Sequence[int]) -> tuple[int, ...]:
    """Return the same padding before and after on every axis."""
    auto, axes = call.get("auto_pad", "NOTSET"), len(kernel)
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        if any(s != 1 for s in call.get("strides", [1])):
            raise Refusal(f"pads with auto_pad={auto} and strides; export with explicit pads")
        total = [d * (k - 1) for k, d in zip(kernel, dilations, strict=True)]
        if any(n % 2 for n in total):
            raise Refusal("pads an even kernel unevenly; use an odd kernel")
        return tuple(n // 2 for n in total)
    if auto not in ("NOTSET", "VALID"):
        raise Refusal(f"has auto_pad={auto!r}")
    pads = list(call.get("pads", [0] * 2 * axes)) if auto == "NOTSET" else [0] * 2 * axes
    if pads[:axes] != pads[axes:]:
        raise Refusal(f"pads {pads[:axes]} before and {pads[axes:]} behind; only equal pads have a layer")
    return tuple(pads[:axes])


def _plane(values: Sequence[int], *, fill: int) -> tuple[int, int]:
    """Return the fields of one or two axes as those of a plane."""
    if len(values) not in (1, 2) or min(values) < 0:
        raise Refusal(f"has {list(values)} on its spatial axes; expected one or two whole numbers")
    return (fill, int(values[0])) if len(values) == 1 else (int(values[0]), int(values[1]))


def conv(b: Reader, call: Call) -> Value:
    """Conv: one or two spatial axes, groups, equal pads."""
    weight, bias = call.weight(1), call.number(2)
    kernel = list(weight.shape[2:])
    dilations = call.get("dilations", [1] * len(kernel))
    return b.add(
        call,
        Conv2dLayer,
        [call.data()],
        weight=weight.unsqueeze(2) if len(kernel) == 1 else weight,
        bias=bias,
        stride=_plane(call.get("strides", [1] * len(kernel)), fill=1),
        padding=_plane(_pads(call, kernel, dilations=dilations), fill=0),
        dilation=_plane(dilations, fill=1),
        groups=int(call.get("group", 1)),
    )


def gemm(b: Reader, call: Call) -> Value:
    """Gemm: alpha * A B + beta * C with constant B and C."""
    call.only(transA=0)
    weight, bias = call.weight(1), call.number(2)
    if weight.dim() != 2:
        raise Refusal(f"multiplies by a constant {list(weight.shape)}; expected a matrix")
    weight = (weight if call.get("transB", 0) else weight.T) * call.get("alpha", 1.0)
    if bias is not None:
        if tuple(bias.shape) not in ((), (1,), (1, 1), (len(weight),), (1, len(weight))):
            raise Refusal(f"adds a constant {list(bias.shape)}; only one number per output")
        bias = bias.flatten().expand(len(weight)).clone() * call.get("beta", 1.0)
    return b.add(call, LinearLayer, [_flat(call.data())], weight=weight, bias=bias)


def matmul(b: Reader, call: Call) -> Value:
    """MatMul of a row of features with a constant matrix."""
    weight = call.weight(1)
    if weight.dim() != 2:
        raise Refusal("multiplies with something else than a constant matrix")
    return b.add(call, LinearLayer, [_flat(call.data())], weight=weight.T.contiguous())


def _flat(x: Data) -> Data:
    if len(x.shape) != 1:
        raise Refusal(f"acts on the last axis of {list(x.shape)} only; flatten before it")
    return x


def norm(b: Reader, call: Call) -> Value:
    """BatchNormalization at inference."""
    call.only(training_mode=0, spatial=1)
    gamma, beta, mean, var = (call.weight(i) for i in range(1, 5))
    if bool((var < 0).any()):
        raise Refusal("has a negative variance")
    fields = {"gamma": gamma, "beta": beta, "mean": mean, "var": var}
    return b.add(call, BatchNormLayer, [call.data()], **fields, eps=float(call.get("epsilon", 1e-5)))


def relu(b: Reader, call: Call) -> Value:
    """Relu."""
    return b.add(call, ReluLayer, [call.data()])


def clip(b: Reader, call: Call) -> Value:
    """Clip(0, c), a ReLU with a ceiling; without c a ReLU."""
    low, high = call.number(1), call.number(2)
    least = call.get("min", None) if low is None else float(low)
    most = call.get("max", None) if high is None else float(high)
    if least != 0 or (most is not None and not most > 0):
        raise Refusal(f"clips to {least} .. {most}; only 0 .. c with a positive c is an activation of rates")
    return b.add(call, ReluLayer, [call.data()], top=None if most is None or most > 1e30 else float(most))


def pool(b: Reader, call: Call) -> Value:
    """AveragePool and MaxPool."""
    kernel = list(call.get("kernel_shape", []))
    call.only(dilations=[1] * len(kernel), storage_order=0)
    average = call.node.op_type == "AveragePool"
    strides = call.get("strides", [1] * len(kernel))
    pads = _pads(call, kernel, dilations=[1] * len(kernel))
    if average and any(pads) and not call.get("count_include_pad", 0):
        raise Refusal("leaves its padding out of the average (count_include_pad=0); pad with count_include_pad=1")
    x = call.data()
    sizes = [n + 2 * p - k for n, p, k in zip(x.shape[1:], pads, kernel, strict=True)]
    if call.get("ceil_mode", 0) and any(n % s for n, s in zip(sizes, strides, strict=True)):
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
        keep = bool(call.get("keepdims", 1))
        rank = len(x.shape) + 1
        if sorted(a % rank for a in axes or ()) != list(range(2, rank)):
            raise Refusal(f"averages over the axes {axes}; only all axes behind the channels have a layer")
    if len(x.shape) not in (2, 3):
        raise Refusal(f"averages {list(x.shape)}; expected [C,L] or [C,H,W]")
    size = _plane(x.shape[1:], fill=1)
    made = b.add(call, AvgPoolLayer, [x], kernel=size, stride=size, factor=1.0 / math.prod(size))
    return made if keep else b.add(call, FlattenLayer, [made])


def arithmetic(b: Reader, call: Call) -> Value:
    """Add of two values; Add, Sub, Mul and Div with a constant per channel."""
    kind = call.node.op_type
    if all(isinstance(v, Data) for v in call.values):
        if kind != "Add":
            raise Refusal("joins two computed values; only their sum is linear")
        return b.add(call, AddLayer, [call.data(0), call.data(1)])
    first = isinstance(call.values[0], Data)
    x, number = call.data(0 if first else 1), call.weight(1 if first else 0)
    number = _channels(number, x)
    if kind == "Div" and (not first or bool((number == 0).any())):
        raise Refusal("divides by a computed value or by zero")
    if kind in ("Mul", "Div"):
        return b.add(call, ScaleLayer, [x], factor=number if kind == "Mul" else 1 / number.double())
    sign = 1.0 if kind == "Add" or first else -1.0
    shift = -number if kind == "Sub" and first else number
    return b.add(call, ScaleLayer, [x], factor=sign, shift=shift)


def _channels(number: torch.Tensor, x: Data) -> torch.Tensor:
    """Return a constant that broadcasts against `[N, *shape]` as one number or one per channel."""
    if number.numel() == 1:
        return number.flatten()[0]
    full = number.shape[-len(x.shape) :] if number.dim() > len(x.shape) else number.shape
    aligned = (1,) * (len(x.shape) - len(full)) + tuple(full)
    if number.numel() != math.prod(aligned) or aligned[0] != x.shape[0] or any(n != 1 for n in aligned[1:]):
        raise Refusal(f"takes a constant {list(number.shape)} for {list(x.shape)}; only one number per channel")
    return number.flatten()


def concat(b: Reader, call: Call) -> Value:
    """Concat along the channels."""
    sources = [call.data(i) for i in range(len(call.values))]
    if call.get("axis", 1) % (len(sources[0].shape) + 1) != 1:
        raise Refusal(f"joins along axis {call.get('axis', 1)}; only the channels, axis 1")
    return b.add(call, ConcatLayer, sources)


def reshape(b: Reader, call: Call) -> Value:
    """Flatten, Reshape, Squeeze and Unsqueeze that keep the batch: all features in one axis, or nothing at all."""
    x, kind = call.data(), call.node.op_type
    if kind == "Flatten":
        if call.get("axis", 1) not in (1, -len(x.shape)):
            raise Refusal(f"flattens from axis {call.get('axis', 1)}; only axis 1, behind the batch")
        return x if len(x.shape) == 1 else b.add(call, FlattenLayer, [x])
    given = call.values[1] if len(call.values) > 1 else None
    if isinstance(given, Data):
        raise Refusal("has a target that the network computes; it must be a constant")
    wanted = reshaped(x, kind, given, call.attributes)
    if wanted == x.shape:
        return x
    if wanted == (math.prod(x.shape),):
        return b.add(call, FlattenLayer, [x])
    raise Refusal(f"reads {list(x.shape)} as {list(wanted)}; only flattening all features has a layer")


def same(b: Reader, call: Call) -> Value:
    """Identity and Dropout at inference."""
    return call.data()


def softmax(b: Reader, call: Call) -> Value:
    """Softmax over the answers at the end of the network."""
    x = call.data()
    if call.get("axis", -1) % (len(x.shape) + 1) != len(x.shape) or len(x.shape) != 1:
        raise Refusal("is not over the answers, the last axis of [N, classes]")
    return b.ends(call, x)


RULES: Mapping[str, Rule] = {
    "Add": arithmetic,
    "AveragePool": pool,
    "BatchNormalization": norm,
    "Clip": clip,
    "Concat": concat,
    "Conv": conv,
    "Div": arithmetic,
    "Dropout": same,
    "Flatten": reshape,
    "Gemm": gemm,
    "GlobalAveragePool": average_all,
    "Identity": same,
    "LogSoftmax": softmax,
    "MatMul": matmul,
    "MaxPool": pool,
    "Mul": arithmetic,
    "ReduceMean": average_all,
    "Relu": relu,
    "Reshape": reshape,
    "Softmax": softmax,
    "Squeeze": reshape,
    "Sub": arithmetic,
    "Unsqueeze": reshape,
}
