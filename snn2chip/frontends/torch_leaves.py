"""Leaf modules, told by isinstance: torch.nn layers, quantised layers and neurons, each a rule to a float layer.

A torch.nn layer is a leaf only while its `forward` is torch's own; a subclass that overrides it is recorded through,
so that whatever it does to its weights is seen. Any module with `weight_parts()` or `float_soma()` is a leaf, and one
with `no_lowering` is refused with that text.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from snn2chip.frontends.torch_build import Builder, Rule
from snn2chip.frontends.torch_functions import VIEWS
from snn2chip.frontends.torch_layers import (
    adaptive_layer,
    avgpool_layer,
    batchnorm_layer,
    conv2d_layer,
    linear_layer,
    maxpool_layer,
    neuron_layer,
    simple_layer,
)
from snn2chip.frontends.torch_refusals import Refusal
from snn2chip.frontends.torch_tape import Op
from snn2chip.frontends.torch_values import Value
from snn2chip.ir.attention_layers import SecaLayer
from snn2chip.ir.layers import DropoutLayer, IdentityLayer, ReluLayer
from snn2chip.ir.linear_layers import WeightParts


def _conv2d(b: Builder, op: Op, input: Value) -> Value:
    m: Any = op.module
    if m.padding_mode != "zeros":
        raise Refusal(f"pads with {m.padding_mode!r}; only zero padding has an integer form")
    weight, parts = _weight_of(m)
    geometry = {k: getattr(m, k) for k in ("stride", "padding", "dilation", "groups")}
    return conv2d_layer(b, op, input, key=id(m), weight=weight, bias=m.bias, parts=parts, **geometry)


def _linear(b: Builder, op: Op, input: Value) -> Value:
    m: Any = op.module
    weight, parts = _weight_of(m)
    return linear_layer(b, op, input, key=id(m), weight=weight, bias=m.bias, parts=parts)


def _weight_of(module: Any) -> tuple[torch.Tensor, WeightParts | None]:
    if not hasattr(module, "weight_parts"):
        return module.weight, None
    scale, integers = module.weight_parts()
    parts = WeightParts(scale=scale.detach(), integers=integers.to(torch.int64))
    return parts.weight(), parts


def _batchnorm(b: Builder, op: Op, input: Value) -> Value:
    m: Any = op.module
    fields = {"gamma": m.weight, "beta": m.bias, "eps": m.eps}
    return batchnorm_layer(b, op, input, key=id(m), mean=m.running_mean, var=m.running_var, **fields)


def _avgpool(b: Builder, op: Op, input: Value) -> Value:
    m: Any = op.module
    names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
    return avgpool_layer(b, op, input, **{name: getattr(m, name) for name in names})


def _maxpool(b: Builder, op: Op, input: Value) -> Value:
    m: Any = op.module
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    return maxpool_layer(b, op, input, **{name: getattr(m, name) for name in names})


def _attention(b: Builder, op: Op, input: Value) -> Value:
    m: Any = op.module
    weight, bias = (v.detach().clone() for v in m.channel_attention())
    return b.on_features(op, id(m), input, lambda **at: SecaLayer(weight=weight, bias=bias, **at), lead=None)


def _flatten(b: Builder, op: Op, input: Value) -> Value:
    m: Any = op.module
    value: Value = VIEWS["flatten"](b, op, input, m.start_dim, m.end_dim)
    return value


def _adaptive(b: Builder, op: Op, input: Value) -> Value:
    m: Any = op.module
    return adaptive_layer(b, op, input, output_size=m.output_size)


_TORCH: tuple[tuple[tuple[type[nn.Module], ...], Rule], ...] = (
    ((nn.Conv2d,), _conv2d),
    ((nn.Linear,), _linear),
    ((nn.BatchNorm1d, nn.BatchNorm2d), _batchnorm),
    ((nn.AvgPool2d,), _avgpool),
    ((nn.MaxPool2d,), _maxpool),
    ((nn.AdaptiveAvgPool2d,), _adaptive),
    ((nn.Flatten,), _flatten),
    ((nn.Dropout, nn.Dropout1d, nn.Dropout2d), lambda b, op, input: simple_layer(b, op, input, DropoutLayer)),
    ((nn.Identity,), lambda b, op, input: simple_layer(b, op, input, IdentityLayer)),
    ((nn.ReLU,), lambda b, op, input: simple_layer(b, op, input, ReluLayer)),
)


def _refuse(text: str) -> Value:
    raise Refusal(text)


def leaf_rule(module: nn.Module) -> Rule | None:
    """Return the rule of a leaf module, or None if the recorder looks inside it."""
    if callable(getattr(module, "float_soma", None)):
        return neuron_layer
    if callable(getattr(module, "weight_parts", None)) and isinstance(module, (nn.Conv2d, nn.Linear)):
        return _conv2d if isinstance(module, nn.Conv2d) else _linear
    if callable(getattr(module, "channel_attention", None)):
        return _attention
    if isinstance(text := getattr(module, "no_lowering", None), str):
        return lambda b, op, *args, **kwargs: _refuse(text)
    if "forward" in module.__dict__:
        return None
    for kinds, rule in _TORCH:
        for kind in kinds:
            if isinstance(module, kind) and type(module).forward is kind.forward:
                return rule
    return None
