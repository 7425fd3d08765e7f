"""IF, LIF, M-HT and LM-HT: the fused kernels as one autograd function."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from snn2chip.nn.base import DetachName, wide
from snn2chip.nn.fused import gpu_levels
from snn2chip.nn.fused.gpu import on_gpu
from snn2chip.nn.fused.layout import as_like, begins, ends, like, matrix, packed
from snn2chip.nn.fused.twice import plain_gradients
from snn2chip.nn.fused.work import spread
from snn2chip.nn.mixing import mixed
from snn2chip.nn.surrogate import SurrogateOn, rectangular_fire, triangular_fire

DETACHED = {"nothing": 0, "reset": 1, "state": 2}


@attrs.frozen(kw_only=True, eq=False)
class LevelRule:
    """Constants of one neuron layer, scalars where nothing else is said. `window` `[T,F]` and `leak` may be trained.

    The surrogate is rectangular, theta/2 .. (L + 1/2)*theta, or with `gamma` > 0 the triangular one; `on_spike`: its
    height 1 is that of the spike count. Tensors stay on their device: no number is waited for on a GPU.
    """

    steps: int
    levels: int
    window: Tensor | None = None
    leak: Tensor
    v0: Tensor
    theta: Tensor
    on_spike: bool = False
    gamma: float = 0.0
    hard: bool = False
    detach: DetachName

    def __call__(self, x: Tensor) -> Tensor:
        """Return payload values `[T,B,...]` of currents x."""
        result: Tensor = _Levels.apply(x, self.window, self.leak, None, self)[0]  # type: ignore[no-untyped-call]
        return result

    def step(self, x: Tensor, v: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return payload values and potentials after one step `[1,B,...]` from potentials v (None: v(0)).

        For `detach` state alone: v is a constant before and after.
        """
        result: tuple[Tensor, Tensor] = _Levels.apply(x, self.window, self.leak, self.begun(v), self)  # type: ignore[no-untyped-call]
        return result

    def begun(self, v: Tensor | None) -> Tensor:
        """Return the potentials a step begins with, `[1]` where one is for all neurons."""
        return self.v0.reshape(1) if v is None else v.unsqueeze(0)

    def plain(self, x: Tensor, window: Tensor | None, leak: Tensor, begun: Tensor | None = None) -> Tensor:
        """Return the same by torch operations, which can be differentiated twice."""
        theta = self.theta
        on: SurrogateOn = "spike" if self.on_spike else "payload"
        currents = wide(x) if window is None else mixed(wide(x), window)
        v = self.v0.expand(currents[0].shape) if begun is None else begun[0]
        payloads: list[Tensor] = []
        for t in range(self.steps):
            m = leak * v + currents[t]
            if self.gamma:
                o = triangular_fire(m, theta=theta, gamma=self.gamma, on=on)
            else:
                o = rectangular_fire(m, theta=theta, levels=self.levels, on=on)
            seen = o if self.detach == "nothing" else o.detach()
            v = m * (1 - seen / theta) if self.hard else m - seen
            v = v.detach() if self.detach == "state" else v
            payloads.append(o.to(x.dtype))
        return torch.stack(payloads)

    def constants(self, v: Tensor | None, x: Tensor) -> tuple[Any, ...]:
        """Return omega, leak, v0, theta, levels as the kernels take them; `v` lies in memory as x does."""
        omega = np.empty((0, 0), np.float32) if self.window is None else self.window.detach().contiguous().numpy()
        return (
            omega,
            np.float32(float(self.leak)),
            begins(v, x, float(self.v0)),
            np.float32(float(self.theta)),
            np.float32(self.levels),
        )

    def surrogate(self) -> tuple[Any, ...]:
        """Return low, high, height, gamma, gamma^2 as the kernels take them."""
        low, high = 0.5 * self.theta, (self.levels + 0.5) * self.theta
        height = float(self.theta) if self.on_spike else 1.0
        return tuple(map(np.float32, (float(low), float(high), height, self.gamma, self.gamma**2)))


def _on_cpu(rule: LevelRule, x: Tensor, begun: Tensor | None, out: Tensor, end: Tensor | None) -> None:
    from snn2chip.nn.fused import level_kernels

    source, target, last_v = matrix(x), matrix(out), ends(end)
    constants = rule.constants(begun, x)

    def work(first: int, last: int) -> None:
        level_kernels.forward(source, *constants, rule.hard, target, last_v, first, last)

    spread(work, target.shape[1])


class _Levels(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, window: Tensor | None, leak: Tensor, begun: Tensor | None, rule: LevelRule
    ) -> tuple[Tensor, Tensor | None]:
        x = packed(x)
        out = like(x, steps=rule.steps)
        end = None if begun is None else like(x, steps=1, dtype=torch.float32)
        if on_gpu(x):
            gpu_levels.forward(rule, x, window, leak, begun, out, end)
        else:
            _on_cpu(rule, x, begun, out, end)
        ctx.rule = rule
        ctx.save_for_backward(x, window, leak, begun)
        if end is None:
            return out, None
        ctx.mark_non_differentiable(end)
        return out, end

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, window, leak, begun = ctx.saved_tensors
        rule: LevelRule = ctx.rule
        if torch.is_grad_enabled():
            inputs = (x, window, leak)
            found = plain_gradients(rule.plain(*inputs, begun), inputs, ctx.needs_input_grad[:3], grads[0])
            return *found, None, None
        if on_gpu(x):
            return *gpu_levels.backward(rule, x, window, leak, begun, grads[0], ctx.needs_input_grad[:3]), None, None
        from snn2chip.nn.fused import level_kernels

        constants = rule.constants(begun, x)
        needs_x, needs_window, needs_leak = ctx.needs_input_grad[:3]
        g_x = like(x, steps=x.shape[0])
        source, g_o, target = matrix(x), matrix(as_like(grads[0], x)), matrix(g_x)
        shape = tuple(window.shape) if needs_window else (0, 0)
        surrogate = rule.surrogate()

        def work(first: int, last: int) -> tuple[Any, Any]:
            g_window, g_leak = np.zeros(shape), np.zeros(1 if needs_leak else 0)
            level_kernels.backward(
                source,
                g_o,
                *constants,
                *surrogate,
                rule.hard,
                DETACHED[rule.detach],
                target,
                g_window,
                g_leak,
                first,
                last,
            )
            return g_window, g_leak

        sums = spread(work, target.shape[1])
        g_window = sum(part[0] for part in sums)
        g_leak = sum(part[1] for part in sums)
        return (
            g_x if needs_x else None,
            torch.from_numpy(g_window).to(window.dtype) if needs_window else None,
            torch.from_numpy(g_leak).to(leak.dtype).view(leak.shape) if needs_leak else None,
            None,
            None,
        )
