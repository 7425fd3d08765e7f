"""`snn2chip compile`: a trained network to an integer program; the kind of file decides the way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snn2chip.cli.artifacts import Artifacts, of_a_compile, ready, write_artifacts
from snn2chip.cli.shard_options import Executor, Scheduler, WorkerCount, workers_of
from snn2chip.errors import InputError
from snn2chip.shards.current import sharing
from snn2chip.stages import listening

if TYPE_CHECKING:
    from snn2chip.ir.program import Program
    from snn2chip.quantize.spec import QuantSpec
    from snn2chip.shards.workers import Workers


ONNX = ".onnx"
NIR_TAKES = ("--data", "--weights", "--quant", "--rounding", "--input-range", "--readout")


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
    num_layers: Annotated[
        int | None, typer.Option("--num-layers", metavar="N", min=1, help="Only the first N layers of X.net.")
    ] = None,
    netx_ignore: Annotated[
        list[str] | None,
        typer.Option("--netx-ignore", metavar="FIELD", help="Import X.net without a field, as NetX does; repeatable."),
    ] = None,
    netx_numbers: Annotated[
        str, typer.Option("--netx-numbers", help="Whose weights of X.net: netx (as it changes them) or file.")
    ] = "netx",
    netx_input_shape: Annotated[
        str | None,
        typer.Option("--netx-input-shape", metavar="C,H,W", help="What X.net reads, where it does not say that."),
    ] = None,
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
    nir_profile: Annotated[
        str | None,
        typer.Option(
            "--nir-profile", metavar="NAME", help="The framework that wrote X.nir: snntorch, norse, sinabs, ..."
        ),
    ] = None,
    nir_options: Annotated[
        list[str] | None,
        typer.Option("--nir-option", metavar="KEY=VALUE", help="One convention of the profile otherwise; repeatable."),
    ] = None,
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
    shared = workers_of(workers, executor, scheduler, None, None)
    if not source.is_file():
        raise InputError(f"{source}: no such file")
    if out is None and artifacts is None:
        raise InputError("name where the program goes: -o FILE.s2c, --artifacts DIR or both")
    if artifacts is not None:
        ready(artifacts)
    if golden and out is None:
        raise InputError("--golden goes with -o FILE.s2c; --artifacts keeps golden vectors of its own")
    rows = context.with_resource(listening())  # to the end of the verb
    network = source
    given = {
        "--model": model,
        "--data": data,
        "--weights": None if weights == "keep" else weights,
        "--quant": quant,
        "--rounding": None if rounding == "nearest" else rounding,
        "--input-range": input_range,
        "--payload-bits": None if payload_bits == 8 else payload_bits,
        "--input-coding": None if input_coding == "direct" else input_coding,
        "--strict": True if strict else None,
        "--parallel": None if parallel == "as-is" else parallel,
        "--readout": None if readout == "auto" else readout,
    }
    unfit = [name for name, value in given.items() if value is not None]
    if source.suffix != ".nir" and (nir_profile is not None or nir_options):
        raise InputError(f"{source}: --nir-profile and --nir-option are for X.nir files")
    if source.suffix != ONNX and (method is not None or option):
        raise InputError(f"{source}: --method and --option are for X.onnx files; a checkpoint goes through convert")
    if source.suffix == ONNX and model is not None:
        raise InputError(f"{source}: holds its own network; leave out --model")
    if source.suffix != ".net" and num_layers is not None:
        raise InputError(f"{source}: --num-layers is for X.net files; anything else is compiled whole")
    if source.suffix != ".net" and (netx_ignore or netx_numbers != "netx" or netx_input_shape is not None):
        raise InputError(f"{source}: --netx-ignore, --netx-numbers and --netx-input-shape are for X.net files")
    if source.suffix in (".net", ".s2c") and unfit:
        raise InputError(f"{source}: a {source.suffix} file holds integers already; leave out {', '.join(unfit)}")
    if source.suffix == ".s2c":
        if not transforms or steps is not None:
            raise InputError(
                f"{source}: is a compiled program; name what to do with it, and only that: --transform NAME"
            )
        from snn2chip.api import load

        program = load(source)
    elif source.suffix == ".nir":
        program = from_nir(
            source,
            profile=nir_profile,
            options=nir_options,
            steps=steps,
            readout=readout,
            data=data,
            given=unfit,
            shared=shared,
            quant=quant,
            how={
                "weights": weights,
                "rounding": rounding,
                "target": target,
                "input_range": None if input_range is None else parse_range(input_range),
            },
        )
    elif source.suffix == ".net":
        program = from_netx(
            source,
            target=target,
            steps=steps,
            num_layers=num_layers,
            ignore=tuple(netx_ignore or ()),
            numbers=netx_numbers,
            input_shape=None if netx_input_shape is None else parse_shape(netx_input_shape),
        )
    else:
        if source.suffix == ONNX:
            folder = Path(context.with_resource(TemporaryDirectory(prefix="snn2chip-onnx-")))
            network = spiking(source, folder, method=method or "parallel", steps=steps, option=option, data=data)
        program = from_checkpoint(
            network,
            model=model,
            data=data,
            weights=weights,
            quant=quant,
            rounding=rounding,
            target=target,
            steps=None if source.suffix == ONNX else steps,
            input_range=None if input_range is None else parse_range(input_range),
            shared=shared,
            choices={
                "payload_bits": payload_bits,
                "input_coding": input_coding,
                "strict": strict,
                "parallel": parallel,
                "readout": readout,
            },
        )
    if transforms:
        from snn2chip.transforms import transform

        program = transform(program, transforms)
    import attrs

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
        ready_made = source.suffix in (".net", ".s2c", ".nir")
        options = of_a_compile(float_model=None if ready_made else network, model=model, data=data, target=target)
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


def spiking(
    source: Path, folder: Path, *, method: str, steps: int | None, option: list[str] | None, data: str | None
) -> Path:
    """The spiking checkpoint that `snn2chip convert` makes of an ordinary network, in `folder`."""
    from snn2chip.cli.convert import converted, show

    made = folder / f"{source.stem}.safetensors"
    show(converted(source, made, method=method, steps=steps, texts=list(option or ()), data=data))
    return made


def golden_samples(program: Program, count: int, *, data: str | None) -> Any:
    """The first test samples of the program's data set, or None for random ones where it names none."""
    if not count or (data is None and "data" not in program.meta):
        return None
    from snn2chip.cli.feed import make_feed

    feed = make_feed(program, path=None, samples=count, data=data, steps_in_input=False)
    return next(iter(feed.blocks(count)))[0]


def parse_range(text: str) -> tuple[float, float]:
    """`LO,HI` as two numbers; InputError for anything else."""
    parts = text.split(",")
    try:
        lo, hi = (float(part) for part in parts)
    except ValueError:
        raise InputError(f"--input-range {text!r}: expected two numbers, as in --input-range=-4,4") from None
    return lo, hi


def parse_shape(text: str) -> tuple[int, ...]:
    """`C,H,W` or `N` as whole numbers of at least 1; InputError for anything else."""
    found = tuple(int(part) if part.strip().isdecimal() and len(part) < 10 else 0 for part in text.split(","))
    if len(found) not in (1, 3) or min(found) < 1:
        raise InputError(f"--netx-input-shape {text!r}: expected one or three whole numbers, as in 2,32,32")
    return found


def from_netx(path: Path, *, target: str = "loihi2", **how: Any) -> Program:
    """A lava-dl `.net` file as a program for `target`; `how` are options of `import_netx`."""
    from snn2chip.frontends.netx import import_netx
    from snn2chip.mapping.capabilities import fitted
    from snn2chip.mapping.target_file import load_target

    chip = load_target(target)
    return fitted(import_netx(path, **how), chip)


def from_nir(
    path: Path,
    *,
    profile: str | None,
    options: list[str] | None,
    steps: int | None,
    readout: str,
    data: str | None,
    given: list[str],
    quant: Path | None,
    shared: Workers | None = None,
    how: dict[str, Any],
) -> Program:
    """A `.nir` file as a program: our own as it is, others by their profile; `given` are the flags that were set."""
    from snn2chip.interop.nir_compile import compile_nir, holds_program, import_nir_program, parsed_options
    from snn2chip.mapping.capabilities import fitted
    from snn2chip.mapping.target_file import load_target

    if unfit := [name for name in given if name not in NIR_TAKES]:
        raise InputError(f"{path}: leave out {', '.join(unfit)}")
    if profile is None and holds_program(path):
        given = [*given, *(["--steps"] if steps else []), *(["--nir-option"] if options else [])]
        if given:
            raise InputError(f"{path}: holds an integer program of snn2chip; leave out {', '.join(given)}")
        return fitted(import_nir_program(path), load_target(how["target"]))
    chosen = parsed_options(options)
    spec = spec_of(quant, weights=how["weights"], rounding=how["rounding"])
    how |= {key: getattr(spec, key) for key in ("weights", "overrides", "bias_correction", "rounding")}
    read = None if readout == "auto" else readout
    with sharing(shared):
        return compile_nir(path, profile=profile, options=chosen, steps=steps, read=read, data=data, **how)


def spec_of(quant: Path | None, *, weights: str, rounding: str) -> QuantSpec:
    """Widths and rounding of a TOML file and of the flags; InputError where they contradict each other."""
    import attrs

    from snn2chip.quantize.quant_file import read_quant
    from snn2chip.quantize.spec import QuantSpec

    if quant is None:
        return QuantSpec(weights=weights, rounding=rounding)
    spec = read_quant(quant)
    if weights not in ("keep", spec.weights):
        raise InputError(f"--weights {weights} and {quant} (weights = {spec.weights}) contradict each other")
    return spec if rounding == "nearest" else attrs.evolve(spec, rounding=rounding)


def from_checkpoint(
    path: Path,
    *,
    model: str | None,
    data: str | None,
    weights: str,
    quant: Path | None,
    rounding: str = "nearest",
    target: str,
    steps: int | None = None,
    input_range: tuple[float, float] | None = None,
    choices: Mapping[str, Any] | None = None,
    shared: Workers | None = None,
) -> Program:
    """A model checkpoint, or the state_dict of a named model, as a program."""
    from snn2chip.checkpoint_compile import compile_checkpoint
    from snn2chip.quantize.choices import Choices

    spec = spec_of(quant, weights=weights, rounding=rounding)
    with sharing(shared):
        return compile_checkpoint(
            path,
            model=model,
            data=data,
            weights=spec.weights,
            overrides=spec.overrides,
            bias_correction=spec.bias_correction,
            rounding=spec.rounding,
            target=target,
            steps=steps,
            input_range=input_range,
            choices=Choices(**dict(choices or {})),
        )
