"""Temporal mixing, I(t) = sum_j Omega[t,j]*x(j), one rounding after another on the CPU.

A matrix product may add in any order and without rounding its products, and not in the same way for every size of the
batch. Here each product and each sum, j ascending, is rounded: the same bits on every processor, and those of the
compiled kernels (`snn2chip.nn.fused`). Other devices keep the matrix product, which is far faster there.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function


def mixed(x: Tensor, window: Tensor) -> Tensor:
    """Return `[T,B,...]` of steps x `[F,B,...]` and a window `[T,F]`, both of one type."""
    if x.device.type != "cpu":
        return (window @ x.flatten(1)).view(window.shape[0], *x.shape[1:])
    if torch.compiler.is_compiling():  # the same operations, which it fuses by itself
        return _combined(x, window)
    return cast(Tensor, _Mix.apply(x, window))  # type: ignore[no-untyped-call]


def _combined(rows: Tensor, window: Tensor) -> Tensor:
    steps: list[Tensor] = []
    for weights in window:
        current = weights[0] * rows[0]
        for j in range(1, rows.shape[0]):
            current = current + weights[j] * rows[j]
        steps.append(current)
    return torch.stack(steps)


class _Mix(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, window: Tensor) -> Tensor:
        ctx.save_for_backward(x, window)
        return _combined(x, window)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, window = ctx.saved_tensors
        needs_x, needs_window = ctx.needs_input_grad
        g_x = _combined(grads[0], window.t()) if needs_x else None
        return g_x, grads[0].flatten(1) @ x.flatten(1).t() if needs_window else None
