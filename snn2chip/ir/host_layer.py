"""The host prefix of a float graph: layers between the input and the chip that are declared as work outside of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import attrs
from torch import Tensor

from snn2chip.ir.layers import Layer, Shape


@attrs.frozen(kw_only=True, eq=False)
class HostLayer(Layer):
    """Layers in a row, run outside of the chip; their result is a payload. The normal form has one at most."""

    kind: ClassVar[str] = "host"
    parts: tuple[Layer, ...]

    def out_shape(self, shapes: Sequence[Shape]) -> tuple[Shape, list[str]]:
        """Return the shape behind the last part, and what does not fit."""
        shape, breaches = shapes[0], []
        for part in self.parts:
            shape, bad = part.out_shape([shape])
            breaches += [f"{part.label}: {text}" for text in bad]
        return shape, breaches

    def apply(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return the value of the last part."""
        *_, last = self.each(inputs[0])
        return last

    def each(self, x: Tensor) -> Iterator[Tensor]:
        """Yield the value of every part in a row."""
        for part in self.parts:
            x = part.apply([x])
            yield x

    def details(self) -> list[str]:
        """Return the kinds and fields of the parts."""
        return [f"{part.kind}({', '.join(part.details())})" for part in self.parts]
