"""Functional convolutions, pooling and resampling, over planes `[C,H,W]` and over one axis `[C,L]`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch

from snn2chip.frontends.torch_build import Builder, Rule
from snn2chip.frontends.torch_functions import as_value
from snn2chip.frontends.torch_layers import conv2d_layer
from snn2chip.frontends.torch_planes import (
    adaptive_layer,
    adaptive_maximum,
    avgpool_layer,
    conv_transpose_layer,
    maxpool_layer,
    upsample_layer,
)
from snn2chip.frontends.torch_refusals import Refusal
from snn2chip.frontends.torch_tape import Op
from snn2chip.frontends.torch_values import Const, Value

_POOL = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
_MAXIMUM = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
_SPATIAL = ("kernel_size", "stride", "padding", "output_padding", "dilation")


def row(name: str, value: Any) -> Any:
    """Return an argument of a layer over one axis as that of a layer over planes of height 1."""
    if name not in _SPATIAL or value is None or isinstance(value, str) or (name == "stride" and value in ((), [])):
        return value
    (size,) = value if isinstance(value, (tuple, list)) else (value,)
    return (0 if "padding" in name else 1, size)


def _conv(dims: int) -> Rule:
    def rule(
        b: Builder,
        op: Op,
        input: Any,
        weight: Any,
        bias: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Value:
        w, shift = constant_weights(weight, bias)
        geometry = {"stride": stride, "padding": padding, "dilation": dilation}
        key = (*constant_key(op, weight, bias), str(geometry), groups)
        if dims == 1:
            w, geometry = w.unsqueeze(2), {name: row(name, value) for name, value in geometry.items()}
        return conv2d_layer(b, op, as_value(input), key=key, weight=w, bias=shift, groups=groups, **geometry)

    return rule


def _conv_transpose(dims: int) -> Rule:
    def rule(
        b: Builder,
        op: Op,
        input: Any,
        weight: Any,
        bias: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Value:
        w, shift = constant_weights(weight, bias)
        geometry = {"stride": stride, "padding": padding, "output_padding": output_padding, "dilation": dilation}
        key = (*constant_key(op, weight, bias), str(geometry), groups)
        if dims == 1:
            w, geometry = w.unsqueeze(2), {name: row(name, value) for name, value in geometry.items()}
        return conv_transpose_layer(b, op, as_value(input), key=key, weight=w, bias=shift, groups=groups, **geometry)

    return rule


def _pool(make: Any, names: tuple[str, ...], dims: int) -> Rule:
    def rule(b: Builder, op: Op, input: Any, *args: Any, **kwargs: Any) -> Value:
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        if len(args) > len(names) or set(given) - set(names):
            raise Refusal("is called with arguments that are not supported here")
        if dims == 1:
            given = {name: row(name, value) for name, value in given.items()}
        value: Value = make(b, op, as_value(input), **given)
        return value

    return rule


def _adaptive(make: Any) -> Rule:
    def rule(b: Builder, op: Op, input: Any, output_size: Any, **rest: Any) -> Value:
        value: Value = make(b, op, as_value(input), output_size=output_size, **rest)
        return value

    return rule


def _interpolate(
    b: Builder,
    op: Op,
    input: Any,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: Any = None,
    recompute_scale_factor: Any = None,
    antialias: bool = False,
) -> Value:
    return upsample_layer(b, op, as_value(input), size=size, scale_factor=scale_factor, mode=mode)


def constant_weights(weight: Any, bias: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return weight and bias as tensors; Refusal if they depend on the input."""
    if not isinstance(weight, Const) or not (bias is None or isinstance(bias, Const)):
        raise Refusal("has weights that depend on the data; only constant weights can be stored")
    return weight.tensor, None if bias is None else bias.tensor


def constant_key(op: Op, *constants: Any) -> tuple[Any, ...]:
    """Return a key that is equal for equal weights: names if they are registered, else a digest of the values."""
    return (op.name, *(c.name or _digest(c.tensor) for c in constants if isinstance(c, Const)))


def _digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.detach().cpu().double().contiguous().numpy().tobytes()).hexdigest()


PLANES: Mapping[str, Rule] = MappingProxyType(
    {
        "conv1d": _conv(1),
        "conv2d": _conv(2),
        "conv_transpose1d": _conv_transpose(1),
        "conv_transpose2d": _conv_transpose(2),
        "avg_pool1d": _pool(avgpool_layer, _POOL, 1),
        "avg_pool2d": _pool(avgpool_layer, _POOL, 2),
        "max_pool1d": _pool(maxpool_layer, _MAXIMUM, 1),
        "max_pool2d": _pool(maxpool_layer, _MAXIMUM, 2),
        **dict.fromkeys(("adaptive_avg_pool1d", "adaptive_avg_pool2d"), _adaptive(adaptive_layer)),
        **dict.fromkeys(("adaptive_max_pool1d", "adaptive_max_pool2d"), _adaptive(adaptive_maximum)),
        **dict.fromkeys(("interpolate", "upsample", "upsample_nearest"), _interpolate),
    }
)
