"""What happened inside a soma in a run: currents and potentials before firing, recomputed from a trace's payloads."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import torch
from torch.nn import functional

from snn2chip.ir.dynamics import fired, mix_window, rshift, trunc4096, wrap24
from snn2chip.ir.geometry import channel_weight
from snn2chip.ir.nodes import Product, Synapse
from snn2chip.ir.program import Edge, Program
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import V_MAX, IntArray
from snn2chip.trace import Trace


@attrs.frozen(kw_only=True, eq=False)
class Inside:
    """Integers `[T, B, *shape]` of one soma.

    `current` summed, `mixed` behind the window, `scaled` x behind the gain, `synaptic` u before it wraps (or None),
    `total` the potential before saturation, `start` the potential that a step began with (behind the last reset).
    """

    current: IntArray
    mixed: IntArray
    scaled: IntArray
    synaptic: IntArray | None
    total: IntArray
    start: IntArray

    @property
    def before(self) -> IntArray:
        """The potential before firing."""
        return np.clip(self.total, -V_MAX, V_MAX)


def inside(program: Program, trace: Trace, soma: Soma) -> Inside:
    """Everything inside `soma` in a run that recorded all payloads and this soma's potentials."""
    current: IntArray = sum(source_current(program, trace, edge.src) for edge in program.into[soma.name])  # type: ignore[assignment]
    mixed = current if soma.window is None else mix_window(soma, current)
    x = np.stack([rshift(a * soma.at("gain", t), soma.at("gain_shift")) for t, a in enumerate(mixed)])
    first = np.broadcast_to(soma.at("v_init"), x.shape[1:])
    after = trace.potentials[soma.name].astype(np.int64)
    start = np.concatenate([first[None], after[:-1]])
    drive, whole = x, None
    if soma.syn_leak is not None:
        u, rows = np.zeros_like(x[0]), []
        for t, step in enumerate(x):
            rows.append(trunc4096(u, soma.at("syn_leak", t)) + step)
            u = wrap24(rows[-1])
        whole = np.stack(rows)
        drive = wrap24(whole)
    totals: list[IntArray] = []
    for t in range(program.steps):
        total = trunc4096(start[t], soma.at("leak", t)) + drive[t] + soma.at("bias", t)
        if soma.delayed and t:
            total = total - soma.at("theta", t) * fired(soma, np.clip(totals[-1], -V_MAX, V_MAX), t - 1)
        totals.append(total)
    return Inside(current=current, mixed=mixed, scaled=x, synaptic=whole, total=np.stack(totals), start=start)


def source_current(program: Program, trace: Trace, name: str) -> IntArray:
    """Current `[T, B, *shape]` of one synapse or product; exact, since it stays far below 2^53."""
    node = program[name]
    payloads = [_arriving(trace, edge) for edge in program.into[name]]
    if isinstance(node, Product):
        p, q = sorted(payloads, key=lambda v: -v[0, 0].size)
        return rshift(p * q.reshape(*q.shape, *(1,) * (p.ndim - q.ndim)), node.shift)
    assert isinstance(node, Synapse)
    (p,) = payloads
    factor = 1 << node.exponent
    if node.kind == "identity":
        return p * channel_weight(node, p.shape[2:]) * factor
    flat = p.reshape(-1, *p.shape[2:])
    return (_mapped(node, flat) * factor).reshape(*p.shape[:2], *program.shapes[name])


def _mapped(node: Synapse, p: IntArray) -> IntArray:
    """A linear map of `[N, *shape]` on float64, where all partial sums are whole numbers."""
    s = node
    if s.kind == "linear":
        weight: Any = s.weight.astype(np.float64)
        return np.asarray((weight @ p.reshape(len(p), -1).T.astype(np.float64)).T).astype(np.int64)
    x = torch.from_numpy(p.astype(np.float64))
    if s.kind == "conv2d":
        w = torch.from_numpy(s.weight.astype(np.float64))
        out = functional.conv2d(x, w, None, s.stride, s.padding, s.dilation, s.groups)
    else:
        x = functional.pad(x, (s.padding[1], s.padding[1], s.padding[0], s.padding[0]))
        out = functional.avg_pool2d(x, s.kernel_size, s.stride, divisor_override=1)
        out = out * torch.from_numpy(channel_weight(s, p.shape[1:]).astype(np.float64))
    found: IntArray = out.numpy().astype(np.int64)
    return found


def _arriving(trace: Trace, edge: Edge) -> IntArray:
    """Payloads of an edge's source as they arrive, 0 before its delay."""
    source = trace.payloads.get(edge.src, trace.inputs.get(edge.src))
    assert source is not None
    p: IntArray = source.astype(np.int64)
    if not edge.delay:
        return p
    late = np.zeros_like(p)
    late[edge.delay :] = p[: max(0, len(p) - edge.delay)]
    return late
