"""Connections into a population, and what they cost each of its tiles and each tile of their source.

A connection is one synapse (or one factor of a product) between two populations. Of a grid of its target it says

    synapse bytes, longest list, input axons     per tile of the target
    reach                                        which source neurons send to which tile
    slots                                        per tile of the source, given the target's grid

In mode "discrete" every source neuron has an axon of its own; in mode "population" the channels of one source
position share one: they ride in the message, and positions with the same footprint share their lists.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import product
from typing import Any, ClassVar

import attrs
import numpy as np
from scipy import sparse

from snn2chip.ir.types import IntArray
from snn2chip.mapping.grid import Grid, Shape3
from snn2chip.mapping.memory import bytes_of, list_encodings, list_words
from snn2chip.mapping.target import Target
from snn2chip.mapping.window_axes import Block, ChannelAxis, SpaceAxis

OFFSETS = 256
"""Targets that a population axon can start at (0..255); further ones need a copy of the list."""
MODES = ("discrete", "population")


@attrs.frozen(kw_only=True)
class Load:
    """What a connection takes on every tile of its target, each `[parts]`; `stored`: weights, a shared kernel once."""

    bytes: IntArray
    words: IntArray
    axons: IntArray
    synapses: IntArray
    stored: IntArray


@attrs.frozen(kw_only=True, slots=False, eq=False)
class Connection(ABC):
    """From population `src` to `dst` through synapse or product `via`; weights are stored in `bits` bits.

    `delay`: machine steps that payloads wait on the way; `encoding`: only this one (None: the smallest).
    """

    src: str
    via: str
    dst: str
    src_shape: Shape3
    bits: int
    delay: int
    target: Target
    encoding: str | None = None

    modes: ClassVar[tuple[str, ...]] = MODES

    @property
    def delay_bits(self) -> int:
        """Bits of the delay of every synapse; on a chip with neuron programs it is in the route (our choice)."""
        return 0 if self.target.neuron.model.value == "program" else self.delay.bit_length()

    @abstractmethod
    def load(self, grid: Grid, mode: str) -> Load:
        """What the connection takes on every tile of the target's `grid`."""

    @abstractmethod
    def reach(self, grid: Grid) -> Any:
        """Boolean `[source neurons, tiles]` (sparse): which neurons send to which tile."""

    @abstractmethod
    def routes(self, grid: Grid, mode: str, own: Grid) -> IntArray:
        """Routes that leave every tile of the source's grid `own`, `[own parts]`."""


@attrs.frozen(kw_only=True, slots=False, eq=False)
class Window(Connection):
    """Convolution, pooling, one-to-one or per-channel gate: three axes that do not depend on each other."""

    channels: ChannelAxis
    rows: SpaceAxis
    cols: SpaceAxis

    def load(self, grid: Grid, mode: str) -> Load:
        """See `Connection.load`."""
        shared = mode == "population"
        kernel = self.target.encodings.get("kernel") if shared and self.target.weights.kernels.value else None
        _, h, w = grid.starts
        keys = [
            (int(n), self.channels.overlaps(int(s), int(n))) for s, n in zip(grid.starts[0], grid.sizes[0], strict=True)
        ]
        order = {key: i for i, key in enumerate(dict.fromkeys(keys))}
        lists = shared and kernel is None
        ys, y_of = self.rows.classes(h, footprints=lists)
        xs, x_of = self.cols.classes(w, footprints=lists)
        total, longest, axons, synapses, stored = np.zeros((5, len(order), len(ys), len(xs)), np.int64)
        for ((tc, overlaps), i), (j, y), (k, x) in product(order.items(), enumerate(ys), enumerate(xs)):
            at = i, j, k
            sources = sum(n for _, n in overlaps) * self.channels.per_in
            kernels = sum(m * n for m, n in overlaps) * self.channels.per_in
            positions = sum(n for _, n in y.hits) * sum(n for _, n in x.hits)
            synapses[at] = sum(n * hit for hit, n in y.hits) * sum(n * hit for hit, n in x.hits) * kernels
            stored[at] = synapses[at] if kernel is None else kernels * self.taps
            axons[at] = positions * (1 if shared else sources)
            if kernel is not None:
                total[at] = bytes_of(kernel, -(-kernels * self.taps * self.bits // int(kernel.word_bits.value)))
            elif positions:
                copies = _copies(y, x, tc) if shared else None
                total[at], longest[at] = self._lists(tc, overlaps, y, x, copies)
        where = np.ix_(np.array([order[key] for key in keys]), y_of, x_of)
        return Load(
            bytes=total[where],
            words=longest[where],
            axons=axons[where],
            synapses=synapses[where],
            stored=stored[where],
        )

    def reach(self, grid: Grid) -> Any:
        """See `Connection.reach`."""
        c, h, w = grid.starts
        first = [self.channels.listened(int(s), int(n)) for s, n in zip(c, grid.sizes[0], strict=True)]
        listens = np.zeros((self.channels.n_in, len(c)), bool)
        for tile, (low, high) in enumerate(first):
            listens[low:high, tile] = True
        ys, xs = (self.rows.hits(h) > 0).T, (self.cols.hits(w) > 0).T
        spatial = sparse.kron(sparse.csr_matrix(ys), sparse.csr_matrix(xs), "csr")
        return sparse.kron(sparse.csr_matrix(listens), spatial, "csr").astype(bool)

    def routes(self, grid: Grid, mode: str, own: Grid) -> IntArray:
        """See `Connection.routes`."""
        c, h, w = grid.starts
        if mode == "population":
            by_channel = self.channels.reached_by(c, own.starts[0], own.sizes[0])
        else:
            by_channel = np.add.reduceat(self.channels.reached(c), own.starts[0])
        ys = np.add.reduceat(self.rows.reached(h), own.starts[1])
        xs = np.add.reduceat(self.cols.reached(w), own.starts[2])
        out: IntArray = by_channel[:, None, None] * ys[:, None] * xs
        return out

    @property
    def taps(self) -> int:
        """Weights of one pair of channels."""
        return 1 if self.rows.all_to_all else self.rows.kernel * self.cols.kernel

    def _lists(self, tc: int, overlaps: Any, y: Block, x: Block, copies: int | None) -> tuple[int, int]:
        """Bytes and longest list (words) of one tile; `copies`: lists that positions share, padded to the longest."""
        ny, nx = (np.array([hit for hit, _ in block.hits]) for block in (y, x))
        many = np.outer([n for _, n in y.hits], [n for _, n in x.hits])
        outputs = tc * y.size * x.size
        found = []
        for encoding in list_encodings(self.target, zeros=True, only=self.encoding).values():
            total = longest = 0
            for m, groups in overlaps:
                runs, length, gap = self._runs(m, tc, y.size, x.size, ny, nx)
                words = list_words(
                    encoding,
                    runs=runs,
                    length=length,
                    gap=gap,
                    outputs=outputs,
                    weight_bits=self.bits,
                    delay_bits=self.delay_bits,
                )
                longest = max(longest, int(words.max()))
                total += int((words * many).sum()) * groups * self.channels.per_in
            if copies is not None:
                total = longest * copies * sum(n for _, n in overlaps) * self.channels.per_in
            found.append((int(bytes_of(encoding, total)), longest))
        return min(found)

    def _runs(self, m: int, tc: int, th: int, tw: int, ny: IntArray, nx: IntArray) -> tuple[IntArray, IntArray, int]:
        """Runs of consecutive targets, their length, and the widest gap: channels lie innermost on a core."""
        y, x = np.meshgrid(ny, nx, indexing="ij")
        side_by_side = ((x == 1) | (self.cols.gap == 1)) & (m == tc)
        across = side_by_side & (x == tw) & ((y == 1) | (self.rows.gap == 1))
        runs = np.where(across, 1, np.where(side_by_side, y, y * x))
        length = np.where(across, y * x * m, np.where(side_by_side, x * m, m))
        column = self.cols.gap * tc - m if int(x.max()) > 1 else 0
        row = self.rows.gap * tw * tc - m if int(y.max()) > 1 else 0
        return runs, length, max(column, row)


def _copies(y: Block, x: Block, tc: int) -> int:
    """Lists that one source channel needs on a core: one per footprint and block of `OFFSETS` first targets."""
    found = {
        (a, b, (first_y * x.size + first_x) * tc // OFFSETS)
        for (a, first_y), (b, first_x) in product(set(y.footprints), set(x.footprints))
    }
    return len(found)
