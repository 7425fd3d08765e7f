"""The ONNX operations with a float layer: each turns values and attributes into layers, or refuses."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from snn2chip.frontends.onnx_planes import average_all, conv, pool
from snn2chip.frontends.onnx_reader import Call, Reader, Rule, Value
from snn2chip.frontends.onnx_values import Data, reshaped
from snn2chip.frontends.torch_refusals import Refusal
from snn2chip.ir.channel_layers import BatchNormLayer, ScaleLayer
from snn2chip.ir.layers import AddLayer, FlattenLayer, ReluLayer
from snn2chip.ir.linear_layers import LinearLayer
from snn2chip.ir.space_layers import ConcatLayer


def gemm(b: Reader, call: Call) -> Value:
    """Gemm: alpha * A B + beta * C with constant B and C."""
    call.only(transA=0)
    weight, bias = call.weight(1), call.number(2)
    if weight.dim() != 2:
        raise Refusal(f"multiplies by a constant {list(weight.shape)}; expected a matrix")
    weight = (weight if call.whole("transB", 0) else weight.T) * call.real("alpha", 1.0)
    if bias is not None:
        if tuple(bias.shape) not in ((), (1,), (1, 1), (len(weight),), (1, len(weight))):
            raise Refusal(f"adds a constant {list(bias.shape)}; only one number per output")
        bias = bias.flatten().expand(len(weight)).clone() * call.real("beta", 1.0)
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
    return b.add(call, BatchNormLayer, [call.data()], **fields, eps=call.real("epsilon", 1e-5))


def relu(b: Reader, call: Call) -> Value:
    """Relu."""
    return b.add(call, ReluLayer, [call.data()])


def clip(b: Reader, call: Call) -> Value:
    """Clip(0, c), a ReLU with a ceiling; without c a ReLU."""
    if b.opset >= 11 and (old := [name for name in ("min", "max") if name in call.attributes]):
        raise Refusal(f"has the attributes {', '.join(old)}, which are inputs since version 11 of the operators")
    for name, bound in (("min", low := call.number(1)), ("max", high := call.number(2))):
        if bound is not None and bound.numel() != 1:
            raise Refusal(f"has {bound.numel()} numbers as its {name}; expected one")
    least = call.get("min", None) if low is None else float(low)
    most = call.get("max", None) if high is None else float(high)
    if least != 0 or (most is not None and not most > 0):
        raise Refusal(f"clips to {least} .. {most}; only 0 .. c with a positive c is an activation of rates")
    return b.add(call, ReluLayer, [call.data()], top=None if most is None or most > 1e30 else float(most))


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
    if (axis := call.whole("axis", 1)) % (len(sources[0].shape) + 1) != 1:
        raise Refusal(f"joins along axis {axis}; only the channels, axis 1")
    return b.add(call, ConcatLayer, sources)


def reshape(b: Reader, call: Call) -> Value:
    """Flatten, Reshape, Squeeze and Unsqueeze that keep the batch: all features in one axis, or nothing at all."""
    x, kind = call.data(), call.node.op_type
    if kind == "Flatten":
        if (axis := call.whole("axis", 1)) not in (1, -len(x.shape)):
            raise Refusal(f"flattens from axis {axis}; only axis 1, behind the batch")
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
    """Identity."""
    return call.data()


def dropout(b: Reader, call: Call) -> Value:
    """Dropout at inference: its attribute is_test (operators before version 7) or its third input (from 12) says so."""
    trains = call.number(2)
    if (b.opset < 7 and not call.whole("is_test", 0)) or (trains is not None and bool(trains.any())):
        name = "is_test=0" if b.opset < 7 else "training_mode=True"
        raise Refusal(f"drops values at random ({name}); export the network in its mode for inference: model.eval()")
    return call.data()


def softmax(b: Reader, call: Call) -> Value:
    """Softmax over the answers at the end of the network."""
    x = call.data()
    if call.whole("axis", -1) % (len(x.shape) + 1) != len(x.shape) or len(x.shape) != 1:
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
    "Dropout": dropout,
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
