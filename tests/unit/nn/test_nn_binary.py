"""Binary and ternary layers by hand, and the parts they hand to the quantizer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from snn2chip.nn import (
    BinaryConv2d,
    BinaryLinear,
    IntConv2d,
    IntLinear,
    QuantizedConv2d,
    QuantizedLinear,
    TernaryConv2d,
    TernaryLinear,
)
from snn2chip.nn.binary import binary_parts, ternary_parts

LINEAR: list[tuple[type[QuantizedLinear], dict[str, Any]]] = [
    (BinaryLinear, {}),
    (TernaryLinear, {}),
    *((IntLinear, {"bits": bits}) for bits in (2, 4, 8)),
]
CONV: list[tuple[type[QuantizedConv2d], dict[str, Any]]] = [
    (BinaryConv2d, {"stride": 2, "padding": 1}),
    (TernaryConv2d, {"groups": 2, "bias": True}),
    *((IntConv2d, {"bits": bits, "padding": 1, "dilation": 2}) for bits in (2, 4, 8)),
]


def test_binary_by_hand() -> None:
    layer = BinaryLinear(4, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.5, -0.25, 0.0, -0.25], [2.0, -0.5, 1.0, -0.0]]))
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0]], requires_grad=True)
    y = layer(x)
    # channel 0: alpha 0.25, signs + - + -;  channel 1: alpha 0.875, signs + - + + (a zero of either sign is +1)
    assert y.tolist() == [[0.25 * (1 - 2 + 3 - 4), 0.875 * (1 - 2 + 3 + 4)]]
    scale, signs = layer.weight_parts()
    assert scale.tolist() == [0.25, 0.875]
    assert signs.tolist() == [[1, -1, 1, -1], [1, -1, 1, 1]]
    assert signs.dtype == torch.int64
    (y * torch.tensor([[1.0, 10.0]])).sum().backward()
    # straight through where |w| <= 1 (1.0 passes, 2.0 does not), nothing through alpha
    assert layer.weight.grad is not None
    assert layer.weight.grad.tolist() == [[1.0, 2.0, 3.0, 4.0], [0.0, 20.0, 30.0, 40.0]]
    assert x.grad is not None
    assert x.grad.tolist() == [[9.0, -9.0, 9.0, 8.5]]


def test_ternary_by_hand() -> None:
    layer = TernaryLinear(4, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.5, -0.5, 0.25, 0.0], [-1.0, 0.75, -0.25, 0.25]]))
    # clipped magnitudes 1, .5, .25, 0, 1, .75, .25, .25: mean 0.5, D = 0.35
    scale, values = layer.weight_parts()
    assert values.tolist() == [[1, -1, 0, 0], [-1, 1, 0, 0]]
    assert scale.tolist() == [0.75, 0.875]
    layer(torch.tensor([[1.0, 2.0, 3.0, 4.0]])).sum().backward()
    assert layer.weight.grad is not None  # open interval: neither 1.5 nor -1.0 passes
    assert layer.weight.grad.tolist() == [[0.0, 2.0, 3.0, 4.0], [0.0, 2.0, 3.0, 4.0]]


def test_degenerate_channels_keep_a_positive_scale() -> None:
    w = torch.tensor([[1.0, -1.0], [0.0, 0.001]])
    scale, values = ternary_parts(w)
    assert values.tolist() == [[1, -1], [0, 0]]
    assert scale.tolist() == [1.0, 1.0]
    for parts in (binary_parts, ternary_parts):
        scale, _ = parts(torch.zeros(2, 3))
        assert (scale > 0).all()


@pytest.mark.parametrize(("kind", "args"), LINEAR)
def test_linear_forward_is_scale_times_integers(kind: type[QuantizedLinear], args: dict[str, Any]) -> None:
    torch.manual_seed(0)
    layer = kind(20, 6, **args)
    scale, integers = layer.weight_parts()
    x = torch.randn(3, 20)
    check_parts(layer, scale, integers)
    assert torch.equal(layer.quantized_weight(), scale.view(-1, 1) * integers)
    assert torch.equal(layer(x), functional.linear(x, scale.view(-1, 1) * integers, layer.bias))


@pytest.mark.parametrize(("kind", "args"), CONV)
def test_conv_forward_is_scale_times_integers(kind: type[QuantizedConv2d], args: dict[str, Any]) -> None:
    torch.manual_seed(0)
    layer = kind(4, 6, 3, **args)
    scale, integers = layer.weight_parts()
    check_parts(layer, scale, integers)
    plain = nn.Conv2d(4, 6, 3, **{"bias": layer.bias is not None, **{k: v for k, v in args.items() if k != "bits"}})
    with torch.no_grad():
        plain.weight.copy_(scale.view(-1, 1, 1, 1) * integers)
        if layer.bias is not None and plain.bias is not None:
            plain.bias.copy_(layer.bias)
    x = torch.randn(2, 4, 9, 9)
    assert torch.equal(layer(x), plain(x))


def check_parts(layer: QuantizedLinear | QuantizedConv2d, scale: Tensor, integers: Tensor) -> None:
    bits = layer.weight_bits
    assert scale.shape == (6,)
    assert (scale > 0).all()
    assert integers.shape == layer.weight.shape
    assert integers.dtype == torch.int64
    top = 1 if bits == 1 else 2 ** (bits - 1) - 1
    assert integers.abs().max() <= top
    if bits == 1:
        assert set(integers.unique().tolist()) == {-1, 1}


def test_no_bias_by_default() -> None:
    assert BinaryLinear(3, 2).bias is None
    assert TernaryConv2d(3, 2, 3).bias is None
    assert BinaryConv2d(3, 2, 3, bias=True).bias is not None
