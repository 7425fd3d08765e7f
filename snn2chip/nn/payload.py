"""Graded payloads of few bits: what a neuron sends is rounded, what it keeps is not.

    code = clip(round(s / step), 0, 2^bits - 1),   q = code * step        backward: identity, dL/ds = dL/dq

Four bits and a step of 1/4 are the paper's. Ties round up (`half-up`, the rule of the integer machine) or to the
even code (`half-even`, the rule of `torch.round`); the two differ only where s/step ends in exactly 1/2.
Source: Hao et al. (EM-PF, arXiv 2410.07547, later versions).
"""

from __future__ import annotations

from typing import Literal, get_args

import attrs
import torch
from torch import Tensor

from snn2chip.errors import InputError
from snn2chip.nn.surrogate import straight_through

RoundingName = Literal["half-up", "half-even"]


@attrs.frozen(kw_only=True)
class PayloadGrid:
    """Codes 0 .. 2^bits - 1 of width `step` (potential units); InputError lists every bad field."""

    bits: int = 4
    step: float = 0.25
    rounding: RoundingName = "half-up"

    def __attrs_post_init__(self) -> None:
        breaches = []
        if not isinstance(self.bits, int) or not 1 <= self.bits <= 16:
            breaches.append(f"payload bits={self.bits!r}: expected an integer from 1 to 16")
        if not self.step > 0:
            breaches.append(f"payload step={self.step!r}: expected a positive number")
        if self.rounding not in get_args(RoundingName):
            breaches.append(f"payload rounding={self.rounding!r} is none of {', '.join(get_args(RoundingName))}")
        if breaches:
            raise InputError(breaches)

    @property
    def top(self) -> int:
        """The largest code, 2^bits - 1."""
        return 2**self.bits - 1

    def codes(self, s: Tensor) -> Tensor:
        """Return clip(round(s/step), 0, top), whole numbers in the type of `s` (any shape)."""
        ratio = s.detach() / self.step
        rounded = torch.floor(ratio + 0.5) if self.rounding == "half-up" else torch.round(ratio)
        return rounded.clamp(0, self.top)

    def quantize(self, s: Tensor) -> Tensor:
        """Return the sent values code*step; the gradient passes to `s` unchanged, clipped values included."""
        return straight_through(s, value=self.codes(s) * self.step)
