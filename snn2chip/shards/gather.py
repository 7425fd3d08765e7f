"""From a job to the results of all its shards, in the order of the samples."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack
from typing import Any, Protocol

from snn2chip.shards.guarded import Job
from snn2chip.shards.partial import Partial
from snn2chip.shards.plan import PER_WORKER, Shard, cut, default_size
from snn2chip.shards.pool import Advance, results
from snn2chip.shards.workers import Workers

FINER = 4
"""More shards, so many times, where their results are kept: less is lost."""


class KeptJob(Job, Protocol):
    """A job over `total` samples whose shards begin on a `grain`."""

    @property
    def total(self) -> int: ...

    @property
    def grain(self) -> int: ...

    @property
    def per_worker(self) -> int:
        """Shards for each worker by default."""

    @property
    def most(self) -> int:
        """Most shards by default."""

    @property
    def fields(self) -> Collection[str]:
        """Names in the result of every shard."""

    def identity(self) -> dict[str, Any]:
        """Everything that decides the results, as plain values."""


def gather(job: KeptJob, workers: Workers, *, advance: Advance | None = None) -> Iterator[tuple[Shard, Any]]:
    """The results of all shards, in order; raises what `results` and `Workers.connected` raise."""
    partial = None if workers.partial is None else Partial.of(workers.partial, job.identity(), job.fields)
    with ExitStack() as stack:
        pool = None if workers.here else stack.enter_context(workers.connected())
        each = job.per_worker * (1 if partial is None or job.per_worker < PER_WORKER else FINER)
        size = workers.shard or default_size(
            job.total, 1 if pool is None else pool.lanes, per_worker=each, most=job.most
        )
        shards = cut(job.total, size=size, grain=job.grain, done=() if partial is None else partial.ranges())
        yield from results(job, shards, pool, partial=partial, advance=advance)
