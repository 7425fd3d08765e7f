"""`snn2chip run`: a program on samples, block by block, so that memory does not grow with their number."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snn2chip.cli.feed import Count, DataName, Device, InputFile, StepsInInput, file_of, make_feed
from snn2chip.cli.lava_options import LavaBatch, LavaLayout, LavaMode, lava_options, with_lava
from snn2chip.cli.shard_options import (
    Executor,
    PartialFolder,
    Scheduler,
    ShardSize,
    WorkerCount,
    finished,
    in_words,
    workers_of,
)
from snn2chip.errors import InputError

if TYPE_CHECKING:
    from snn2chip.data.feed import Feed
    from snn2chip.trace import Trace

RECORDS = ("outputs", "all")
SHOW_STEPS, SMALL = 16, 32
"""The progress bar moves about this often, unless its blocks would be smaller than this many samples."""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("run", help="Run a program on samples: outputs, accuracy, counts.")(run)


def run(
    program: Annotated[Path, typer.Argument(metavar="FILE.s2c", help="A compiled program.")],
    data: DataName = None,
    input: InputFile = None,
    samples: Count = None,
    backend: Annotated[str, typer.Option("--backend", help="reference, torch or lava.")] = "torch",
    device: Device = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="TRACE.npz", help="Write outputs and pred (with --record all everything)."
        ),
    ] = None,
    record: Annotated[
        str, typer.Option("--record", help="outputs, or all: every payload and potential (memory grows with N).")
    ] = "outputs",
    steps_in_input: StepsInInput = False,
    lava_layout: LavaLayout = None,
    lava_mode: LavaMode = None,
    lava_batch: LavaBatch = None,
    workers: WorkerCount = None,
    executor: Executor = None,
    scheduler: Scheduler = None,
    shard: ShardSize = None,
    partial: PartialFolder = None,
) -> None:
    """Run a program and print accuracy (with labels), samples per second and counts."""
    from snn2chip.api import load, ready_backend
    from snn2chip.checks.outside import write_trace
    from snn2chip.cli.screen import counts_table, progress

    if record not in RECORDS:
        raise InputError(f"--record must be outputs or all, got {record!r}")
    loaded = load(program)
    feed = make_feed(loaded, data=data, path=input, samples=samples, steps_in_input=steps_in_input)
    options = lava_options(lava_layout, lava_mode, lava_batch)
    chosen = with_lava([backend], options)[0]
    engine = ready_backend(chosen, loaded, device=device)
    shared = workers_of(workers, executor, scheduler, shard, partial, beside=out)
    start = time.perf_counter()
    if shared is None:
        trace = run_blocks(feed, engine, record=record)
    else:
        from snn2chip.shards.opened import Engine
        from snn2chip.shards.running import RunJob, run_sharded

        words = in_words(program, feed, data=data, path=input, steps_in_input=steps_in_input)
        job = RunJob(**words, engine=Engine.of(chosen, options=options, device=device), record=record)
        with progress(f"run on {engine.name}", job.total) as advance:
            trace = run_sharded(job, shared, advance=advance)
    seconds = time.perf_counter() - start
    if out is not None:
        from snn2chip.origin import origin_of

        write_trace(out, trace, origin=origin_of(loaded, program, file_of(feed, input)))
        finished(shared)
    rate = trace.samples / seconds
    typer.echo(
        f"{loaded.name} on {trace.backend}: {trace.samples} samples of {trace.steps} steps, {rate:,.0f} samples/s"
    )
    labels = feed.samples.labels
    if labels is not None and trace.outputs.shape[1]:
        right = int((trace.pred == labels).sum())
        typer.echo(f"accuracy {right / trace.samples:.4f} ({right} of {trace.samples}, {feed.samples.name})")
    if len(loaded.outputs) > 1:
        for output in loaded.outputs:
            size = trace.all_outputs[output.name].shape[1]
            typer.echo(f"output {output.name}: {size} values, {output.read}")
    if trace.counts is not None:
        counts_table("per sample", trace.counts)
    for note in trace.notes:
        typer.echo(f"note: {note}")
    if out is not None:
        typer.echo(f"wrote {out}")


def run_blocks(feed: Feed, engine: Any, *, record: str) -> Trace:
    """Run all samples of `feed` in blocks that the backend likes, with a progress bar on a terminal."""
    from snn2chip.cli.screen import progress
    from snn2chip.shards.running import run_range

    total = feed.samples.total
    size = engine.block(feed.program)
    if engine.name != "lava":  # a Lava run costs seconds to start, so it is not cut for the bar
        size = min(size, max(SMALL, -(-total // SHOW_STEPS)))
    with progress(f"run on {engine.name}", total) as advance:
        return run_range(feed, engine, record=record, size=size, advance=advance)
