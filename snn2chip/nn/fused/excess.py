"""EM-PF versions I and III: the fused kernels as one autograd function."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from snn2chip.nn.base import DetachName, wide
from snn2chip.nn.fused.gpu import on_gpu
from snn2chip.nn.fused.gpu_others import excess_backward, excess_forward
from snn2chip.nn.fused.layout import as_like, begins, ends, like, matrix, packed
from snn2chip.nn.fused.levels import DETACHED
from snn2chip.nn.fused.twice import plain_gradients
from snn2chip.nn.fused.work import spread
from snn2chip.nn.payload import PayloadGrid
from snn2chip.nn.surrogate import straight_through


@attrs.frozen(kw_only=True, eq=False)
class ExcessRule:
    """Constants of one EM-PF layer: theta `[T]`, leak `[T]` and v(0), all perhaps trained; no leak: nothing is kept."""

    theta: Tensor
    leak: Tensor | None
    v0: Tensor
    detach: DetachName
    grid: PayloadGrid | None

    def __call__(self, x: Tensor) -> Tensor:
        """Return payloads of currents x, `[T,B,...]` both."""
        result: Tensor = _Excess.apply(x, self.leak, self.theta, self.v0, False, self)[0]  # type: ignore[no-untyped-call]
        return result

    def step(self, x: Tensor, v: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return payloads and potentials after one step `[1,B,...]` from potentials v (None: v(0)).

        For `detach` state alone: the potentials are constants, but for a trained v(0). Nothing kept: they are 0.
        """
        if self.leak is None:
            return self(x), torch.zeros((), dtype=torch.float32, device=x.device).expand(x.shape)
        begun = self.v0 if v is None else v.unsqueeze(0)
        result: tuple[Tensor, Tensor] = _Excess.apply(x, self.leak, self.theta, begun, True, self)  # type: ignore[no-untyped-call]
        return result

    def plain(self, x: Tensor, leak: Tensor | None, theta: Tensor, v0: Tensor) -> Tensor:
        """Return the same by torch operations, which can be differentiated twice."""
        v, payloads = v0[0] if v0.dim() else v0, []
        for t, current in enumerate(wide(x).unbind(0)):
            m = current if leak is None else leak[t] * v + current
            s = torch.relu(m - theta[t])
            payloads.append((s if self.grid is None else self.grid.quantize(s)).to(x.dtype))
            v = torch.where(m > theta[t], theta[t], m)
            if self.detach != "nothing":
                v = straight_through(m, value=v) if self.detach == "reset" else v.detach()
        return torch.stack(payloads)

    def constants(self, v: Tensor, x: Tensor) -> tuple[Any, ...]:
        """Return leak, theta, v0 and whether anything is kept, as the kernels take them; `v` lies as x does."""
        theta = self.theta.detach().contiguous().numpy()
        leak = np.zeros_like(theta) if self.leak is None else self.leak.detach().contiguous().numpy()
        start = begins(v, x, 0.0) if v.dim() else begins(None, x, float(v))
        return leak, theta, start, self.leak is not None

    def payload(self) -> tuple[Any, ...]:
        """Return step (0: none), top, half-even as the kernels take them."""
        grid = self.grid
        if grid is None:
            return np.float32(0.0), np.float32(0.0), False
        return np.float32(grid.step), np.float32(grid.top), grid.rounding == "half-even"


def _on_cpu(rule: ExcessRule, x: Tensor, v0: Tensor, out: Tensor, end: Tensor | None) -> None:
    from snn2chip.nn.fused import excess_kernels

    source, target, constants = matrix(x), matrix(out), (*rule.constants(v0, x), *rule.payload())
    last_v = ends(end)

    def work(first: int, last: int) -> None:
        excess_kernels.forward(source, *constants, target, last_v, first, last)

    spread(work, target.shape[1])


class _Excess(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, leak: Tensor | None, theta: Tensor, v0: Tensor, keep: bool, rule: ExcessRule
    ) -> tuple[Tensor, Tensor | None]:
        x = packed(x)
        out = like(x, steps=x.shape[0])
        end = like(x, steps=1, dtype=torch.float32) if keep else None
        if on_gpu(x):
            excess_forward(rule, x, v0, out, end)
        else:
            _on_cpu(rule, x, v0, out, end)
        ctx.rule = rule
        ctx.save_for_backward(x, leak, theta, v0)
        if end is None:
            return out, None
        ctx.mark_non_differentiable(end)
        return out, end

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        inputs: tuple[Tensor, Tensor | None, Tensor, Tensor] = ctx.saved_tensors
        x, _, theta, v0 = inputs
        rule: ExcessRule = ctx.rule
        needed = ctx.needs_input_grad[:4]
        if torch.is_grad_enabled():
            return *plain_gradients(rule.plain(*inputs), inputs, needed, grads[0]), None, None
        if on_gpu(x):
            return *excess_backward(rule, x, v0, grads[0], needed), None, None
        from snn2chip.nn.fused import excess_kernels

        g_x = like(x, steps=x.shape[0])
        source, g_o, target = matrix(x), matrix(as_like(grads[0], x)), matrix(g_x)
        constants = rule.constants(v0, x)
        sizes = [count if wanted else 0 for count, wanted in zip((len(theta), len(theta), 1), needed[1:], strict=True)]

        def work(first: int, last: int) -> list[Any]:
            sums = [np.zeros(size) for size in sizes]
            excess_kernels.backward(source, g_o, *constants, DETACHED[rule.detach], target, *sums, first, last)
            return sums

        parts = spread(work, target.shape[1])
        g_leak, g_theta, g_start = (torch.from_numpy(sum(part[k] for part in parts)) for k in range(3))
        return (
            g_x if needed[0] else None,
            g_leak.to(theta.dtype) if needed[1] else None,
            g_theta.to(theta.dtype) if needed[2] else None,
            g_start.to(v0.dtype).view(v0.shape) if needed[3] else None,
            None,
            None,
        )
