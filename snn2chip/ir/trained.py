"""The integers of a neuron that was trained on the integer soma: taken as they are, never calibrated again.

    a(t) = (I(t) - shift) / delta                    whole numbers: what the synapses add up, I the float current
    x(t) = rshift( sum_j window[t,j]*a(j) * gain, gain_shift ) + bias[t]
    m    = sat24( trunc(v*leak/4096) + x ),   k = clip(floor(m/theta), 0, levels),   then the reset

`run_trained` is that soma on the float currents of a graph; it recovers `a` by rounding, which float32 allows while
|a| stays far below 2^24.
"""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

STATE_MAX = 2**23 - 1


@attrs.frozen(kw_only=True, eq=False)
class TrainedSoma:
    """Integers of one soma: `gain`, `gain_shift` `[C]`, `bias` `[T or 1, C]`, `window` `[T, J]` or None.

    `delta` `[C]` >= 0 is the float value of one unit of the current a, `shift` `[C]` its float bias, `lsb` the float
    value of one unit of the potential, 1/`kappa` that of one unit of the window.
    """

    theta: int
    levels: int
    leak: int
    v_init: int
    reset: str
    window: Tensor | None
    gain: Tensor
    gain_shift: Tensor
    bias: Tensor
    delta: Tensor
    shift: Tensor
    lsb: float
    kappa: int = 1

    def accumulated(self, current: Tensor) -> Tensor:
        """Return the whole numbers a of float currents `[T, B, C, ...]` (0 where a channel has no unit)."""
        return torch.floor(self.in_units(current) + 0.5).to(torch.int64)

    def in_units(self, current: Tensor) -> Tensor:
        """Return (I - shift) / delta in float64, 0 where delta is 0."""
        delta, shift = (_wide(v, current).to(current.device) for v in (self.delta, self.shift))
        whole = (current.detach().double() - shift) / torch.where(delta > 0, delta, 1.0)
        return torch.where(delta > 0, whole, torch.zeros_like(whole))

    def scaled(self, a: Tensor) -> Tensor:
        """Return x(t) of accumulated currents `[J, B, C, ...]`."""
        gain, shift = (_wide(v, a).to(a.device) for v in (self.gain, self.gain_shift))
        if self.window is not None:
            rows = self.window.to(a.device).view(*self.window.shape, *[1] * (a.dim() - 1))
            a = torch.stack([(row * a).sum(0) for row in rows])
        half = torch.where(shift > 0, 1 << (shift - 1).clamp(min=0), 0)
        bias = self.bias.to(a.device)
        return ((a * gain + half) >> shift) + bias.view(bias.shape[0], 1, -1, *[1] * (a.dim() - 3))

    def advance(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (m, k, v) of one step with scaled currents x and potential v, int64 `[B, C, ...]`."""
        return advance(x, v, leak=self.leak, theta=self.theta, levels=self.levels, reset=self.reset)


def advance(x: Tensor, v: Tensor, *, leak: int, theta: int, levels: int, reset: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return the potential before firing, the payload and the potential after the reset of one step."""
    decayed = v * leak
    decayed = decayed.sign() * (decayed.abs() >> 12)
    m = (decayed + x).clamp(-STATE_MAX, STATE_MAX)
    count = torch.div(m, theta, rounding_mode="floor").clamp(0, levels)
    if reset == "subtract":
        return m, count, m - count * theta
    return m, count, torch.where(count > 0, 0, m) if reset == "zero" else torch.zeros_like(m)


def run_trained(soma: TrainedSoma, current: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return (payloads, potentials before firing, after the reset), int64 `[T, B, C, ...]`, of float currents."""
    x = soma.scaled(soma.accumulated(current))
    v = torch.full(x.shape[1:], soma.v_init, dtype=torch.int64, device=x.device)
    rows = []
    for step in x:
        m, count, v = soma.advance(step, v)
        rows.append((count, m, v))
    payload, before, after = (torch.stack(parts) for parts in zip(*rows, strict=True))
    return payload, before, after


def _wide(value: Tensor, like: Tensor) -> Tensor:
    """`[C]` ready to go with `[T, B, C, ...]`."""
    return value.view(-1, *[1] * (like.dim() - 3))
