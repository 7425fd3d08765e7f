"""Intervals of integers, elementwise: arrays `lo <= hi` that broadcast against the shape of what they bound."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import numpy as np

from snn2chip.ir.types import IntArray


@attrs.frozen(eq=False)
class Span:
    """Every value lies in `[lo, hi]`; both have as many axes as what they bound (axes may have length 1)."""

    lo: IntArray
    hi: IntArray

    def __add__(self, other: Span) -> Span:
        return Span(self.lo + other.lo, self.hi + other.hi)

    def __and__(self, other: Span) -> Span:
        """What lies in both."""
        return Span(np.maximum(self.lo, other.lo), np.minimum(self.hi, other.hi))

    def __or__(self, other: Span) -> Span:
        """The smallest interval around both."""
        return Span(np.minimum(self.lo, other.lo), np.maximum(self.hi, other.hi))

    def clip(self, lo: IntArray | int, hi: IntArray | int) -> Span:
        """Both ends clipped."""
        return Span(np.clip(self.lo, lo, hi), np.clip(self.hi, lo, hi))

    def with_zero(self) -> Span:
        """The smallest interval around this one and 0."""
        return Span(np.minimum(self.lo, 0), np.maximum(self.hi, 0))

    def through(self, monotone: Callable[[IntArray], IntArray]) -> Span:
        """Image under an elementwise function that rises everywhere or falls everywhere."""
        a, b = monotone(self.lo), monotone(self.hi)
        return Span(np.minimum(a, b), np.maximum(a, b))

    def times(self, factor: IntArray) -> Span:
        """All values times a constant array."""
        return self.through(lambda v: v * factor)

    @property
    def bounds(self) -> tuple[int, int]:
        """The overall `(lo, hi)`."""
        return int(self.lo.min()), int(self.hi.max())

    @property
    def magnitude(self) -> int:
        """Largest absolute value."""
        lo, hi = self.bounds
        return max(-lo, hi)

    def per_channel(self, channels: int) -> Span:
        """Reduced to the first axis, `[channels]`."""
        lo, hi = (v.reshape(v.shape[0], -1) for v in (self.lo, self.hi))
        return Span(np.broadcast_to(lo.min(1), (channels,)), np.broadcast_to(hi.max(1), (channels,)))

    def spread(self, axes: int) -> Span:
        """`[C]` with as many axes as a shape of `axes` axes, the channels first."""
        tail = (1,) * (axes - 1)
        return Span(self.lo.reshape(-1, *tail), self.hi.reshape(-1, *tail))

    def same(self, other: Span) -> bool:
        """Whether both are the same intervals."""
        return bool((self.lo == other.lo).all() and (self.hi == other.hi).all())


def span(lo: int, hi: int, axes: int) -> Span:
    """One interval for everything, with `axes` axes."""
    return Span(np.full((1,) * axes, lo, np.int64), np.full((1,) * axes, hi, np.int64))
