"""Firing with a surrogate gradient, defined on the payload `o = theta*s` and not on the count `s`.

    forward    s = clip(floor(m/theta), 0, L),   o = theta*s
    backward   rectangular:  do/dm = 1[theta/2 <= m <= (L + 1/2)*theta]         (both ends included)
               triangular:   do/dm = max(gamma - |m - theta|, 0) / gamma**2     (one level)

With L = 1 the rectangle is `|m - theta| <= theta/2`. Thresholds are constants here: no gradient reaches
theta (QCFS, which trains its threshold, writes its own rule). A surrogate of height 1 on the payload needs no
1/theta bookkeeping; `on = "spike"`, height 1 on s instead, makes do/dm theta times as large.
Sources: Wu et al. 2018 (STBP), Hao et al. NeurIPS 2024 (LM-HT, arXiv 2402.00411).
"""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.autograd import Function

SurrogateName = Literal["rectangular", "triangular"]
SurrogateOn = Literal["payload", "spike"]


def spike_count(m: Tensor, *, theta: Tensor, levels: int) -> Tensor:
    """Return the spikes of one step, `clip(floor(m/theta), 0, levels)`; a tie fires.

    `m` has any shape (potential units), `theta` broadcasts against it; the result is dimensionless.
    """
    return torch.floor(m / theta).clamp(0, levels)


class _RectangularFire(Function):
    @staticmethod
    def forward(ctx: Any, m: Tensor, theta: Tensor, levels: int, height: Tensor | float) -> Tensor:
        ctx.save_for_backward((m >= 0.5 * theta) & (m <= (levels + 0.5) * theta))
        ctx.height = height
        return theta * spike_count(m, theta=theta, levels=levels)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (band,) = ctx.saved_tensors
        return grads[0] * band * ctx.height, None, None, None


class _TriangularFire(Function):
    @staticmethod
    def forward(ctx: Any, m: Tensor, theta: Tensor, gamma: float, height: Tensor | float) -> Tensor:
        ctx.save_for_backward((gamma - (m - theta).abs()).clamp(min=0.0) / gamma**2)
        ctx.height = height
        return theta * spike_count(m, theta=theta, levels=1)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (slope,) = ctx.saved_tensors
        return grads[0] * slope * ctx.height, None, None, None


class _StraightThrough(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor) -> Tensor:
        return value.detach().clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0], None


def _apply(function: Any, *args: object) -> Tensor:
    return cast(Tensor, function.apply(*args))


def rectangular_fire(m: Tensor, *, theta: Tensor, levels: int = 1, on: SurrogateOn = "payload") -> Tensor:
    """Return the payload `theta*s` of `m` (any shape, potential units); rectangular surrogate of height 1 `on` it."""
    return _apply(_RectangularFire, m, theta, levels, _height(theta, on))


def triangular_fire(m: Tensor, *, theta: Tensor, gamma: float = 1.0, on: SurrogateOn = "payload") -> Tensor:
    """Return the payload `theta*s`, s in {0, 1}, of `m` (any shape, potential units); triangular rule `on` it."""
    return _apply(_TriangularFire, m, theta, gamma, _height(theta, on))


def _height(theta: Tensor, on: SurrogateOn) -> Tensor | float:
    """Return d payload / d what the surrogate is defined on: 1, or theta where that is the spike count."""
    return theta.detach() if on == "spike" else 1.0


def straight_through(x: Tensor, *, value: Tensor) -> Tensor:
    """Return exactly `value` (same shape as `x`); the gradient goes to `x` unchanged and none to `value`."""
    return _apply(_StraightThrough, x, value)
