"""Layers whose forward weights are `scale_o * integer`, one positive scale per output channel.

    forward   y = layer(x; scale_o * q)          q integers, kept out of the graph
    backward  dL/dw = dL/d(scale*q) * pass(w)    latent weights w, straight through; the scale is detached

A subclass of `QuantizedWeight` says how w becomes (scale, q) and where the gradient passes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional


class _WeightThrough(Function):
    @staticmethod
    def forward(ctx: Any, w: Tensor, value: Tensor, passing: Tensor) -> Tensor:
        ctx.save_for_backward(passing)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (passing,) = ctx.saved_tensors
        return grads[0] * passing, None, None


class QuantizedWeight(nn.Module, ABC):
    """Mixed into `nn.Linear` or `nn.Conv2d`: latent `weight` `[O,...]`, quantised in every forward."""

    weight_bits: int  # 1 for binary, 2 for ternary, else the signed width
    weight: Tensor

    def weight_parts(self) -> tuple[Tensor, Tensor]:
        """Return (scale `[O]` > 0, int64 like the weight); the forward weight is exactly their product."""
        with torch.no_grad():
            scale, integers = self._parts(self.weight.detach())
        return scale, integers.to(torch.int64)

    def quantized_weight(self) -> Tensor:
        """Return scale*integers with the straight-through gradient to the latent weight."""
        with torch.no_grad():
            w = self.weight.detach()
            scale, integers = self._parts(w)
            value = scale.view(-1, *[1] * (w.dim() - 1)) * integers
            passing = self._passing(w)
        through = cast(Any, _WeightThrough).apply(self.weight, value, passing)
        return cast(Tensor, through)

    @abstractmethod
    def _parts(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Return (scale `[O]`, integers as floats) of the weights."""

    @abstractmethod
    def _passing(self, w: Tensor) -> Tensor:
        """Return where the gradient passes, 0 or 1 for every weight."""


class QuantizedLinear(QuantizedWeight, nn.Linear):
    """`nn.Linear` on quantised weights, `[..., in] -> [..., out]`."""

    def forward(self, input: Tensor) -> Tensor:
        """Return x @ (scale*q)^T + bias."""
        return functional.linear(input, self.quantized_weight(), self.bias)


class QuantizedConv2d(QuantizedWeight, nn.Conv2d):
    """`nn.Conv2d` on quantised weights, `[N,C,H,W] -> [N,O,H',W']`."""

    def forward(self, input: Tensor) -> Tensor:
        """Return conv2d(x; scale*q) + bias."""
        return cast(Tensor, self._conv_forward(input, self.quantized_weight(), self.bias))
