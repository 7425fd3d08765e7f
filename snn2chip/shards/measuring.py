"""Counting and fidelity on many samples: `report` in shards.

What is counted are whole numbers. Sums of floats are taken over blocks of 64 samples, which are added here in the order
of the samples, as one process adds them: shards begin on such blocks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import attrs

from snn2chip.data.feed import READ
from snn2chip.reports.tally import Tally
from snn2chip.shards.gather import gather
from snn2chip.shards.opened import NamedFile, feed_of, program_of, work
from snn2chip.shards.plan import MOST_LARGE, PER_WORKER, Shard
from snn2chip.shards.pool import Advance
from snn2chip.shards.workers import Workers
from snn2chip.sources import source_digest

if TYPE_CHECKING:
    from snn2chip.checks.fidelity import Fidelity, Pair
    from snn2chip.checks.fidelity_sums import Sums
    from snn2chip.checks.float_model import FloatModel
    from snn2chip.data.feed import Feed, FeedSpec
    from snn2chip.ir.graph import LayerGraph
    from snn2chip.ir.program import Program


@attrs.frozen(kw_only=True)
class FloatFile:
    """The float network in a checkpoint: arguments of `float_side`."""

    file: NamedFile
    model: str | None = None
    data: str | None = None
    time_axis: bool = False

    def words(self) -> dict[str, Any]:
        """The same as plain values, and the sources of a network of the user's."""
        module, colon, _ = (self.model or "").partition(":")
        return {**attrs.asdict(self), "code": source_digest(module) if colon else None}


@attrs.frozen(kw_only=True)
class Counting:
    """What is counted: with `detail`, NeuroBench's figures with calls of `neurobench` samples; None: nothing is."""

    detail: bool = False
    neurobench: int | None = None
    device: str | None = None


@attrs.frozen(kw_only=True)
class MeasureJob:
    """Counts of one program, and its fidelity to `float_file`; either may be left out."""

    program: NamedFile
    samples: FeedSpec
    total: int
    counting: Counting | None
    float_file: FloatFile | None = None
    per_worker = PER_WORKER
    most = MOST_LARGE
    fields = ("tally", "sums")

    @property
    def floats(self) -> bool:
        """A float network runs."""
        return self.float_file is not None

    @property
    def grain(self) -> int:
        """Whole calls of NeuroBench and whole blocks of fidelity."""
        return _grain(self.counting, self.floats)

    def identity(self) -> dict[str, Any]:
        """What decides the results."""
        return work("report", self.program, self.samples) | {
            "counting": None if self.counting is None else attrs.asdict(self.counting),
            "float": None if self.float_file is None else self.float_file.words(),
        }

    def run(self, shard: Shard) -> dict[str, Any]:
        """The sums of a shard; those of floats block by block."""
        pair = None if self.float_file is None else pair_of(self.program, self.float_file)
        feed = feed_of(self.program, self.samples)
        tally = _tally(feed.program, self.counting)
        sums = [block.state() for block in _add(feed, tally, pair, self.grain, shard.start, shard.stop)]
        return {"tally": None if tally is None else tally.state(), "sums": sums}


def _grain(counting: Counting | None, floats: bool) -> int:
    from snn2chip.checks.fidelity import BLOCK

    calls = 1 if counting is None else counting.neurobench or 1
    return math.lcm(calls, BLOCK if floats else 1)


def _tally(program: Program, how: Counting | None) -> Tally | None:
    if how is None:
        return None
    return Tally(program, detail=how.detail, neurobench=how.neurobench, device=how.device)


def _add(
    feed: Feed,
    tally: Tally | None,
    pair: Pair | None,
    grain: int,
    start: int,
    stop: int | None,
    advance: Advance | None = None,
) -> Iterator[Sums]:
    """Count samples `start` to `stop`, and give the sums of every block of fidelity."""
    for inputs, labels in feed.blocks(grain * max(READ // grain, 1), start=start, stop=stop):
        moved = [0]

        def progress(done: int, total: int, moved: list[int] = moved) -> None:
            if advance is not None:
                advance(done - moved[0])
                moved[0] = done

        if tally is not None:
            tally.add(inputs, labels, time_axis=feed.time_axis, progress=progress)
        if pair is not None:
            yield from pair.blocks(inputs, labels=labels, time_axis=feed.time_axis)


def measure_range(
    feed: Feed,
    counting: Counting | None,
    side: tuple[LayerGraph, FloatModel] | None,
    *,
    advance: Advance | None = None,
) -> tuple[Tally | None, Fidelity | None]:
    """Counts and fidelity over all samples of a feed, here."""
    from snn2chip.checks.fidelity import Pair

    tally = _tally(feed.program, counting)
    pair = None if side is None else Pair.of(feed.program, side[0], model=side[1])
    blocks = _add(feed, tally, pair, _grain(counting, side is not None), 0, None, advance)
    if pair is not None:
        return tally, pair.result(blocks)
    for _ in blocks:
        pass
    return tally, None


@lru_cache(maxsize=1)
def float_side_of(found: FloatFile) -> tuple[LayerGraph, FloatModel]:
    """Graph and model of a checkpoint."""
    from snn2chip.checks.float_side import float_side

    found.file.check()
    return float_side(found.file.path, model=found.model, data=found.data, time_axis=found.time_axis)


@lru_cache(maxsize=1)
def pair_of(program: NamedFile, found: FloatFile) -> Pair:
    """The program beside its float network."""
    from snn2chip.checks.fidelity import Pair

    graph, predict = float_side_of(found)
    return Pair.of(program_of(program), graph, model=predict)


def measure_sharded(
    job: MeasureJob, workers: Workers, *, advance: Advance | None = None
) -> tuple[Tally | None, Fidelity | None]:
    """Counts and fidelity over all samples; None for what the job leaves out."""
    from snn2chip.checks.fidelity_sums import Sums

    tally = _tally(program_of(job.program), job.counting)
    whole = Sums()
    for _, tree in gather(job, workers, advance=advance):
        if tally is not None:
            tally.merge(tree["tally"])
        for state in tree["sums"]:
            whole.join(Sums.of_state(state))
    if job.float_file is None:
        return tally, None
    pair = pair_of(job.program, job.float_file)
    return tally, whole.result(pair.program, pair.pairs)
