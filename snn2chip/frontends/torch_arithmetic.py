"""Functions that compute: additions, scaling by constants, and functional linear and norm."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import attrs
import torch

from snn2chip.frontends.torch_build import Builder, Rule
from snn2chip.frontends.torch_functions import VIEWS, as_value
from snn2chip.frontends.torch_layers import batchnorm_layer, linear_layer, simple_layer
from snn2chip.frontends.torch_plane_functions import PLANES, constant_key, constant_weights
from snn2chip.frontends.torch_refusals import Refusal
from snn2chip.frontends.torch_tape import Op
from snn2chip.frontends.torch_values import STATIC, Const, Time, Value
from snn2chip.ir.channel_layers import ScaleLayer
from snn2chip.ir.layers import AddLayer, DropoutLayer, ReluLayer
from snn2chip.ir.linear_layers import AffineLayer


def _add(b: Builder, op: Op, input: Any, other: Any, *, alpha: float = 1) -> Value:
    if isinstance(input, Value) and isinstance(other, Value):
        return _sum_of(b, op, input, other if alpha == 1 else _scaled(b, op, other, factor=alpha))
    if isinstance(input, Value):
        return _scaled(b, op, input, shift=_times(other, alpha))
    return _scaled(b, op, as_value(other), factor=alpha, shift=input)


def _sub(b: Builder, op: Op, input: Any, other: Any, *, alpha: float = 1) -> Value:
    return _add(b, op, input, other, alpha=-alpha)


def _rsub(b: Builder, op: Op, input: Any, other: Any, *, alpha: float = 1) -> Value:
    return _add(b, op, other, input, alpha=-alpha)


def _mul(b: Builder, op: Op, input: Any, other: Any) -> Value:
    if isinstance(input, Value) and isinstance(other, Value):
        raise Refusal("multiplies two activations; only constants can scale a value")
    value, constant = (input, other) if isinstance(input, Value) else (as_value(other), input)
    return _scaled(b, op, value, factor=constant)


def _div(b: Builder, op: Op, input: Any, other: Any, *, rounding_mode: Any = None) -> Value:
    if isinstance(other, Value) or rounding_mode is not None:
        raise Refusal("divides by an activation or rounds; only constants can scale a value")
    inverse = Const(1.0 / other.tensor) if isinstance(other, Const) else 1.0 / other
    return _scaled(b, op, as_value(input), factor=inverse)


def _rdiv(b: Builder, op: Op, input: Any, other: Any = None) -> Value:
    raise Refusal("divides by an activation or rounds; only constants can scale a value")


def _neg(b: Builder, op: Op, input: Any) -> Value:
    return _scaled(b, op, as_value(input), factor=-1.0)


def _times(constant: Any, factor: float) -> Any:
    return Const(constant.tensor * factor) if isinstance(constant, Const) else constant * factor


def _scaled(b: Builder, op: Op, x: Value, *, factor: Any = 1.0, shift: Any = 0.0) -> Value:
    """Return factor*x + shift for numbers or constant tensors, scalar or per channel."""
    gain, offset = _channel_constant(b, x, factor), _channel_constant(b, x, shift)
    if gain.dim() == 0 and offset.dim() == 0 and gain == 1.0 and offset == 0.0:
        return x
    if x.time.kind == "total" and gain.dim() == 0 and offset.dim() == 0 and offset == 0.0:
        return attrs.evolve(x, time=attrs.evolve(x.time, factor=x.time.factor * float(gain)))
    b.check_total(x.time, affine=True)
    key = ("scale", tuple(gain.flatten().tolist()), tuple(offset.flatten().tolist()))
    added = None if offset.dim() == 0 and offset == 0.0 else offset
    node = b.add_layer(op, key, [x.node], lambda **at: ScaleLayer(factor=gain, shift=added, **at))
    return Value(node, x.time, x.axes)


def _channel_constant(b: Builder, x: Value, constant: Any) -> torch.Tensor:
    """Return a constant as a scalar or `[C]` in float64; Refusal if it varies along anything but the channels."""
    if not isinstance(constant, (Const, int, float)):
        raise Refusal("combines a value with something that is not a number or a constant tensor")
    tensor = torch.as_tensor(constant.tensor if isinstance(constant, Const) else constant, dtype=torch.float64)
    sizes = b.real_shape(x)
    wide = tensor.dim() > len(sizes) or any(
        n not in (1, size) for n, size in zip(reversed(tensor.shape), reversed(sizes), strict=False)
    )
    if wide:
        raise Refusal(f"broadcasts to the shape of a constant {list(tensor.shape)}")
    if tensor.numel() and bool((tensor == tensor.flatten()[0]).all()):
        return tensor.flatten()[0]
    tensor = tensor.reshape((1,) * (len(sizes) - tensor.dim()) + tuple(tensor.shape))
    varying = [i for i, n in enumerate(tensor.shape) if n != 1 and _varies(tensor, i)]
    if len(varying) == 1 and x.axes[varying[0]] == (0,):
        for i in range(tensor.dim()):
            if i != varying[0]:
                tensor = tensor.narrow(i, 0, 1)
        return tensor.flatten()
    raise Refusal("combines a value with a constant that differs within a channel; use one number per channel")


def _varies(tensor: torch.Tensor, dim: int) -> bool:
    return not bool((tensor == tensor.narrow(dim, 0, 1)).all())


def _sum_of(b: Builder, op: Op, left: Value, right: Value) -> Value:
    if left.axes != right.axes or b.shapes[left.node] != b.shapes[right.node]:
        left, right = _aligned(b, op, left, right)
    axes = left.axes if len(left.axes) >= len(right.axes) else right.axes
    total = _accumulated(left, right)
    if total is not None:
        return Value(left.node, total, axes)
    looped = _looped(b, left, right) or _looped(b, right, left)
    if looped is not None:
        return attrs.evolve(looped, axes=axes)
    times = {left.time, right.time}
    if len(times) > 1:
        times.discard(STATIC)
    if len(times) != 1 or next(iter(times)).kind == "total":
        raise Refusal(
            f"adds {left.time} of {b.layers[left.node].label} and {right.time} of {b.layers[right.node].label}; "
            "only values of the same step, or the steps of one layer, can be added"
        )
    node = b.add_layer(op, "add", [left.node, right.node], AddLayer)
    return Value(node, next(iter(times)), axes)


def _looped(b: Builder, now: Value, past: Value) -> Value | None:
    """A current of this step and what spikes of the step before give back, or None if that is not what is added."""
    if now.time.kind != "step" or past.time.kind != "step" or now.time.step != past.time.step + 1:
        return None
    if not isinstance(b.layers[past.node], AffineLayer):
        return None
    (source,) = b.inputs[past.node]
    return attrs.evolve(now, feedback=past.node) if b.calls.get(source) == now.time.step else None


def _aligned(b: Builder, op: Op, left: Value, right: Value) -> tuple[Value, Value]:
    lead_l, left = b.split(op, left)
    lead_r, right = b.split(op, right)
    if b.shapes[left.node] != b.shapes[right.node]:
        raise Refusal(f"adds {list(b.shapes[left.node])} and {list(b.shapes[right.node])}; broadcasting is not an add")
    short, long = sorted((lead_l, lead_r), key=len)
    if long[len(long) - len(short) :] != short:
        raise Refusal("adds values with different layouts of steps and batch")
    return left, right


def _accumulated(left: Value, right: Value) -> Time | None:
    """Return the time of a running sum over the steps of one layer, or None if it is an ordinary addition."""
    if left.node != right.node or left.time == right.time:
        return None
    if not {left.time.kind, right.time.kind} <= {"step", "total"} or None in (left.time.steps, right.time.steps):
        return None
    mine, other = left.time.steps or frozenset(), right.time.steps or frozenset()
    if mine & other or left.time.factor != 1.0 or right.time.factor != 1.0 or left.axes != right.axes:
        return None
    return Time("total", mine | other)


def _linear(b: Builder, op: Op, input: Any, weight: Any, bias: Any = None) -> Value:
    w, shift = constant_weights(weight, bias)
    return linear_layer(b, op, as_value(input), key=constant_key(op, weight, bias), weight=w, bias=shift)


def _matmul(b: Builder, op: Op, input: Any, other: Any) -> Value:
    w, _ = constant_weights(other, None)
    if w.dim() != 2:
        raise Refusal("multiplies with something that is not a constant matrix")
    return linear_layer(b, op, as_value(input), key=constant_key(op, other), weight=w.t(), bias=None)


def _batch_norm(
    b: Builder,
    op: Op,
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Value:
    given = (running_mean, running_var, weight, bias)
    if training or any(isinstance(v, Value) for v in given):
        raise Refusal("normalises with statistics of the sample; call it with training=False")
    mean, var, gamma, beta = (v.tensor if isinstance(v, Const) else None for v in given)
    fields = {"gamma": gamma, "beta": beta, "eps": eps}
    return batchnorm_layer(b, op, as_value(input), key=constant_key(op, *given), mean=mean, var=var, **fields)


def _dropout(b: Builder, op: Op, input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Value:
    if training and p:
        raise Refusal("drops values at inference too; pass training=self.training")
    return simple_layer(b, op, as_value(input), DropoutLayer)


def _relu(b: Builder, op: Op, input: Any, inplace: bool = False) -> Value:
    return simple_layer(b, op, as_value(input), ReluLayer)


FUNCTIONS: Mapping[str, Rule] = MappingProxyType(
    {
        **VIEWS,
        **dict.fromkeys(("add", "add_", "__add__", "__radd__", "__iadd__"), _add),
        **dict.fromkeys(("sub", "sub_", "subtract", "__sub__", "__isub__"), _sub),
        **dict.fromkeys(("rsub", "__rsub__"), _rsub),
        **dict.fromkeys(("mul", "mul_", "multiply", "__mul__", "__rmul__", "__imul__"), _mul),
        **dict.fromkeys(("div", "div_", "divide", "true_divide", "__truediv__", "__itruediv__"), _div),
        **dict.fromkeys(("__rtruediv__", "__rdiv__", "reciprocal"), _rdiv),
        **dict.fromkeys(("neg", "neg_", "negative", "__neg__"), _neg),
        **dict.fromkeys(("matmul", "mm", "__matmul__"), _matmul),
        **dict.fromkeys(("dropout", "dropout_", "dropout1d", "dropout2d", "feature_dropout"), _dropout),
        **dict.fromkeys(("relu", "relu_"), _relu),
        "linear": _linear,
        "batch_norm": _batch_norm,
        **PLANES,
    }
)
