"""`snn2chip convert`: a trained ordinary network into a spiking one by rule, or somebody else's weights into ours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snn2chip.errors import InputError

if TYPE_CHECKING:
    from snn2chip.convert.files import Converted

INPUT_KEYS = ("scale", "mean", "std")


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "convert", help="Convert a trained network into a spiking checkpoint, or import somebody else's weights."
    )(convert)


def convert(
    source: Annotated[
        Path,
        typer.Argument(metavar="CKPT", help="A checkpoint, X.onnx, a state_dict of --model, or a file of --layout."),
    ],
    out: Annotated[Path, typer.Option("--output", "-o", metavar="CKPT2", help="Where the checkpoint goes.")],
    method: Annotated[
        str | None, typer.Option("--method", help="parallel, qcfs, ic-snn, hybrid, serialise or collapse.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", metavar="T", min=1, help="Steps of the result.")] = None,
    levels: Annotated[
        int | None, typer.Option("--levels", metavar="L", min=1, help="Levels of a neuron (qcfs, hybrid).")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="NAME", help="Another data set than the checkpoint's own.")
    ] = None,
    samples: Annotated[
        int | None, typer.Option("--samples", metavar="N", min=1, help="Training samples to calibrate on.")
    ] = None,
    quantile: Annotated[
        float | None, typer.Option("--quantile", metavar="P", help="Thresholds of ReLU: 0 < P <= 1 (1: the maximum).")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            metavar="KEY=VALUE",
            help="Of the method or the imported model; scale, mean, std of raw samples.",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME|module:function", help="The model whose weights CKPT holds.")
    ] = None,
    test_samples: Annotated[
        int, typer.Option("--test-samples", metavar="N", min=0, help="First N test samples to measure on; 0: none.")
    ] = 1000,
    device: Annotated[str, typer.Option("--device", help="Where to calibrate and measure: cpu or cuda.")] = "cpu",
    layout: Annotated[
        str | None, typer.Option("--layout", help="Import a file of others: lm-ht, qcfs or torchvision.")
    ] = None,
) -> None:
    """Convert and save, or import and save."""
    texts = list(option or [])
    if layout is not None:
        unfit = {"--method": method, "--steps": steps, "--samples": samples, "--quantile": quantile}
        if bad := [name for name, value in unfit.items() if value is not None]:
            raise InputError(f"--layout imports weights as they are; leave out {', '.join(bad)}")
        imported(source, out, layout=layout, model=model, levels=levels, data=data, texts=texts)
        return
    if method is None:
        raise InputError("say how to convert: --method parallel | qcfs | ic-snn | hybrid | serialise | collapse")
    texts += [f"{key}={value}" for key, value in (("levels", levels), ("quantile", quantile)) if value is not None]
    how = {"model": model, "data": data, "samples": samples, "test_samples": test_samples, "device": device}
    show(converted(source, out, method=method, steps=steps, texts=texts, **how))
    typer.echo(f"wrote {out}")


def converted(source: Path, out: Path, *, method: str, steps: int | None, texts: list[str], **how: Any) -> Converted:
    """Convert a file; `texts` are options KEY=VALUE of the method, and scale, mean, std of raw samples."""
    from snn2chip.convert.files import convert_checkpoint
    from snn2chip.convert.options import check_method, parse_options

    check_method(method, steps)
    normal = _values([text for text in texts if text.partition("=")[0] in INPUT_KEYS])
    options = parse_options(method, [text for text in texts if text.partition("=")[0] not in INPUT_KEYS])
    return convert_checkpoint(source, out=out, method=method, steps=steps, options=options, normal=normal, **how)


def imported(
    source: Path, out: Path, *, layout: str, model: str | None, levels: int | None, data: str | None, texts: list[str]
) -> None:
    """Write somebody else's weights as a checkpoint of ours."""
    if model is None:
        raise InputError("--layout needs the zoo model whose weights the file holds: --model NAME")
    import attrs

    from snn2chip.checkpoint import InputSpec, save_checkpoint
    from snn2chip.foreign import load_foreign
    from snn2chip.origin import origin

    given = _values(texts)
    normal = {key: given.pop(key) for key in INPUT_KEYS if key in given}
    if levels is not None:
        given["L"] = levels
    net, header = load_foreign(source, model=model, args=given, layout=layout)
    if normal:
        spec = InputSpec(shape=header.input.shape, time=header.input.time, **normal)
        header = attrs.evolve(header, input=spec)
    if data is not None:
        header = attrs.evolve(header, provenance={**header.provenance, "data": data})
    header = attrs.evolve(header, provenance={**header.provenance, "origin": origin(source)})
    save_checkpoint(out, net, header)
    typer.echo(f"{model}: {header.method}, T={header.T}, L={header.L}, {len(header.classes)} classes, from {layout}")
    typer.echo(f"wrote {out}")


def _values(texts: list[str]) -> dict[str, Any]:
    """Options of an import: JSON values, everything else as text."""
    import json

    found: dict[str, Any] = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign:
            raise InputError(f"option {text!r}: expected key=value")
        try:
            found[key] = json.loads(value)
        except (ValueError, RecursionError):
            found[key] = value
    return found


def show(done: Converted) -> None:
    """Print a row per layer, the accuracies and the notes."""
    from snn2chip.cli.screen import table

    rows = []
    for row in done.layers:
        low, high = (f"{v:.4g}" for v in row.theta)
        deviation = ["", "", ""]
        if row.mean is not None and row.bias is not None and row.error is not None:
            deviation = [f"{row.mean:.4g}", f"{row.bias:+.2g}", f"{row.error:.2g}"]
        theta = low if low == high else f"{low} .. {high}"
        rows.append([row.path or row.name, row.method, theta, str(row.levels), str(row.steps), *deviation])
    header = ("layer", "neuron", "theta", "levels", "steps", "mean |a|", "mean error", "mean |error|")
    table("", header, rows)
    for note in done.notes:
        typer.echo(f"note: {note}")
    if done.before is not None and done.after is not None:
        typer.echo(f"accuracy {done.before:.4f} before, {done.after:.4f} after ({done.samples:,} test samples)")
