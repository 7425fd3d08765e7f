"""The integer machine's operations on torch tensors; each equals its namesake in `snn2chip.ir.dynamics`."""

from __future__ import annotations

import torch
from torch import Tensor

from snn2chip.ir.types import V_MAX
from snn2chip_backends.torch.constants import Value


def rshift(x: Tensor, k: Value, half: Value) -> Tensor:
    """Right shift that rounds half up, `(x + half) >> k` with `half = (1 << k) >> 1`."""
    return (x + half).bitwise_right_shift_(k)


def trunc4096(v: Tensor, factor: Value) -> Tensor:
    """`v * factor / 4096` rounded toward zero, in v's own type; `factor` is a number or a float64 tensor.

    Exact in float64: |v * factor| < 2^39 fits its 53 bits, and the division by 2^12 only moves the exponent.
    """
    scaled = v.to(torch.float64).mul_(factor / 4096)
    return scaled.trunc_().to(v.dtype)


def wrap24(x: Tensor) -> Tensor:
    """Two's complement wrap to 24 bits, in place."""
    return x.add_(1 << 23).bitwise_and_((1 << 24) - 1).sub_(1 << 23)


def sat24(v: Tensor, saturated: Tensor) -> Tensor:
    """`clip(v, -V_MAX, V_MAX)`; adds to `saturated` how many values that changed."""
    if v.is_cpu:  # one cheap look mostly saves the rest; on a GPU it would wait for the device
        low, high = torch.aminmax(v)
        if int(low) >= -V_MAX and int(high) <= V_MAX:
            return v
    saturated += at_least(v.abs(), V_MAX + 1).sum()
    return v.clamp(-V_MAX, V_MAX)


def at_least(a: Tensor, b: Value) -> Tensor:
    """1 where `a >= b`, else 0, in a's own type (which is several times faster than through bool)."""
    return torch.ge(a, b, out=torch.empty_like(a))


def few(currents: list[Tensor], most: int) -> list[Tensor]:
    """At most `most` currents: those that are too many added up in 64 bits."""
    if len(currents) <= most:
        return currents
    total = currents[most - 1].to(torch.int64)
    for current in currents[most:]:
        total = total + current.to(torch.int64)
    return [*currents[: most - 1], total]


def clip(x: Tensor, lo: Value | None, hi: Value | None) -> Tensor:
    """Clip; either side may be a number, a tensor that broadcasts, or open."""
    if lo is not None:
        x = torch.clamp(x, min=lo)
    if hi is not None:
        x = torch.clamp(x, max=hi)
    return x
