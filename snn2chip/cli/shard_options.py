"""Options of every verb that works on many samples: how many workers, where, and what is kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from snn2chip.data.feed import Feed
    from snn2chip.shards.workers import Workers

WorkerCount = Annotated[
    int | None,
    typer.Option("--workers", metavar="N", min=1, help="Processes (or places of a cluster) that share the samples."),
]
Executor = Annotated[
    str | None, typer.Option("--executor", help="Where workers are: local (the default), dask or ray.")
]
Scheduler = Annotated[
    str | None,
    typer.Option("--scheduler", "--address", metavar="ADDRESS", help="Dask's scheduler, tcp://HOST:8786, or Ray's."),
]
ShardSize = Annotated[
    int | None, typer.Option("--shard", metavar="N", min=1, help="Samples per shard (default: four shards a worker).")
]
PartialFolder = Annotated[
    Path | None,
    typer.Option("--partial", metavar="DIR", help="Keep the results of finished shards there; a second call goes on."),
]
BESIDE = ".shards"
"""Behind the name of an output file: where shards are kept until it is written."""


def workers_of(
    count: int | None,
    executor: str | None,
    scheduler: str | None,
    shard: int | None,
    partial: Path | None,
    *,
    beside: Path | None = None,
) -> Workers | None:
    """Who shares the samples; None where nothing was asked for: this process, in one piece.

    Without --partial, shards are kept beside the output `beside` until it is there (`finished`).
    """
    from snn2chip.shards.workers import Workers

    if (count, executor, scheduler, shard, partial) == (None,) * 5:
        return None
    folder = partial if partial is not None or beside is None else beside.with_name(beside.name + BESIDE)
    return Workers(
        count=count,
        executor=executor or "local",
        address=scheduler,
        shard=shard,
        partial=folder,
        keep=partial is not None or folder is None,
    )


def in_words(program: Path, feed: Feed, *, data: str | None, path: Path | None, steps_in_input: bool) -> dict[str, Any]:
    """Program and samples of a command as any worker understands them: `program`, `samples`, `total` of a job."""
    from snn2chip.data.feed import FeedSpec
    from snn2chip.shards.opened import NamedFile

    total = feed.samples.total
    samples = FeedSpec.of(feed.program, data=data, path=path, samples=total, steps_in_input=steps_in_input)
    return {"program": NamedFile.of(program), "samples": samples, "total": total}


def finished(workers: Workers | None) -> None:
    """The output is written: drop what was kept for it alone."""
    from snn2chip.shards.partial import clear

    if workers is not None and workers.partial is not None and not workers.keep:
        clear(workers.partial)
