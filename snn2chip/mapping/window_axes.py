"""What one axis of a convolution, pooling or one-to-one connection joins, block by block."""

from __future__ import annotations

import math
from functools import cached_property
from typing import NamedTuple

import attrs
import numpy as np

from snn2chip.ir.types import IntArray


class Block(NamedTuple):
    """`size` positions: ((hits, source positions with so many), ...) and (footprint, first position) pairs."""

    size: int
    hits: tuple[tuple[int, int], ...]
    footprints: tuple[tuple[int, int], ...]


@attrs.frozen(slots=False, eq=False)
class SpaceAxis:
    """One spatial axis: which of `n_in` source positions each of `n_out` positions listens to.

    `o` listens to `o*stride - padding + tap*dilation` for each tap inside; `all_to_all` joins everything.
    """

    n_in: int
    n_out: int
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    all_to_all: bool = False

    @cached_property
    def joined(self) -> IntArray:
        """`[n_out, n_in]`, 1 where joined."""
        if self.all_to_all:
            return np.ones((self.n_out, self.n_in), np.int64)
        found = np.zeros((self.n_out, self.n_in), np.int64)
        for tap in range(self.kernel):
            at = np.arange(self.n_out) * self.stride - self.padding + tap * self.dilation
            inside = (at >= 0) & (at < self.n_in)
            found[np.flatnonzero(inside), at[inside]] = 1
        return found

    @property
    def gap(self) -> int:
        """Steps between the positions that one source position reaches."""
        return 1 if self.all_to_all else math.lcm(self.stride, self.dilation) // self.stride

    def hits(self, starts: IntArray) -> IntArray:
        """Positions of each block that a source position reaches, `[blocks, n_in]`."""
        out: IntArray = np.add.reduceat(self.joined, starts, axis=0)
        return out

    def reached(self, starts: IntArray) -> IntArray:
        """Number of blocks that each source position reaches, `[n_in]`."""
        out: IntArray = (self.hits(starts) > 0).sum(0)
        return out

    def classes(self, starts: IntArray, *, footprints: bool = False) -> tuple[list[Block], IntArray]:
        """Distinct blocks, and which one each block is; `footprints` are told apart and listed only if asked for."""
        sizes = np.diff(starts, append=self.n_out)
        keys = []
        for start, size, row in zip(starts.tolist(), sizes.tolist(), self.hits(starts), strict=True):
            values, counts = np.unique(row[row > 0], return_counts=True)
            hits = tuple(zip(values.tolist(), counts.tolist(), strict=True))
            keys.append(Block(size, hits, self._footprints(start, size, row) if footprints else ()))
        order = {key: i for i, key in enumerate(dict.fromkeys(keys))}
        return list(order), np.array([order[key] for key in keys])

    def _footprints(self, start: int, size: int, row: IntArray) -> tuple[tuple[int, int], ...]:
        reaching = np.flatnonzero(row)
        first = self.joined[start : start + size, reaching].argmax(0)
        tap = (
            0 * first if self.all_to_all else (reaching + self.padding - (start + first) * self.stride) // self.dilation
        )
        code = tap * (size + 1) + row[reaching]
        return tuple(zip(code.tolist(), first.tolist(), strict=True))


@attrs.frozen(slots=False)
class ChannelAxis:
    """Channels in `groups`: each group joins `n_in/groups` source channels with `n_out/groups` channels."""

    n_in: int
    n_out: int
    groups: int

    @property
    def per_in(self) -> int:
        """Source channels of one group."""
        return self.n_in // self.groups

    @property
    def per_out(self) -> int:
        """Channels of one group."""
        return self.n_out // self.groups

    def overlaps(self, start: int, size: int) -> tuple[tuple[int, int], ...]:
        """((channels of the block in one group, number of such groups), ...)."""
        found: dict[int, int] = {}
        first, last = start // self.per_out, (start + size - 1) // self.per_out
        for group in {first, last}:
            m = min(start + size, (group + 1) * self.per_out) - max(start, group * self.per_out)
            found[m] = found.get(m, 0) + 1
        if last - first > 1:
            found[self.per_out] = found.get(self.per_out, 0) + last - first - 1
        return tuple(sorted(found.items()))

    def listened(self, start: int, size: int) -> tuple[int, int]:
        """First and behind-last source channel of a block."""
        first, last = start // self.per_out, (start + size - 1) // self.per_out
        return first * self.per_in, (last + 1) * self.per_in

    def reached(self, starts: IntArray) -> IntArray:
        """Number of blocks that each source channel reaches, `[n_in]`."""
        ends = np.append(starts[1:], self.n_out)
        group = np.arange(self.n_in) // self.per_in
        first = np.searchsorted(ends, group * self.per_out, side="right")
        last = np.searchsorted(starts, (group + 1) * self.per_out - 1, side="right")
        out: IntArray = last - first
        return out

    def reached_by(self, starts: IntArray, own_starts: IntArray, own_sizes: IntArray) -> IntArray:
        """Number of blocks that any source channel of each own block reaches, `[own blocks]`."""
        ends = np.append(starts[1:], self.n_out)
        low = own_starts // self.per_in * self.per_out
        high = ((own_starts + own_sizes - 1) // self.per_in + 1) * self.per_out - 1
        out: IntArray = np.searchsorted(starts, high, side="right") - np.searchsorted(ends, low, side="right")
        return out
