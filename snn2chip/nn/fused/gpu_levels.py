"""IF, LIF, M-HT and LM-HT on a GPU: launches of the kernels, forward and backward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from snn2chip.nn.fused.gpu import BLOCK, ROUNDED, added, begins, constant, kernels, programs, room
from snn2chip.nn.fused.layout import as_like, like

if TYPE_CHECKING:
    from snn2chip.nn.fused.levels import LevelRule


def forward(
    rule: LevelRule,
    x: Tensor,
    window: Tensor | None,
    leak: Tensor,
    begun: Tensor | None,
    out: Tensor,
    end: Tensor | None,
) -> None:
    """Write payloads of the packed x into `out` and, unless None, the last potentials into `end`."""
    module, count = kernels(x.device), x[0].numel()
    assert module is not None
    v0, each = begins(rule.v0 if begun is None else begun, x)
    module.level_forward[(programs(count),)](
        x,
        leak.detach() if window is None else window.detach().contiguous(),
        leak.detach(),
        v0,
        rule.theta,
        out,
        out if end is None else end,
        count,
        len(x),
        rule.steps,
        float(rule.levels),
        WINDOW=window is not None,
        EACH=each,
        HARD=rule.hard,
        END=end is not None,
        BLOCK=BLOCK,
        **ROUNDED,
    )


def backward(
    rule: LevelRule,
    x: Tensor,
    window: Tensor | None,
    leak: Tensor,
    begun: Tensor | None,
    grad: Tensor,
    needed: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return g_x, g_window and g_leak, each where it is needed."""
    module, count, steps = kernels(x.device), x[0].numel(), rule.steps
    assert module is not None
    v0, each = begins(rule.v0 if begun is None else begun, x)
    g_x, m_of, parts = like(x, steps=len(x)), room(x, steps, count), programs(count)
    g_window = room(x, parts, *window.shape) if window is not None and needed[1] else None
    g_leak = room(x, parts) if needed[2] else None
    module.level_backward[(parts,)](
        x,
        as_like(grad, x),
        leak.detach() if window is None else window.detach().contiguous(),
        leak.detach(),
        v0,
        rule.theta,
        m_of,
        m_of if window is None else room(x, steps, count),
        g_x,
        m_of if g_window is None else g_window,
        m_of if g_leak is None else g_leak,
        count,
        len(x),
        steps,
        float(rule.levels),
        float(rule.gamma),
        float(rule.gamma**2),
        WINDOW=window is not None,
        EACH=each,
        HARD=rule.hard,
        DETACH=constant(module, rule.detach.upper()),
        TRIANGLE=rule.gamma > 0,
        ON_SPIKE=rule.on_spike,
        NEED_OMEGA=g_window is not None,
        NEED_LEAK=g_leak is not None,
        BLOCK=BLOCK,
        **ROUNDED,
    )
    return (
        g_x if needed[0] else None,
        None if g_window is None or window is None else added(g_window, window),
        None if g_leak is None else added(g_leak, leak),
    )
