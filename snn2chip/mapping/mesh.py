"""Where cores lie and how far messages go.

Core id -> chip = id div cores_per_chip, tile = (id mod cores_per_chip) div cores_per_tile,
(x, y) = (tile mod tiles_x, tile div tiles_x). A message goes |dx| east-west, then |dy| north-south; cores of one tile
are 0 hops apart. Chips lie side by side in a near-square grid, so that a message to another chip crosses the tiles
between (our choice; confidence E).
"""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np

from snn2chip.ir.types import IntArray
from snn2chip.mapping.target import Target


@attrs.frozen(kw_only=True)
class Chips:
    """`count` chips of a target; core ids run from 0 to `count * cores - 1`."""

    count: int
    cores: int
    tiles_x: int
    tiles_y: int
    cores_per_tile: int
    off_chip: float

    @classmethod
    def of(cls, target: Target, count: int, cores: int) -> Chips:
        """`count` chips of `target`; `cores` in all are in use (the size of a chip without limits)."""
        limit = target.limits.cores_per_chip.value
        size = cores if math.isinf(limit) else int(limit)
        if target.mesh is None:
            return cls(count=count, cores=size, tiles_x=1, tiles_y=1, cores_per_tile=max(size, 1), off_chip=1.0)
        mesh = target.mesh
        per_tile, wide = int(mesh.cores_per_tile.value), int(mesh.tiles_x.value)
        high = max(int(mesh.tiles_y.value), -(-size // (per_tile * wide)))
        bandwidth = float(mesh.off_chip_bandwidth.value)
        return cls(
            count=count, cores=size, tiles_x=wide, tiles_y=high, cores_per_tile=per_tile, off_chip=1 / (bandwidth or 1)
        )

    @property
    def across(self) -> int:
        """Chips side by side from west to east."""
        return math.ceil(math.sqrt(self.count))

    def chip(self, ids: Any) -> IntArray:
        """Chip of every core id."""
        return np.asarray(ids) // self.cores

    def tile(self, ids: Any) -> IntArray:
        """Tile of every core id on its chip."""
        return np.asarray(ids) % self.cores // self.cores_per_tile

    def at(self, ids: Any) -> tuple[IntArray, IntArray]:
        """(x, y) of every core id's tile in the grid of all chips."""
        chip, tile = self.chip(ids), self.tile(ids)
        x = chip % self.across * self.tiles_x + tile % self.tiles_x
        return x, chip // self.across * self.tiles_y + tile // self.tiles_x


@attrs.frozen(kw_only=True)
class Cost:
    """Messages of one sample and how far they go; `objective` adds what leaving a chip costs in hops."""

    messages: float
    same_core: float
    same_tile: float
    hops_ew: float
    hops_ns: float
    off_chip: float
    busiest_link: float
    objective: float

    @property
    def hops(self) -> float:
        """All hops."""
        return self.hops_ew + self.hops_ns


def cost(traffic: Any, ids: IntArray, chips: Chips) -> Cost:
    """Cost of messages `traffic [n, n]` (sparse, from core to core, per sample) with core i at id `ids[i]`."""
    pairs = traffic.tocoo()
    weight = pairs.data.astype(float)
    src, dst = ids[pairs.row], ids[pairs.col]
    (x0, y0), (x1, y1) = chips.at(src), chips.at(dst)
    crossing = chips.chip(src) != chips.chip(dst)
    ew, ns = float((weight * np.abs(x1 - x0)).sum()), float((weight * np.abs(y1 - y0)).sum())
    off = float(weight[crossing].sum())
    near = (x0 == x1) & (y0 == y1) & (src != dst)
    return Cost(
        messages=float(weight.sum()),
        same_core=float(weight[src == dst].sum()),
        same_tile=float(weight[near].sum()),
        hops_ew=ew,
        hops_ns=ns,
        off_chip=off,
        busiest_link=_busiest(weight, x0, y0, x1, y1),
        objective=ew + ns + off * chips.off_chip,
    )


def distances(chips: Chips, ids: IntArray) -> Any:
    """Cost in hops of one message between any two of the core ids, `[n, n]`; the same both ways."""
    x, y = chips.at(ids)
    chip = chips.chip(ids)
    apart = np.abs(x[:, None] - x) + np.abs(y[:, None] - y)
    return apart + chips.off_chip * (chip[:, None] != chip)


def _busiest(weight: Any, x0: IntArray, y0: IntArray, x1: IntArray, y1: IntArray) -> float:
    """Messages on the busiest directed link: east-west along the sender's row, then along the reader's column."""
    most = 0.0
    for a, b, line in ((x0, x1, y0), (y0, y1, x1)):
        for low, high in ((a, b), (b, a)):  # to higher, then to lower indices
            moving = high > low
            if not moving.any():
                continue
            change = np.zeros((int(line.max()) + 1, int(max(a.max(), b.max())) + 2))
            np.add.at(change, (line[moving], low[moving]), weight[moving])
            np.add.at(change, (line[moving], high[moving]), -weight[moving])
            most = max(most, float(change.cumsum(1).max()))
    return most
