"""QCFS: the fused kernels as one autograd function."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from snn2chip.nn.base import wide
from snn2chip.nn.fused.gpu import on_gpu
from snn2chip.nn.fused.gpu_others import clip_backward, clip_forward
from snn2chip.nn.fused.layout import as_like, like, matrix, packed
from snn2chip.nn.fused.twice import plain_gradients
from snn2chip.nn.fused.work import spread
from snn2chip.nn.surrogate import straight_through


@attrs.frozen(kw_only=True, eq=False)
class ClipRule:
    """Constants of one QCFS layer: theta = vth/L, which may be trained, and where it clips."""

    theta: Tensor
    levels: int
    after: bool

    def __call__(self, z: Tensor) -> Tensor:
        """Return payload values of currents z, `[T,B,...]` both."""
        result: Tensor = _Clip.apply(z, self.theta, self)  # type: ignore[no-untyped-call]
        return result

    def plain(self, z: Tensor, theta: Tensor) -> Tensor:
        """Return the same by torch operations, which can be differentiated twice."""
        low, high = self.bounds()
        ratio = (wide(z) + theta / 2) / theta
        if self.after:
            count = straight_through(ratio, value=torch.floor(ratio)).clamp(low, high)
        else:
            clipped = ratio.clamp(low, high)
            count = straight_through(clipped, value=torch.floor(clipped))
        return (theta * count).to(z.dtype)

    def bounds(self) -> tuple[float, float]:
        """Return what the value that is clipped lies between, in units of theta."""
        return (0.0, float(self.levels)) if self.after else (0.5, self.levels + 0.5)

    def constants(self) -> tuple[Any, ...]:
        """Return theta, shift, low, high, after as the kernels take them."""
        theta = self.theta.detach()
        scalars = (float(theta), float(theta / 2), *self.bounds())
        return (*map(np.float32, scalars), self.after)


def _on_cpu(rule: ClipRule, z: Tensor, out: Tensor) -> None:
    from snn2chip.nn.fused import clip_kernels

    source, target, constants = matrix(z).reshape(-1), matrix(out).reshape(-1), rule.constants()
    spread(lambda first, last: clip_kernels.forward(source, *constants, target, first, last), target.size)


class _Clip(Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, theta: Tensor, rule: ClipRule) -> Tensor:
        z = packed(z)
        out = like(z, steps=z.shape[0])
        if on_gpu(z):
            clip_forward(rule, z, out)
        else:
            _on_cpu(rule, z, out)
        ctx.rule = rule
        ctx.save_for_backward(z, theta)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        z, theta = ctx.saved_tensors
        rule: ClipRule = ctx.rule
        if torch.is_grad_enabled():
            return *plain_gradients(rule.plain(z, theta), (z, theta), ctx.needs_input_grad[:2], grads[0]), None
        if on_gpu(z):
            return *clip_backward(rule, z, theta, grads[0], ctx.needs_input_grad[:2]), None
        from snn2chip.nn.fused import clip_kernels

        needs_z, needs_theta = ctx.needs_input_grad[:2]
        g_z = like(z, steps=z.shape[0])
        source, g_o, target = (matrix(value).reshape(-1) for value in (z, as_like(grads[0], z), g_z))
        constants = rule.constants()

        def work(first: int, last: int) -> Any:
            g_theta = np.zeros(1 if needs_theta else 0)
            clip_kernels.backward(source, g_o, *constants, target, g_theta, first, last)
            return g_theta

        g_theta = sum(spread(work, target.size))
        return (
            g_z if needs_z else None,
            torch.tensor(g_theta[0], dtype=theta.dtype, device="cpu").view(theta.shape) if needs_theta else None,
            None,
        )
