"""An input whose raw values become evenly spread spikes: the float side of a rate-coded `Input`.

k = floor(x*T/V) (or + 1/2), clipped to 0..T,   s(t) = floor(k*(t+1)/T) - floor(k*t/T),   value V*s(t)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import attrs
from torch import Tensor

from snn2chip.ir.layers import InputLayer, Shape

RATE_CODINGS = ("rate-floor", "rate-round")


@attrs.frozen(kw_only=True, eq=False)
class CodedInputLayer(InputLayer):
    """An input of spikes worth `spike` raw units, `coding` rate-floor or rate-round over `steps` steps.

    Samples that hold every step already are taken as they are.
    """

    kind: ClassVar[str] = "input"
    coding: str
    spike: float
    steps: int

    def out_shape(self, shapes: Sequence[Shape]) -> tuple[Shape, list[str]]:
        """Return the declared shape."""
        shape, bad = super().out_shape(shapes)
        if self.coding not in RATE_CODINGS:
            bad.append(f"coding={self.coding!r} is none of {', '.join(RATE_CODINGS)}")
        if not self.spike > 0 or self.steps < 1:
            bad.append(f"spike={self.spike} and steps={self.steps} must be positive")
        if self.offset is not None or self.frames is not None:
            bad.append("spikes carry neither an offset nor averaged event frames")
        return shape, bad

    def apply(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return the values of the spikes `[T, B, *shape]`."""
        from snn2chip.convert.spike_code import rate_code

        x = inputs[0]
        if x.shape[0] == 1:
            rounding = self.coding.removeprefix("rate-")
            x = rate_code(x[0], steps=self.steps, payload=self.spike, rounding=rounding)  # type: ignore[arg-type]
        return super().apply([x])

    def details(self) -> list[str]:
        """Return the normalisation and the code."""
        return [*super().details(), f"coding={self.coding}", f"spike={self.spike:.6g}"]
