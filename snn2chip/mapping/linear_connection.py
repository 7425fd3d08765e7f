"""A connection by any matrix: dense, or only the entries that are stored."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import numpy as np
from scipy import sparse

from snn2chip.ir.types import IntArray
from snn2chip.mapping.connection import Connection, Load
from snn2chip.mapping.grid import Grid
from snn2chip.mapping.memory import bytes_of, list_encodings, list_words, longest_skip, scattered_words


@attrs.frozen(kw_only=True, slots=False, eq=False)
class Linear(Connection):
    """Any matrix `[targets, sources]`: dense (None: every pair is stored) or the pattern of its stored entries."""

    outputs: int
    stored: Any = None

    modes: ClassVar[tuple[str, ...]] = ("discrete",)

    def load(self, grid: Grid, mode: str) -> Load:
        """See `Connection.load`."""
        sources = int(np.prod(self.src_shape))
        per_tile = grid.neurons
        if self.stored is None:
            sizes, where = np.unique(per_tile, return_inverse=True)
            pairs = np.array([self._dense(int(n), sources) for n in sizes])[where.reshape(per_tile.shape)]
            axons, synapses = np.full(per_tile.shape, sources), per_tile * sources
            return Load(bytes=pairs[..., 0], words=pairs[..., 1], axons=axons, synapses=synapses, stored=synapses)
        found = self._scattered(grid)
        return Load(**{name: values.reshape(per_tile.shape) for name, values in found.items()})

    def reach(self, grid: Grid) -> Any:
        """See `Connection.reach`."""
        sources = int(np.prod(self.src_shape))
        if self.stored is None:
            return sparse.csr_matrix(np.ones((sources, grid.tiles), bool))
        return (self._per_tile(grid) > 0).T.tocsr()

    def routes(self, grid: Grid, mode: str, own: Grid) -> IntArray:
        """See `Connection.routes`."""
        if self.stored is None:
            return own.neurons * grid.tiles
        reached = np.asarray(self.reach(grid).sum(1)).reshape(self.src_shape)
        return own.sums(reached.astype(np.int64))

    def _dense(self, outputs: int, sources: int) -> tuple[int, int]:
        found = []
        for encoding in list_encodings(self.target, zeros=True, only=self.encoding).values():
            words = int(
                list_words(
                    encoding,
                    runs=1,
                    length=outputs,
                    gap=0,
                    outputs=outputs,
                    weight_bits=self.bits,
                    delay_bits=self.delay_bits,
                )
            )
            found.append((int(bytes_of(encoding, words * sources)), words))
        return min(found)

    def _per_tile(self, grid: Grid) -> Any:
        """Stored synapses of every source neuron on every tile, `[tiles, sources]`."""
        where = (grid.tile_of, np.arange(self.outputs))
        member = sparse.csr_matrix((np.ones(self.outputs, np.int64), where), shape=(grid.tiles, self.outputs))
        return (member @ self.stored).tocsr()

    def _scattered(self, grid: Grid) -> dict[str, IntArray]:
        """Lists of the stored synapses only."""
        counts = self._per_tile(grid)
        counts.sort_indices()
        axons, synapses = np.diff(counts.indptr).astype(np.int64), np.asarray(counts.sum(1)).ravel()
        most = np.zeros(grid.tiles, np.int64)
        total = np.full(grid.tiles, -1, np.int64)
        for encoding in list_encodings(self.target, zeros=False, only=self.encoding).values():
            gaps = self._gaps(grid, longest_skip(encoding)) if encoding.start_bits_min.value else None
            for tile, outputs in enumerate(grid.neurons.ravel().tolist()):
                own = slice(counts.indptr[tile], counts.indptr[tile + 1])
                n = counts.data[own]
                words = scattered_words(
                    encoding,
                    n,
                    np.zeros_like(n) if gaps is None else gaps[0][tile, counts.indices[own]],
                    skip=0 if gaps is None else int(gaps[1][tile]),
                    outputs=outputs,
                    weight_bits=self.bits,
                    delay_bits=self.delay_bits,
                )
                size = int(bytes_of(encoding, words.sum()))
                if total[tile] < 0 or size < total[tile]:
                    total[tile], most[tile] = size, words.max(initial=0)
        return {"bytes": np.maximum(total, 0), "words": most, "axons": axons, "synapses": synapses, "stored": synapses}

    def _gaps(self, grid: Grid, longest: int) -> tuple[IntArray, IntArray]:
        """Gaps wider than `longest` per (tile, source), and the widest other gap per tile."""
        rows, cols = self.stored.nonzero()
        local = _local_index(grid)[rows]
        order = np.lexsort((local, cols, grid.tile_of[rows]))
        tile, col, at = grid.tile_of[rows][order], cols[order], local[order]
        gap = np.diff(at) - 1
        same = (np.diff(tile) == 0) & (np.diff(col) == 0)
        broken = same & (gap > longest)
        breaks = np.zeros((grid.tiles, self.stored.shape[1]), np.int64)
        np.add.at(breaks, (tile[1:][broken], col[1:][broken]), 1)
        widest = np.zeros(grid.tiles, np.int64)
        np.maximum.at(widest, tile[1:][same & ~broken], gap[same & ~broken])
        return breaks, widest


def _local_index(grid: Grid) -> IntArray:
    """Place of every neuron (flat, C order) on its core: rows, columns, channels innermost."""
    (c, h, w), (tc, _, tw) = (
        [np.arange(n) - np.repeat(s, k) for n, s, k in zip(grid.shape, grid.starts, grid.sizes, strict=True)],
        [np.repeat(k, k) for k in grid.sizes],
    )
    out: IntArray = ((h[:, None] * tw + w) * tc[:, None, None] + c[:, None, None]).ravel()
    return out
