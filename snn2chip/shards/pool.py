"""Shards through joblib: results in the order of the samples, each counted once, whoever dies on the way."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from typing import Any

from snn2chip import errors
from snn2chip.errors import EnvironmentFault
from snn2chip.shards.guarded import Job, Outcome, call
from snn2chip.shards.partial import Partial
from snn2chip.shards.plan import Shard
from snn2chip.shards.trees import unpack
from snn2chip.shards.workers import Pool

DEATHS = 2
"""Times that workers may die while one shard runs alone before it is given up."""
Advance = Callable[[int], None]


def results(
    job: Job, shards: Sequence[Shard], pool: Pool | None, *, partial: Partial | None = None, advance: Advance | None
) -> Iterator[tuple[Shard, Any]]:
    """The result of every shard, in their order; stored ones are read, the others run (`pool` None: here).

    A stored one is read when its turn comes, and runs if it cannot be. Raises the error of the first shard (in their
    order) that fails, with its samples, and EnvironmentFault for a shard whose workers die again and again.
    """
    ready: dict[int, Any] = {}
    stored = set() if partial is None else _stored(shards, partial)
    todo = [s for s in shards if s.index not in stored]
    counted = set(stored)
    damaged: set[int] = set()
    at, failed = 0, None
    told: set[str] = set()

    def move(n: int) -> None:
        if advance is not None:
            advance(n)

    move(sum(s.size for s in shards if s.index in counted))
    with closing(_batches(job, todo, pool)) as outcomes:
        while at < len(shards):
            index = shards[at].index
            if partial is not None and index in stored:
                tree = partial.read(shards[at].start, shards[at].stop)
                if tree is None:
                    todo += (found := [shards[at], *_damaged(shards[at + 1 :], stored, partial)])
                    damaged |= {s.index for s in found}
                    stored -= damaged
                    continue
                stored.discard(index)
                ready[index] = tree
            if index in ready:
                yield shards[at], ready.pop(index)
                at += 1
                continue
            if failed is not None and failed.shard.index <= index:
                break
            outcome = next(outcomes)
            for kind, key, text in outcome.notices:
                if key not in told:
                    told.add(key)
                    warnings.warn(getattr(errors, kind, errors.Notice)(text, key=key), stacklevel=2)
            if outcome.data is None:
                failed = outcome if failed is None or outcome.shard.index < failed.shard.index else failed
                continue
            if partial is not None:
                partial.write(outcome.shard, outcome.data)
            if outcome.shard.index not in counted:
                counted.add(outcome.shard.index)
                move(outcome.shard.size)
            if partial is None or outcome.shard.index == index or outcome.shard.index in damaged:
                ready[outcome.shard.index] = unpack(outcome.data)
            else:
                stored.add(outcome.shard.index)  # its turn comes later: it need not wait in memory
    if failed is not None and failed.failure is not None:
        raise failed.failure.error(failed.shard)


def _stored(shards: Sequence[Shard], partial: Partial) -> set[int]:
    """Shards that have a file."""
    ranges = set(partial.ranges())
    return {s.index for s in shards if (s.start, s.stop) in ranges}


def _damaged(shards: Sequence[Shard], stored: set[int], partial: Partial) -> list[Shard]:
    """Those of them whose file is worth nothing, so that they run beside each other."""
    return [s for s in shards if s.index in stored and partial.read(s.start, s.stop) is None]


def _batches(job: Job, todo: list[Shard], pool: Pool | None) -> Generator[Outcome, None, None]:
    """What came of each shard in `todo`, and of those that are put there meanwhile."""
    while todo:
        batch = list(todo)
        todo.clear()
        with closing(_outcomes(job, batch, pool)) as outcomes:
            yield from outcomes


def _outcomes(job: Job, shards: Sequence[Shard], pool: Pool | None) -> Generator[Outcome, None, None]:
    """What came of each shard, once, in any order."""
    if pool is None:
        yield from (call(job, shard) for shard in shards)
        return
    left = {shard.index: shard for shard in shards}
    while left:
        before = len(left)
        try:
            with closing(_parallel(job, list(left.values()), pool)) as made:
                for outcome in made:
                    if left.pop(outcome.shard.index, None) is not None:
                        yield outcome
        except Exception as error:
            if not _died(error):
                raise
            if len(left) < before:
                continue
            suspects = list(left.values())[: 2 * pool.lanes]  # the first of these may be what kills workers
            for shard in suspects:
                outcome = _alone(job, shard, pool)
                del left[shard.index]
                yield outcome


def _alone(job: Job, shard: Shard, pool: Pool) -> Outcome:
    for _ in range(DEATHS):
        try:
            (outcome,) = _parallel(job, [shard], pool)
            return outcome
        except Exception as error:
            if not _died(error):
                raise
            last = error
    raise EnvironmentFault(
        f"{shard}: every worker that runs them dies ({type(last).__name__}); not enough memory? try fewer workers or "
        "smaller shards"
    ) from last


def _parallel(job: Job, shards: Sequence[Shard], pool: Pool) -> Generator[Outcome, None, None]:
    """Outcomes as they are made (of a pool that cannot stream: wave by wave)."""
    from joblib import Parallel, delayed, parallel_config

    wave = len(shards) if pool.streams else 2 * pool.lanes
    for first in range(0, len(shards), wave):
        part = shards[first : first + wave]
        # one lane would run in this process, where a death is the end of everything
        lanes = max(2, min(pool.lanes, len(part)))
        with parallel_config(backend=pool.backend, n_jobs=lanes, **pool.options):
            parallel = Parallel(return_as="generator_unordered" if pool.streams else "list", batch_size=1)
        made = parallel(delayed(call)(job, shard, pool.parent) for shard in part)
        try:
            for outcome in made:  # noqa: UP028  # `yield from` would close it before _leave does
                yield outcome
        finally:
            _leave(made)


def _leave(made: Any) -> None:
    """Close a generator of joblib's without its advice to whoever interrupts it."""
    if hasattr(made, "close"):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"\d+ tasks ", UserWarning)
            made.close()


def _died(error: Exception) -> bool:
    """Whether joblib, Dask or Ray lost a worker, as their errors are called; a shard's own errors come as outcomes."""
    names = {cls.__name__ for cls in type(error).__mro__}
    return bool(
        names
        & {"TerminatedWorkerError", "BrokenProcessPool", "KilledWorker", "CancelledError", "FutureCancelledError",
           "RayActorError", "ActorDiedError", "WorkerCrashedError", "OutOfMemoryError", "NodeDiedError"}
    )  # fmt: skip
