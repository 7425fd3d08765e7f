"""Input codes of a converted network: deterministic spikes, spread evenly, or the value itself at every step.

    rate      k = floor(x*T/V) (or rounded, half up), clipped to 0..T
              s(t) = floor(k*t/T) - floor(k*(t-1)/T), payload V
    direct    the same value at every step

Flooring loses V/(2T) of every value on average, rounding loses nothing. Spikes carry no sign: code values in
[0, V] and fold a normalisation into the first layer. Source: Li et al. Mathematics 2023, 11(1), 58.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from snn2chip.errors import InputError
from snn2chip.nn.base import check_choice

Rounding = Literal["floor", "round"]


def spike_counts(x: Tensor, *, steps: int, payload: float = 1.0, rounding: Rounding = "floor") -> Tensor:
    """Return k `[B,...]` int64, the spikes that stand for values x in [0, payload].

    Raises InputError for negative values, which have no spike code.
    """
    check_choice("rate code", rounding=(rounding, get_args(Rounding)))
    if steps < 1 or not payload > 0:
        raise InputError(f"rate code: steps={steps} must be at least 1 and payload={payload} positive")
    if bool((x < 0).any()):
        raise InputError(
            f"rate code: {int((x < 0).sum())} negative values (down to {float(x.min()):g}) have no spike code; keep "
            "values in [0, payload] and fold the normalisation into the first layer, or use direct coding"
        )
    scaled = x.double() * steps / payload
    return torch.floor(scaled if rounding == "floor" else scaled + 0.5).clamp(0, steps).to(torch.int64)


def rate_code(x: Tensor, *, steps: int, payload: float = 1.0, rounding: Rounding = "floor") -> Tensor:
    """Return payload values `[T,B,...]` in {0, payload} whose mean over the steps stands for x `[B,...]`."""
    counts = spike_counts(x, steps=steps, payload=payload, rounding=rounding)
    edge = torch.arange(steps + 1, device=x.device).view(-1, *[1] * x.dim())
    return ((counts * edge) // steps).diff(dim=0).to(x.dtype) * payload


def direct_code(x: Tensor, *, steps: int) -> Tensor:
    """Return x `[B,...]` at every step, `[T,B,...]`."""
    return x.unsqueeze(0).expand(steps, *x.shape)
