"""Binary and ternary linear and convolution layers on latent float weights.

    binary    alpha_o = mean|w| of output channel o, detached;   w_b = alpha_o*sign(w), sign(0) = +1
              dL/dw = dL/dw_b * 1[|w| <= 1]
    ternary   w clipped to [-1, 1],  D = 0.7*mean|w| over the layer,  q = sign(w)*1[|w| > D],
              A_o = mean|w| over |w| > D of channel o;   w_t = A_o*q;   dL/dw = dL/dw_t * 1[|w| < 1]

A ternary channel without any |w| > D is all zero and takes the layer's own A, so that every scale is
positive. No bias by default: a norm follows.

Two choices of the binary layers: `init`, "kaiming" (the one of `nn.Linear` and `nn.Conv2d`) or "small-positive",
w uniform in (0, 1e-3) as EM-PF's released code does, so that all signs start at +1; `zero_sign`, 1 or, as the sign
function of the frameworks, 0 in training. What is handed to the compiler has sign +1 at zero either way.
Sources: Liu et al. ICML 2021 (AdamBNN); Li et al. 2016 (ternary weight networks); Hao et al. (EM-PF, arXiv 2410.07547).
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from snn2chip.nn.base import check_choice
from snn2chip.nn.quantized import QuantizedConv2d, QuantizedLinear, QuantizedWeight

InitName = Literal["kaiming", "small-positive"]


def binary_parts(w: Tensor) -> tuple[Tensor, Tensor]:
    """Return (alpha `[O]`, signs {-1,+1} like w) of weights `[O,...]`; a zero weight has sign +1.

    The scale of an all-zero channel is the smallest normal number, so that every scale is positive.
    """
    alpha = w.flatten(1).abs().mean(1).clamp(min=torch.finfo(w.dtype).tiny)
    return alpha, torch.where(w >= 0, 1.0, -1.0).to(w.dtype)


def ternary_parts(w: Tensor) -> tuple[Tensor, Tensor]:
    """Return (A `[O]`, {-1,0,+1} like w) of weights `[O,...]`; threshold 0.7 of the layer's mean |w|."""
    clipped = w.clamp(-1.0, 1.0)
    size = clipped.abs()
    kept = size > 0.7 * size.mean()
    count = kept.flatten(1).sum(1)
    total = (size * kept).flatten(1).sum(1)
    layer = (total.sum() / count.sum().clamp(min=1)).clamp(min=torch.finfo(w.dtype).tiny)
    scale = torch.where(count > 0, total / count.clamp(min=1), layer)
    return scale, clipped.sign() * kept


class _Binary(QuantizedWeight):
    weight_bits = 1
    init: InitName = "kaiming"
    zero_sign: int = 1

    def choose(self, *, init: InitName, zero_sign: int) -> None:
        """Set the two choices and draw the weights; InputError lists every value that is not allowed."""
        allowed = {"init": (init, get_args(InitName)), "zero_sign": (zero_sign, (0, 1))}
        check_choice(type(self).__name__, **allowed)
        self.init, self.zero_sign = init, zero_sign
        if init == "small-positive":
            nn.init.uniform_(self.weight, 0.0, 1e-3)

    def weight_parts(self) -> tuple[Tensor, Tensor]:
        """Return (alpha `[O]`, signs {-1,+1} like the weight, int64); a zero weight has sign +1."""
        scale, signs = binary_parts(self.weight.detach())
        return scale, signs.to(torch.int64)

    def _parts(self, w: Tensor) -> tuple[Tensor, Tensor]:
        scale, signs = binary_parts(w)
        return scale, signs if self.zero_sign else torch.sign(w)

    def _passing(self, w: Tensor) -> Tensor:
        return w.abs() <= 1


class _Ternary(QuantizedWeight):
    weight_bits = 2

    def _parts(self, w: Tensor) -> tuple[Tensor, Tensor]:
        return ternary_parts(w)

    def _passing(self, w: Tensor) -> Tensor:
        return w.abs() < 1


class BinaryLinear(_Binary, QuantizedLinear):
    """Linear layer with weights alpha_o*{-1,+1}; arguments as `nn.Linear`, `bias=False` by default."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = False,
        *,
        init: InitName = "kaiming",
        zero_sign: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(in_features, out_features, bias=bias, **kwargs)
        self.choose(init=init, zero_sign=zero_sign)


class BinaryConv2d(_Binary, QuantizedConv2d):
    """Convolution with weights alpha_o*{-1,+1}; arguments as `nn.Conv2d`, `bias=False` by default."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        *,
        init: InitName = "kaiming",
        zero_sign: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, **{"bias": False, **kwargs})
        self.choose(init=init, zero_sign=zero_sign)


class TernaryLinear(_Ternary, QuantizedLinear):
    """Linear layer with weights A_o*{-1,0,+1}; arguments as `nn.Linear`, `bias=False` by default."""

    def __init__(self, in_features: int, out_features: int, bias: bool = False, **kwargs: Any) -> None:
        super().__init__(in_features, out_features, bias=bias, **kwargs)


class TernaryConv2d(_Ternary, QuantizedConv2d):
    """Convolution with weights A_o*{-1,0,+1}; arguments as `nn.Conv2d`, `bias=False` by default."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any, **kwargs: Any) -> None:
        super().__init__(in_channels, out_channels, kernel_size, **{"bias": False, **kwargs})
