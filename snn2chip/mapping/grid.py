"""Boxes of neurons: a population `[C, H, W]` cut into near-equal blocks along each axis, one box per core.

Shapes of fewer axes are filled up with 1, axes behind the third are taken together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property

import attrs
import numpy as np

from snn2chip.ir.types import IntArray

Shape3 = tuple[int, int, int]


def three(shape: tuple[int, ...]) -> Shape3:
    """`[C, H, W]` of any shape."""
    filled = (*shape, 1, 1, 1)
    return filled[0], filled[1], math.prod(shape[2:])


@attrs.frozen(slots=False)
class Grid:
    """A population of `shape` cut into `parts` blocks per axis; tile i is block (c, h, w) in C order."""

    shape: Shape3
    parts: Shape3

    @property
    def tiles(self) -> int:
        """Number of tiles."""
        return math.prod(self.parts)

    @cached_property
    def starts(self) -> tuple[IntArray, IntArray, IntArray]:
        """First index of every block, per axis."""
        a, b, c = (np.arange(p) * n // p for n, p in zip(self.shape, self.parts, strict=True))
        return a, b, c

    @cached_property
    def sizes(self) -> tuple[IntArray, IntArray, IntArray]:
        """Length of every block, per axis."""
        a, b, c = (np.diff(s, append=n) for s, n in zip(self.starts, self.shape, strict=True))
        return a, b, c

    @property
    def neurons(self) -> IntArray:
        """Neurons of every tile, `[parts]`."""
        c, h, w = self.sizes
        out: IntArray = c[:, None, None] * h[:, None] * w
        return out

    def sums(self, values: IntArray) -> IntArray:
        """Sums of per-neuron `values [*shape]` over every tile, `[parts]`."""
        for axis, starts in enumerate(self.starts):
            values = np.add.reduceat(values, starts, axis=axis)
        return values

    @cached_property
    def tile_of(self) -> IntArray:
        """Tile of every neuron, flat in C order."""
        c, h, w = (np.repeat(np.arange(len(n)), n) for n in self.sizes)
        _, ph, pw = self.parts
        out: IntArray = ((c[:, None, None] * ph + h[:, None]) * pw + w).ravel()
        return out

    def boxes(self) -> Iterator[tuple[tuple[int, int], tuple[int, int], tuple[int, int]]]:
        """First and behind-last index per axis of every tile."""
        ends = [
            list(zip(s.tolist(), (s + n).tolist(), strict=True)) for s, n in zip(self.starts, self.sizes, strict=True)
        ]
        for c in ends[0]:
            for h in ends[1]:
                for w in ends[2]:
                    yield c, h, w


def block_counts(n: int) -> list[int]:
    """Numbers of blocks that cut `n` into pieces of different largest length, fewest blocks first."""
    return sorted({-(-n // size) for size in range(1, n + 1)})
