"""Calibration on many samples: blocks of the float network's run, shared among workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from snn2chip.errors import InputError
from snn2chip.quantize.seen import Seen, blocks_seen
from snn2chip.shards.gather import gather
from snn2chip.shards.plan import MOST, Shard
from snn2chip.shards.workers import Workers

if TYPE_CHECKING:
    from torch import Tensor

    from snn2chip.ir.graph import LayerGraph
    from snn2chip.ir.raw import ByStep


@attrs.frozen(kw_only=True, eq=False)
class CalibrationJob:
    """A float network and its samples; they go to every worker, so each gets one shard."""

    graph: LayerGraph
    x: Mapping[str, Tensor]
    time_axis: ByStep
    total: int
    grain: int
    per_worker = 1
    most = MOST
    floats = True
    fields = ()

    def identity(self) -> dict[str, Any]:
        """Nothing is kept: a network in memory has no name."""
        raise InputError("partial results of a calibration are not kept")

    def run(self, shard: Shard) -> list[Any]:
        """What the blocks of a shard show."""
        blocks = blocks_seen(
            self.graph,
            self.x,
            self.time_axis,
            total=self.total,
            block=self.grain,
            start=shard.start,
            stop=shard.stop,
        )
        return [seen.state() for seen in blocks]


def seen_sharded(
    graph: LayerGraph, x: Mapping[str, Tensor], time_axis: ByStep, *, total: int, block: int, workers: Workers
) -> Iterator[Seen]:
    """What every block shows, in order."""
    job = CalibrationJob(graph=graph, x=x, time_axis=time_axis, total=total, grain=block)
    for _, states in gather(job, workers):
        yield from map(Seen.of_state, states)
