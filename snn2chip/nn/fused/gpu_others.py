"""QCFS and EM-PF on a GPU: launches of the kernels, forward and backward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from snn2chip.nn.fused.gpu import BLOCK, ROUNDED, added, begins, constant, kernels, programs, room
from snn2chip.nn.fused.layout import as_like, like

if TYPE_CHECKING:
    from snn2chip.nn.fused.clips import ClipRule
    from snn2chip.nn.fused.excess import ExcessRule


def clip_forward(rule: ClipRule, z: Tensor, out: Tensor) -> None:
    """Write payloads of the packed z into `out`."""
    module = kernels(z.device)
    assert module is not None
    module.clip_forward[(programs(z.numel()),)](
        z, rule.theta.detach(), out, z.numel(), *rule.bounds(), AFTER=rule.after, BLOCK=BLOCK, **ROUNDED
    )


def clip_backward(
    rule: ClipRule, z: Tensor, theta: Tensor, grad: Tensor, needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Return g_z and g_theta, each where it is needed."""
    module, g_z = kernels(z.device), like(z, steps=len(z))
    assert module is not None
    g_theta = room(z, programs(z.numel()))
    module.clip_backward[(programs(z.numel()),)](
        z,
        as_like(grad, z),
        theta.detach(),
        g_z,
        g_theta,
        z.numel(),
        *rule.bounds(),
        AFTER=rule.after,
        NEED_THETA=needed[1],
        BLOCK=BLOCK,
        **ROUNDED,
    )
    return g_z if needed[0] else None, added(g_theta, theta) if needed[1] else None


def excess_forward(rule: ExcessRule, x: Tensor, v0: Tensor, out: Tensor, end: Tensor | None) -> None:
    """Write payloads of the packed x into `out` and, unless None, the last potentials into `end`."""
    module, count, grid = kernels(x.device), x[0].numel(), rule.grid
    assert module is not None
    start, each = begins(v0, x)
    theta, leak = rule.theta.detach().contiguous(), _leak(rule)
    module.excess_forward[(programs(count),)](
        x,
        leak,
        theta,
        start,
        out,
        out if end is None else end,
        count,
        len(x),
        1.0 if grid is None else float(grid.step),
        1.0 if grid is None else float(grid.top),
        KEPT=rule.leak is not None,
        EACH=each,
        GRID=grid is not None,
        EVEN=grid is not None and grid.rounding == "half-even",
        END=end is not None,
        BLOCK=BLOCK,
        **ROUNDED,
    )


def excess_backward(
    rule: ExcessRule, x: Tensor, v0: Tensor, grad: Tensor, needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    """Return g_x, g_leak, g_theta and g_v0, each where it is needed."""
    module, count, steps = kernels(x.device), x[0].numel(), len(x)
    assert module is not None
    start, each = begins(v0, x)
    theta, leak, parts = rule.theta.detach().contiguous(), _leak(rule), programs(count)
    g_x, m_of = like(x, steps=steps), room(x, steps, count)
    sums = [room(x, parts, steps), room(x, parts, steps), room(x, parts)]
    module.excess_backward[(parts,)](
        x,
        as_like(grad, x),
        leak,
        theta,
        start,
        m_of,
        g_x,
        *sums,
        count,
        steps,
        KEPT=rule.leak is not None,
        EACH=each,
        DETACH=constant(module, rule.detach.upper()),
        NEED_LEAK=needed[1],
        NEED_THETA=needed[2],
        NEED_START=needed[3],
        BLOCK=BLOCK,
        **ROUNDED,
    )
    found = [
        added(part, like) if need else None
        for part, like, need in zip(sums, (theta, theta, v0), needed[1:], strict=True)
    ]
    return g_x if needed[0] else None, found[0], found[1], found[2]


def _leak(rule: ExcessRule) -> Tensor:
    return torch.zeros_like(rule.theta) if rule.leak is None else rule.leak.detach().contiguous()
