"""`snn2chip check`: backends against each other, against golden vectors, or against a trace from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import attrs
import typer

from snn2chip.cli.feed import DataName, Device, InputFile, StepsInInput, file_of, make_feed
from snn2chip.cli.lava_options import LavaBatch, LavaLayout, LavaMode, lava_options, with_lava
from snn2chip.cli.report import FloatModel, OwnModel
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
from snn2chip.errors import EnvironmentFault, InputError

if TYPE_CHECKING:
    from snn2chip.checks.certificate_result import Certificate
    from snn2chip.checks.compare import CheckResult
    from snn2chip.checks.fidelity import Fidelity
    from snn2chip.data.feed import Feed
    from snn2chip.ir.program import Program
    from snn2chip.registry import Backend
    from snn2chip.shards.workers import Workers

DEFAULT_SAMPLES = 32


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("check", help="Compare every payload between backends; exit 0 equal, 1 differs.")(check)


def check(
    program: Annotated[Path, typer.Argument(metavar="FILE.s2c", help="A compiled program.")],
    backends: Annotated[
        str | None,
        typer.Option("--backends", metavar="A,B", help="The first is the expected side (default: all that run here)."),
    ] = None,
    data: DataName = None,
    input: InputFile = None,
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples",
            metavar="N",
            min=1,
            help=f"First N samples (default: all of X.npz, {DEFAULT_SAMPLES} of a data set).",
        ),
    ] = None,
    golden: Annotated[bool, typer.Option("--golden", help="Against the golden vectors stored in FILE.s2c.")] = False,
    trace: Annotated[
        Path | None, typer.Option("--trace", metavar="T.npz", help="Against a trace recorded elsewhere.")
    ] = None,
    float_model: FloatModel = None,
    model: OwnModel = None,
    certificate: Annotated[
        bool,
        typer.Option("--certificate", help="With --float: where rounding provably changed no spike; 1 on a violation."),
    ] = False,
    json: Annotated[Path | None, typer.Option("--json", metavar="OUT.json", help="Write the result as JSON.")] = None,
    device: Device = None,
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
    """Compare and name the first divergence."""
    from snn2chip.api import load
    from snn2chip.checks.outside import check_golden, check_trace
    from snn2chip.cli.screen import write_json

    loaded = load(program)
    feed: Feed | None = None
    if golden and (trace is not None or data is not None or input is not None or samples is not None):
        raise InputError(
            "--golden brings its own samples and results; leave --data, --input, --samples and --trace out"
        )
    if certificate and float_model is None:
        raise InputError("--certificate compares with a float model; name its checkpoint with --float CKPT")
    options = lava_options(lava_layout, lava_mode, lava_batch)
    shared = workers_of(workers, executor, scheduler, shard, partial, beside=json)
    if shared is not None and (golden or trace is not None):
        raise InputError("--golden and --trace hold few samples; leave --workers, --executor, --shard, --partial out")
    words: dict[str, Any] | None = None
    own = trace is not None and data is None and input is None and _has_inputs(loaded, trace)
    if golden:
        names = with_lava(_chosen(loaded, backends, ()), options)
        result = check_golden(program, backends=names, device=device)
    elif trace is not None and own:
        names = with_lava(_chosen(loaded, backends, ("reference",)), options)
        result = check_trace(loaded, trace, backends=names, device=device)
    elif trace is not None:
        feed = make_feed(loaded, data=data, path=input, samples=samples, steps_in_input=steps_in_input)
        inputs, _ = next(iter(feed.blocks(feed.samples.total)))
        names = with_lava(_chosen(loaded, backends, ("reference",)), options)
        result = check_trace(loaded, trace, inputs=inputs, backends=names, time_axis=feed.time_axis, device=device)
    else:
        feed = make_feed(
            loaded,
            data=data,
            path=input,
            samples=samples,
            default_samples=DEFAULT_SAMPLES,
            steps_in_input=steps_in_input,
        )
        names = with_lava(_pair(_chosen(loaded, backends, ())), options)
        if shared is not None:
            words = in_words(program, feed, data=data, path=input, steps_in_input=steps_in_input)
        result = check_blocks(feed, names, device=device, options=options, words=words, shared=shared)
    measured = proven = None
    if float_model is not None:
        if feed is None:
            raise InputError("--float needs samples: leave --golden and --trace out, or add --data or --input")
        measured, proven = _fidelity(
            feed, float_model, model=model, data=data, certified=certificate, words=words, shared=shared
        )
    if json is not None:
        extra: dict[str, Any] = {"float": None, "agreement": None}
        if measured is not None:
            extra = {"float": measured.float_accuracy, "agreement": measured.agreement}
            extra["outputs"] = [attrs.asdict(row) for row in measured.outputs]
        from snn2chip.origin import origin_of

        where = {"origin": origin_of(loaded, program, file_of(feed, input), trace, float_model)}
        table = {} if proven is None else {"certificate": proven.as_dict()}
        write_json(json, {**result.as_dict(), **extra, **table, **where})
        finished(shared)
    for note in result.notes:
        typer.echo(f"note: {note}")
    if not result.equal:
        typer.echo(f"DIFFERENT {' / '.join(result.backends)}")
        result.raise_if_different()
    if measured is not None:
        typer.echo(
            f"float fidelity: {measured.agreement:.4f} of {measured.samples} predictions agree with the float model"
        )
        for row in measured.outputs if len(measured.outputs) > 1 else ():
            error = "-" if row.error is None else f"{row.error:.2e}"
            typer.echo(f"  output {row.output} ({row.read}): {row.agreement:.4f} agree, values off by {error}")
    if proven is not None:
        typer.echo(proven.text())
        proven.raise_if_violated()
    typer.echo(f"EQUAL {' == '.join(result.backends)}: {result.compared:,} integers compared")


def _fidelity(
    feed: Feed,
    checkpoint: Path,
    *,
    model: str | None,
    data: str | None,
    certified: bool,
    words: dict[str, Any] | None,
    shared: Workers | None,
) -> tuple[Fidelity, Certificate | None]:
    """Fidelity to a checkpoint on the samples, and the certificate if asked for."""
    from snn2chip.checks.certificate import certificate
    from snn2chip.checks.float_side import source_doubt
    from snn2chip.cli.measured import measured
    from snn2chip.cli.screen import progress, say
    from snn2chip.data.feed import READ

    if doubt := source_doubt(feed.program, checkpoint):
        say(f"warning: {doubt}")
    _, found, side = measured(
        feed, None, float_model=checkpoint, model=model, data=data, words=words, shared=shared, text="fidelity"
    )
    assert found is not None
    assert side is not None
    if not certified:
        return found, None
    proven: Certificate | None = None
    with progress("certificate", feed.samples.total) as advance:
        for inputs, _ in feed.blocks(READ):
            block = certificate(feed.program, side[0], inputs, time_axis=feed.time_axis)
            proven = block if proven is None else proven + block
            advance(block.samples)
    return found, proven


def _has_inputs(program: Program, trace: Path) -> bool:
    from snn2chip.data import open_npz

    with open_npz(trace) as file:
        return {f"input/{node.name}" for node in program.inputs} <= set(file.files)


def _chosen(program: Program, given: str | None, default: Sequence[str]) -> list[str]:
    """Backends the user named, else `default`, else all that can run the program here (the others are named)."""
    from snn2chip.checks.usable import usable_backends
    from snn2chip.cli.screen import say

    if given is not None:
        names = [name.strip() for name in given.split(",") if name.strip()]
        if not names:
            raise InputError("--backends names no backend; for example --backends torch,lava")
        return names
    if default:
        return list(default)
    usable, reasons = usable_backends(program)
    for name, reason in reasons.items():
        say(f"{name} left out: {reason}")
    return usable


def _pair(names: list[str]) -> list[str]:
    """At least two backends: a single one is held against the reference."""
    if len(names) == 1 and names != ["reference"]:
        return ["reference", *names]
    if len(names) < 2:
        raise EnvironmentFault(
            "only the reference backend can run this program here; there is nothing to compare it with"
        )
    return names


def check_blocks(
    feed: Feed,
    backends: Sequence[str | Backend],
    *,
    device: str | None,
    options: dict[str, Any],
    words: dict[str, Any] | None,
    shared: Workers | None,
) -> CheckResult:
    """Compare in blocks (on Lava in one piece), up to the first sample that differs; shared among workers, if any."""
    from snn2chip.checks.compare import ready_pair
    from snn2chip.cli.screen import progress
    from snn2chip.shards.checking import CheckJob, check_range, check_sharded
    from snn2chip.shards.opened import Engine

    ready = ready_pair(backends, feed.program, device)
    with progress(f"check {', '.join(b.name for b in ready)}", feed.samples.total) as advance:
        if shared is None or words is None:
            return check_range(feed, ready, advance=advance)
        engines = tuple(Engine.of(b, options=options, device=device) for b in backends)
        return check_sharded(CheckJob(**words, engines=engines), shared, advance=advance)
