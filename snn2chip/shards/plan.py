"""Shards: ranges of samples that begin on a grain, around the ranges that are there already."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import attrs

PER_WORKER = 4
"""Shards for each worker by default: few starts, and the last ones end about together."""
MOST, MOST_LARGE = 1 << 14, 512
"""Most shards by default, and with large results: one process takes them in."""


@attrs.frozen
class Shard:
    """Samples `start` to `stop` (without it); `index` counts shards in the order of the samples."""

    index: int
    start: int
    stop: int

    @property
    def size(self) -> int:
        """How many samples."""
        return self.stop - self.start

    def __str__(self) -> str:
        return f"samples {self.start}..{self.stop - 1}" if self.size > 1 else f"sample {self.start}"


def cut(total: int, *, size: int, grain: int = 1, done: Iterable[tuple[int, int]] = ()) -> list[Shard]:
    """Shards of at most `size` samples (rounded up to whole grains) that cover `total` samples once, in order.

    Ranges in `done` stay as they are where they lie on the grain and do not overlap; what is between them is cut.
    """
    size = -(-max(size, 1) // grain) * grain
    ranges: list[tuple[int, int]] = []
    at = 0
    for start, stop in sorted(done, key=lambda r: (r[0], -r[1])):
        fits = at <= start < stop <= total and start % grain == 0 and (stop % grain == 0 or stop == total)
        if fits:
            ranges += [*_pieces(at, start, size), (start, stop)]
            at = stop
    ranges += _pieces(at, total, size)
    return [Shard(i, a, b) for i, (a, b) in enumerate(ranges)]


def _pieces(start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    return ((a, min(a + size, stop)) for a in range(start, stop, size))


def default_size(total: int, workers: int, *, per_worker: int = PER_WORKER, most: int = MOST) -> int:
    """Samples per shard when nobody says: a few shards for each worker, and not more than `most` in all."""
    return max(1, -(-total // min(workers * per_worker, most)))
