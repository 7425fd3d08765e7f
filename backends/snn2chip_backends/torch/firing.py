"""Emission rules on tensors: how many spikes, how much excess, which table entry.

levels: s = #{k in 1..L : v >= k*theta}. For theta > 0 that is clip(floor(v/theta), 0, L); the quotient in
float32 is exact after floor, because |v| < 2^23 keeps its rounding error below 1/(2 theta) while the next
integer is at least 1/theta away. For theta < 0 the count is clip(L + 1 + floor(v/|theta|), 0, L), for 0 it is L
where v >= 0. A ladder counts its entries <= v.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from snn2chip.ir.soma import Soma
from snn2chip.ir.types import IntArray
from snn2chip_backends.torch.arithmetic import at_least, clip
from snn2chip_backends.torch.constants import Rows, on_device

Change = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]
"""`change(act, sent, t)`: s of activations at step t, and what was last sent from then on."""
Fire = Callable[[Tensor, int | None], Tensor]
"""`fire(v, t)`: s of potentials `[B, *shape]` at step t, or of `[T, B, *shape]` with t None; in v's own type."""

COMPARES = 2
"""Up to so many levels compares are faster than a division."""
RUNGS = 16
"""Up to so many ladder entries compares are faster than a binary search."""


def emission(soma: Soma, dtype: torch.dtype, device: torch.device) -> Fire:
    """The emission rule of `soma` on potentials of `dtype`."""
    if soma.fire == "levels":
        if soma.ladder:
            return _ladder(soma, dtype, device)
        assert soma.theta is not None
        if (soma.theta <= 0).any():
            return _signed_levels(soma, soma.theta, dtype, device)
        return _levels(soma, soma.theta, dtype, device)
    if soma.fire == "excess":
        assert soma.theta is not None
        theta = Rows(soma, soma.theta, dtype, device)
        return lambda v, t: (v - theta.at(t)).clamp_(min=0)
    if soma.fire == "table":
        return _table(soma, dtype, device)
    if soma.fire == "relay":
        return lambda v, t: v
    return lambda v, t: torch.zeros_like(v)


def delta_coding(soma: Soma, dtype: torch.dtype, device: torch.device) -> Change:
    """The change of an activation since it was last sent, floored to `2^delta_shift`, where it reaches theta."""
    assert soma.theta is not None
    theta, shift = Rows(soma, soma.theta, dtype, device), soma.delta_shift

    def change(act: Tensor, sent: Tensor, t: int) -> tuple[Tensor, Tensor]:
        d = act - sent
        sends = at_least(d.abs(), theta.at(t))
        s = d.bitwise_right_shift_(shift) if shift else d
        return s.mul_(sends), sent + sends * (act - sent)

    return change


def _levels(soma: Soma, theta: IntArray, dtype: torch.dtype, device: torch.device) -> Fire:
    top = Rows(soma, soma.levels, dtype, device)
    most = int(soma.levels.max())
    if most <= COMPARES and top.number is not None:
        bars = [Rows(soma, k * theta, dtype, device) for k in range(1, most + 1)]

        def compare(v: Tensor, t: int | None) -> Tensor:
            s = at_least(v, bars[0].at(t))
            for bar in bars[1:]:
                s.add_(at_least(v, bar.at(t)))
            return s

        return compare
    divisor = Rows(soma, theta, torch.float32, device, tensors=True)  # a plain number may become a reciprocal

    def divide(v: Tensor, t: int | None) -> Tensor:
        s = v.to(torch.float32).div_(divisor.at(t)).floor_().to(v.dtype)
        return clip(s, 0, top.at(None))

    return divide


def _signed_levels(soma: Soma, theta: IntArray, dtype: torch.dtype, device: torch.device) -> Fire:
    theta_rows = Rows(soma, theta, dtype, device, tensors=True)
    size_rows = Rows(soma, np.maximum(np.abs(theta), 1), dtype, device, tensors=True)
    top_rows = Rows(soma, soma.levels, dtype, device, tensors=True)

    def fire(v: Tensor, t: int | None) -> Tensor:
        theta, size, top = theta_rows.at(t), size_rows.at(t), top_rows.at(None)
        assert isinstance(theta, Tensor)
        assert isinstance(size, Tensor)
        assert isinstance(top, Tensor)
        quotient = torch.div(v, size, rounding_mode="floor")
        at_zero = torch.where(v >= 0, top, torch.zeros_like(top))
        below = torch.where(theta < 0, quotient + top + 1, at_zero)
        return clip(torch.where(theta > 0, quotient, below), 0, top)

    return fire


def _ladder(soma: Soma, dtype: torch.dtype, device: torch.device) -> Fire:
    assert soma.theta is not None
    top = Rows(soma, soma.levels, dtype, device)
    most = len(soma.theta)
    if most <= RUNGS:
        rungs = [Rows(soma, row[None], dtype, device).at(0) for row in soma.theta]

        def compare(v: Tensor, t: int | None) -> Tensor:
            s = at_least(v, rungs[0])
            for rung in rungs[1:]:
                s.add_(at_least(v, rung))
            return clip(s, None, top.at(None))

        return compare
    rows = soma.theta.reshape(most, -1).T  # [1, C or all neurons, levels]
    entries = on_device(np.ascontiguousarray(rows), dtype, device)

    def search(v: Tensor, t: int | None) -> Tensor:
        groups = v.reshape(-1, len(rows), soma.size // len(rows)).movedim(1, 0).contiguous()
        found = torch.searchsorted(entries, groups.view(len(rows), -1), right=True, out_int32=True)
        s = found.view(groups.shape).movedim(0, 1).reshape(v.shape).to(v.dtype)
        return clip(s, None, top.at(None))

    return search


def _table(soma: Soma, dtype: torch.dtype, device: torch.device) -> Fire:
    assert soma.table is not None
    table = on_device(soma.table, dtype, device)
    offset, shift = soma.table_offset, soma.table_shift

    def fire(v: Tensor, t: int | None) -> Tensor:
        index = (v + offset).bitwise_right_shift_(shift).clamp_(0, 255)
        return table[index.to(torch.int64)]

    return fire
