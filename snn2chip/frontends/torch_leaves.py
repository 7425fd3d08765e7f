"""Leaf modules, told by isinstance: torch.nn layers, quantised layers and neurons, each a rule to a float layer.

A torch.nn layer is a leaf only while its `forward` is torch's own; a subclass that overrides it is recorded through,
so that whatever it does to its weights is seen. Any module with `weight_parts()` or `float_soma()` is a leaf, and one
with `no_lowering` is refused with that text.
"""

from __future__ import annotations

from typing import Any

import attrs
import torch
from torch import nn

from snn2chip.frontends.torch_build import Builder, Rule
from snn2chip.frontends.torch_functions import VIEWS
from snn2chip.frontends.torch_layers import (
    batchnorm_layer,
    conv2d_layer,
    linear_layer,
    neuron_layer,
    simple_layer,
)
from snn2chip.frontends.torch_plane_functions import row
from snn2chip.frontends.torch_planes import (
    adaptive_layer,
    adaptive_maximum,
    avgpool_layer,
    conv_transpose_layer,
    maxpool_layer,
)
from snn2chip.frontends.torch_refusals import Refusal
from snn2chip.frontends.torch_tape import Op
from snn2chip.frontends.torch_values import Value
from snn2chip.ir.attention_layers import SecaLayer
from snn2chip.ir.layers import DropoutLayer, IdentityLayer, ReluLayer
from snn2chip.ir.linear_layers import WeightParts

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, *_TRANSPOSED)
_AVERAGE = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
_MAXIMUM = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")


def _conv(b: Builder, op: Op, input: Value) -> Value:
    m: Any = op.module
    if m.padding_mode != "zeros":
        raise Refusal(f"pads with {m.padding_mode!r}; only zero padding has an integer form")
    weight, parts = _weight_of(m)
    names = ["stride", "padding", "dilation", "groups"]
    make: Any = conv2d_layer
    if isinstance(m, _TRANSPOSED):
        make, names = conv_transpose_layer, [*names, "output_padding"]
    geometry = {name: getattr(m, name) for name in names}
    if weight.dim() == 3:  # over one axis: a plane of height 1
        geometry = {name: row(name, value) for name, value in geometry.items()}
        weight = weight.unsqueeze(2)
        parts = None if parts is None else attrs.evolve(parts, integers=parts.integers.unsqueeze(2))
    value: Value = make(b, op, input, key=id(m), weight=weight, bias=m.bias, parts=parts, **geometry)
    return value


def _linear(b: Builder, op: Op, input: Value) -> Value:
    m: Any = op.module
    weight, parts = _weight_of(m)
    return linear_layer(b, op, input, key=id(m), weight=weight, bias=m.bias, parts=parts)


def _weight_of(module: Any) -> tuple[torch.Tensor, WeightParts | None]:
    if not hasattr(module, "weight_parts"):
        return module.weight, None
    scale, integers = module.weight_parts()
    parts = WeightParts(scale=scale.detach(), integers=integers.to(torch.int64))
    if isinstance(module, _TRANSPOSED):  # its outputs are not the first axis
        return module.weight, parts
    return parts.weight(), parts


def _batchnorm(b: Builder, op: Op, input: Value) -> Value:
    m: Any = op.module
    fields = {"gamma": m.weight, "beta": m.bias, "eps": m.eps}
    return batchnorm_layer(b, op, input, key=id(m), mean=m.running_mean, var=m.running_var, **fields)


def _pool(make: Any, names: tuple[str, ...]) -> Rule:
    def rule(b: Builder, op: Op, input: Value) -> Value:
        m: Any = op.module
        given = {name: getattr(m, name) for name in names if hasattr(m, name)}
        if isinstance(m, (nn.AvgPool1d, nn.MaxPool1d)):
            given = {name: row(name, value) for name, value in given.items()}
        value: Value = make(b, op, input, **given)
        return value

    return rule


def _attention(b: Builder, op: Op, input: Value) -> Value:
    m: Any = op.module
    weight, bias = (v.detach().clone() for v in m.channel_attention())
    return b.on_features(op, id(m), input, lambda **at: SecaLayer(weight=weight, bias=bias, **at), lead=None)


def _flatten(b: Builder, op: Op, input: Value) -> Value:
    m: Any = op.module
    value: Value = VIEWS["flatten"](b, op, input, m.start_dim, m.end_dim)
    return value


_TORCH: tuple[tuple[tuple[type[nn.Module], ...], Rule], ...] = (
    ((nn.Conv1d, nn.Conv2d, *_TRANSPOSED), _conv),
    ((nn.Linear,), _linear),
    ((nn.BatchNorm1d, nn.BatchNorm2d), _batchnorm),
    ((nn.AvgPool1d, nn.AvgPool2d), _pool(avgpool_layer, _AVERAGE)),
    ((nn.MaxPool1d, nn.MaxPool2d), _pool(maxpool_layer, _MAXIMUM)),
    ((nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d), _pool(adaptive_layer, ("output_size",))),
    ((nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d), _pool(adaptive_maximum, ("output_size", "return_indices"))),
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
    if callable(getattr(module, "weight_parts", None)) and isinstance(module, (*_CONVOLUTIONS, nn.Linear)):
        return _linear if isinstance(module, nn.Linear) else _conv
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
