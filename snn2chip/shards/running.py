"""Running a program on many samples: `run` in shards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from snn2chip.reports.tally import counts_of
from snn2chip.shards.gather import gather
from snn2chip.shards.opened import Engine, NamedFile, feed_of, program_of, work
from snn2chip.shards.plan import MOST, PER_WORKER, Shard
from snn2chip.shards.pool import Advance
from snn2chip.shards.workers import Workers
from snn2chip.trace import Trace, gather_traces

if TYPE_CHECKING:
    from snn2chip.data.feed import Feed, FeedSpec
    from snn2chip.registry import Backend


def run_range(
    feed: Feed,
    engine: Backend,
    *,
    record: str,
    size: int | None = None,
    start: int = 0,
    stop: int | None = None,
    advance: Advance | None = None,
) -> Trace:
    """Samples `start` to `stop` of a feed in blocks of `size` (None: as the backend likes)."""
    from snn2chip.api import run

    def blocks() -> Iterator[Trace]:
        for inputs, _ in feed.blocks(size or engine.block(feed.program), start=start, stop=stop):
            part = run(feed.program, inputs, backend=engine, record=record, time_axis=feed.time_axis)
            if advance is not None:
                advance(part.samples)
            yield part

    return gather_traces(blocks())


@attrs.frozen(kw_only=True)
class RunJob:
    """One program, one backend; `record` as for `snn2chip.run`."""

    program: NamedFile
    samples: FeedSpec
    total: int
    engine: Engine
    record: str = "outputs"
    floats = False
    grain = 1
    most = MOST
    fields = tuple(field.name for field in attrs.fields(Trace) if field.name != "info")

    @property
    def per_worker(self) -> int:
        """One shard where every start costs seconds."""
        return 1 if self.engine.name == "lava" else PER_WORKER

    def identity(self) -> dict[str, Any]:
        """What decides the results."""
        return work("run", self.program, self.samples) | {
            "engine": self.engine.words(),
            "record": self.record,
        }

    def run(self, shard: Shard) -> dict[str, Any]:
        """The trace of a shard."""
        engine = self.engine.ready(program_of(self.program))
        feed = feed_of(self.program, self.samples)
        return trace_state(run_range(feed, engine, record=self.record, start=shard.start, stop=shard.stop))


def run_sharded(job: RunJob, workers: Workers, *, advance: Advance | None = None) -> Trace:
    """The trace of all samples."""
    return gather_traces(trace_of(tree) for _, tree in gather(job, workers, advance=advance))


def trace_state(trace: Trace) -> dict[str, Any]:
    """A trace as plain values and arrays (what a backend says about its run besides stays behind)."""
    found = attrs.asdict(trace, filter=lambda field, _: field.name != "info", recurse=False)
    return {**found, "counts": None if trace.counts is None else attrs.asdict(trace.counts)}


def trace_of(state: Mapping[str, Any]) -> Trace:
    """The trace that `trace_state` gave."""
    return Trace(**{**state, "counts": None if state["counts"] is None else counts_of(state["counts"])})
