"""`snn2chip compile`: a trained network to an integer program; the kind of file decides the way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snn2chip.cli.artifacts import Artifacts, of_a_compile, ready, write_artifacts
from snn2chip.cli.import_options import (
    ImportFlags,
    NetxIgnore,
    NetxInputShape,
    NetxNumbers,
    NirOptions,
    NirProfile,
    NumLayers,
)
from snn2chip.cli.shard_options import Executor, Scheduler, WorkerCount, workers_of
from snn2chip.errors import InputError
from snn2chip.stages import listening

if TYPE_CHECKING:
    from snn2chip.ir.program import Program


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("compile", help="Compile a trained network into an integer program.")(compile)


def compile(
    context: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="CKPT",
            help="A checkpoint, a state_dict, X.nir, a lava-dl X.net, an ordinary X.onnx, or a program to transform.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.s2c", help="Where the program goes.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME|module:function", help="The model whose weights the file holds."),
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="NAME", help="Calibrate on this data set's training split.")
    ] = None,
    weights: Annotated[str, typer.Option("--weights", help="keep, binary, ternary, int2 .. int8.")] = "keep",
    quant: Annotated[
        Path | None, typer.Option("--quant", metavar="FILE.toml", help="Weight widths, also by layer name pattern.")
    ] = None,
    rounding: Annotated[
        str,
        typer.Option("--rounding", help="nearest, or fitted: weights, units, biases chosen on calibration samples."),
    ] = "nearest",
    target: Annotated[
        str,
        typer.Option(
            "--target", metavar="loihi2|loihi1|ideal|FILE.toml", help="The chip; what it cannot do is refused."
        ),
    ] = "loihi2",
    steps: Annotated[
        int | None,
        typer.Option("--steps", metavar="T", min=1, help="Steps of one sample, where the file or the model says none."),
    ] = None,
    input_range: Annotated[
        str | None,
        typer.Option("--input-range", metavar="LO,HI", help="What raw values may be (default: calibration, and room)."),
    ] = None,
    num_layers: NumLayers = None,
    netx_ignore: NetxIgnore = None,
    netx_numbers: NetxNumbers = "netx",
    netx_input_shape: NetxInputShape = None,
    payload_bits: Annotated[
        int, typer.Option("--payload-bits", metavar="4..16", help="Bits of real payloads (EM-PF) trained without any.")
    ] = 8,
    input_coding: Annotated[
        str, typer.Option("--input-coding", help="direct, or spikes of raw values: rate-floor, rate-round.")
    ] = "direct",
    strict: Annotated[bool, typer.Option("--strict", help="Fire at v > theta instead of v >= theta.")] = False,
    parallel: Annotated[
        str, typer.Option("--parallel", help="Form of parallel and QCFS neurons: as-is, graded or spikes.")
    ] = "as-is",
    readout: Annotated[
        str,
        typer.Option(
            "--readout", help="How all steps that a model returns are read: auto, sum, mean, last or count (of spikes)."
        ),
    ] = "auto",
    nir_profile: NirProfile = None,
    nir_options: NirOptions = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method", help="How X.onnx gets its neurons: parallel (default), qcfs or ic-snn, as in convert."
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            metavar="KEY=VALUE",
            help="Of the method of X.onnx; scale, mean, std of its raw samples; repeatable, as in convert.",
        ),
    ] = None,
    transforms: Annotated[
        list[str] | None,
        typer.Option(
            "--transform", metavar="NAME", help="Rewrite the program exactly, e.g. fuse-time; may be repeated."
        ),
    ] = None,
    golden: Annotated[
        int,
        typer.Option("--golden", metavar="N", min=0, help="Keep N test samples and what every neuron answers in FILE."),
    ] = 0,
    artifacts: Artifacts = None,
    workers: WorkerCount = None,
    executor: Executor = None,
    scheduler: Scheduler = None,
) -> None:
    """Compile and save."""
    import attrs

    from snn2chip.cli.compile_sources import Wanted, program_of, refuse_unfit

    shared = workers_of(workers, executor, scheduler, None, None)
    if not source.is_file():
        raise InputError(f"{source}: no such file")
    if out is None and artifacts is None:
        raise InputError("name where the program goes: -o FILE.s2c, --artifacts DIR or both")
    if artifacts is not None:
        ready(artifacts)
    if golden and out is None:
        raise InputError("--golden goes with -o FILE.s2c; --artifacts keeps golden vectors of its own")
    rows = context.with_resource(listening())
    wanted = Wanted(
        model=model,
        data=data,
        weights=weights,
        quant=quant,
        rounding=rounding,
        target=target,
        steps=steps,
        input_range=input_range,
        choices={
            "payload_bits": payload_bits,
            "input_coding": input_coding,
            "strict": strict,
            "parallel": parallel,
            "readout": readout,
        },
        imports=ImportFlags(
            nir_profile=nir_profile,
            nir_options=nir_options,
            num_layers=num_layers,
            netx_ignore=netx_ignore,
            netx_numbers=netx_numbers,
            netx_input_shape=netx_input_shape,
        ),
        method=method,
        option=option,
        transforms=transforms,
    )
    refuse_unfit(source, wanted)
    program, network = program_of(source, wanted, shared=shared, keep=context.with_resource)  # to the end of the verb
    if transforms:
        from snn2chip.transforms import transform

        program = transform(program, transforms)
    from snn2chip.analysis.proofs import range_summary

    named = str(program.meta.get("data", ""))
    data = data or (named if named.endswith(".npz") else None)  # read from where it is, and named without its folders
    kept = golden_samples(program, golden, data=data)
    program = attrs.evolve(program, meta={**program.meta, **origin_meta(program, source, quant)})
    if out is not None:
        program.save(out, golden=golden, inputs=kept)
    neurons = sum(soma.size for soma in program.somas)
    typer.echo(f"{program.name}: {len(program.nodes)} nodes, {neurons:,} neurons, {program.steps} steps")
    typer.echo(f"ranges: {range_summary(program)}")
    notes = [*program.meta.get("notes", ()), *program.meta.get("target_notes", ())]
    for note in notes:
        typer.echo(f"note: {note}")
    if artifacts is not None:
        options = of_a_compile(float_model=network, model=model, data=data, target=target)
        write_artifacts(artifacts, program, options=options, source=source, rows=rows, notes=notes)
    for made in (out, artifacts):
        if made is not None:
            typer.echo(f"wrote {made}")


def origin_meta(program: Program, source: Path, quant: Path | None) -> dict[str, Any]:
    """The notes of a program that this command made: where it comes from; files are named without their folders."""
    from snn2chip.origin import data_name, origin

    about, found = origin(source, quant), dict(program.meta)
    meta: dict[str, Any] = {"origin": about}
    if isinstance(found.get("data"), str):
        meta["data"] = data_name(found["data"])
    used = found.get("calibration")
    if source.suffix not in (".s2c", ".net") and isinstance(used, Mapping) and "sha256" in used:
        meta["calibration"] = used = {**used, "data": data_name(str(used.get("data")))}
        about["inputs"][f"{used.get('samples')} calibration samples of {used['data']}"] = used["sha256"]
    return meta


def golden_samples(program: Program, count: int, *, data: str | None) -> Any:
    """The first test samples of the program's data set, or None for random ones where it names none."""
    if not count or (data is None and "data" not in program.meta):
        return None
    from snn2chip.cli.feed import make_feed

    feed = make_feed(program, path=None, samples=count, data=data, steps_in_input=False)
    return next(iter(feed.blocks(count)))[0]
