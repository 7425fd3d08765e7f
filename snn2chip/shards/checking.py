"""Comparing backends on many samples: `check` in shards.

The first divergence is that of the lowest sample, of the earliest backend named there; it does not depend on how the
samples are cut. Integers up to that sample count as compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs

from snn2chip.checks.compare import CheckResult, Divergence, compare_pair
from snn2chip.shards.gather import gather
from snn2chip.shards.opened import Engine, NamedFile, feed_of, program_of, work
from snn2chip.shards.plan import MOST, PER_WORKER, Shard
from snn2chip.shards.pool import Advance
from snn2chip.shards.workers import Workers

if TYPE_CHECKING:
    from snn2chip.data.feed import Feed, FeedSpec
    from snn2chip.ir.program import Program
    from snn2chip.registry import Backend
    from snn2chip.trace import Trace

BLOCK, BLOCK_BYTES = 512, 1 << 30
"""Most samples compared at a time, and bytes that their payloads and potentials may take."""


def check_range(
    feed: Feed,
    engines: Sequence[Backend],
    *,
    start: int = 0,
    stop: int | None = None,
    advance: Advance | None = None,
) -> CheckResult:
    """Compare the backends on samples `start` to `stop`, up to the first sample that differs."""
    from snn2chip.api import run

    program, at, compared = feed.program, start, 0
    notes: dict[str, None] = {}
    first: Divergence | None = None
    for inputs, _ in feed.blocks(_block(program, engines, feed.samples.total), start=start, stop=stop):
        traces = [run(program, inputs, backend=engine, time_axis=feed.time_axis) for engine in engines]
        notes |= dict.fromkeys(note for trace in traces for note in trace.notes)
        count, first = _compare(program, traces, at)
        compared += count
        at += traces[0].samples
        if advance is not None:
            advance(traces[0].samples)
        if first is not None:
            break
    names = tuple(engine.name for engine in engines)
    return CheckResult(equal=first is None, compared=compared, backends=names, first=first, notes=tuple(notes))


def _block(program: Program, engines: Sequence[Backend], total: int) -> int:
    """Samples at a time; on Lava, whose every start costs seconds, as many as it likes."""
    slow = [engine.block(program) for engine in engines if engine.name == "lava"]
    one = 8 * program.steps * sum(soma.size for soma in program.somas) * len(engines)
    return min([total, *slow]) if slow else max(1, min(BLOCK, BLOCK_BYTES // max(one, 1)))


def _compare(program: Program, traces: Sequence[Trace], at: int) -> tuple[int, Divergence | None]:
    found: list[Divergence] = []
    compared = 0
    for got in traces[1:]:
        count, first = compare_pair(program, traces[0], got)
        if first is not None:
            found.append(first)
            count, _ = compare_pair(program, got, got)  # all there is to compare, wherever the other one stopped
        compared += count
    if not found:
        return compared, None
    lowest = min(found, key=lambda d: d.sample)
    one = compared // traces[0].samples
    return one * (lowest.sample + 1), attrs.evolve(lowest, sample=lowest.sample + at)


@attrs.frozen(kw_only=True)
class CheckJob:
    """One program, several backends, the first the expected side."""

    program: NamedFile
    samples: FeedSpec
    total: int
    engines: tuple[Engine, ...]
    floats = False
    grain = 1
    most = MOST
    fields = ("equal", "compared", "backends", "first", "notes")

    @property
    def per_worker(self) -> int:
        """One shard where every start costs seconds."""
        return 1 if any(engine.name == "lava" for engine in self.engines) else PER_WORKER

    def identity(self) -> dict[str, Any]:
        """What decides the results."""
        return work("check", self.program, self.samples) | {
            "engines": [engine.words() for engine in self.engines],
        }

    def run(self, shard: Shard) -> dict[str, Any]:
        """The comparison of a shard."""
        engines = [engine.ready(program_of(self.program)) for engine in self.engines]
        feed = feed_of(self.program, self.samples)
        return check_range(feed, engines, start=shard.start, stop=shard.stop).as_dict()


def check_sharded(job: CheckJob, workers: Workers, *, advance: Advance | None = None) -> CheckResult:
    """The comparison of all samples, up to the first that differs."""
    compared = 0
    notes: dict[str, None] = {}
    first: Divergence | None = None
    names: tuple[str, ...] = ()
    for _, tree in gather(job, workers, advance=advance):
        compared += tree["compared"]
        notes |= dict.fromkeys(tree["notes"])
        names = tuple(tree["backends"])
        if tree["first"] is not None:
            at: dict[str, Any] = {k: tuple(x) if isinstance(x, list) else x for k, x in tree["first"].items()}
            first = Divergence(**at)
            break
    return CheckResult(equal=first is None, compared=compared, backends=names, first=first, notes=tuple(notes))
