"""A delay of whole steps in a float graph: what it reads arrives `delay` steps later, zeros come first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import attrs
import torch
from torch import Tensor

from snn2chip.ir.layers import Layer, Shape


@attrs.frozen(kw_only=True, eq=False)
class DelayLayer(Layer):
    """y(t) = x(t - delay), 0 for t < delay, over the graph's `steps`; lowered to a delay on an edge."""

    kind: ClassVar[str] = "delay"
    delay: int
    steps: int

    def out_shape(self, shapes: Sequence[Shape]) -> tuple[Shape, list[str]]:
        """Return the source's shape."""
        return shapes[0], [] if self.delay >= 1 else [f"delay={self.delay}, expected at least one step"]

    def apply(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return the values of earlier steps."""
        x = inputs[0].expand(self.steps, *inputs[0].shape[1:])
        kept = max(self.steps - self.delay, 0)
        return torch.cat([torch.zeros_like(x[: self.steps - kept]), x[:kept]])

    def details(self) -> list[str]:
        """Return the number of steps."""
        return [f"delay={self.delay}"]
