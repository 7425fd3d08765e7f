"""`snn2chip sensitivity`: which layer needs its bits, and how few bits will do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snn2chip.errors import InputError

if TYPE_CHECKING:
    from snn2chip.checks.sensitivity import Sensitivity
    from snn2chip.checks.sweep import Sweep

DEFAULT_SAMPLES = 256
BLOCK = 64
BITS = "8,4,2,1"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("sensitivity", help="Accuracy and agreement with one layer quantized at a time, or over weight bits.")(
        sensitivity
    )


def sensitivity(
    source: Annotated[Path, typer.Argument(metavar="CKPT", help="A checkpoint, or a state_dict with --model.")],
    bits: Annotated[
        str,
        typer.Option("--bits", metavar="8,4,ternary,1", help="Weight widths: 2..8, ternary, 1 (binary)."),
    ] = BITS,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="All layers together as integer programs: accuracy and size per width.")
    ] = False,
    layers: Annotated[
        str, typer.Option("--layers", metavar="PATTERN", help="Only layers whose name or path fits, as in conv3*.")
    ] = "*",
    rounding: Annotated[str, typer.Option("--rounding", help="With --sweep: nearest or fitted.")] = "nearest",
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="NAME", help="Data set: ranges from its training, figures from its test split."),
    ] = None,
    samples: Annotated[
        int, typer.Option("--samples", metavar="N", min=1, help="First N test samples.")
    ] = DEFAULT_SAMPLES,
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME|module:function", help="The model whose weights CKPT holds.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", metavar="T", min=1, help="Steps of one sample, where the model says none.")
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", metavar="OUT.json", help="Write the rows as JSON.")] = None,
) -> None:
    """Measure and print."""
    modes = modes_of(bits)
    if sweep and layers != "*":
        raise InputError("--sweep quantizes all layers together; leave out --layers, or leave out --sweep")
    if rounding != "nearest" and not sweep:
        raise InputError("--rounding goes with --sweep; one layer at a time is rounded to the nearest")
    if not source.is_file():
        raise InputError(f"{source}: no such file")
    if source.suffix in (".s2c", ".net"):
        raise InputError(f"{source}: holds integers already; name the checkpoint it was compiled from")
    import numpy as np

    from snn2chip.checkpoint_compile import checkpoint_graph
    from snn2chip.cli.screen import progress, write_json
    from snn2chip.data import open_data
    from snn2chip.origin import data_name, origin

    graph, found = checkpoint_graph(source, model=model, data=data, steps=steps)
    if found.spec is None:
        raise InputError(f"{source}: takes several inputs; this table is made for models of one")
    by_step = found.spec.time
    test = open_data(found.data, split="test", steps=graph.input.frames or graph.steps, by_step=by_step)
    arrays, labels = test.take(min(samples, test.total)).arrays()
    x, calibration = (np.moveaxis(v, 1, 0) if by_step else v for v in (arrays["x"], found.raw))
    count = x.shape[1] if by_step else len(x)
    head: dict[str, Any] = {"checkpoint": source.name, "data": data_name(found.data), "samples": count}
    if sweep:
        from snn2chip.checks.sweep import bits_sweep

        with progress(f"sweep {source.name}", (1 + len(modes)) * count) as advance:
            swept = bits_sweep(
                graph, calibration, x, modes=modes, labels=labels, rounding=rounding, time_axis=by_step,
                block=BLOCK, progress=advance,
            )  # fmt: skip
        show_sweep(source.name, swept)
        rows = {"rounding": rounding, "float_accuracy": swept.accuracy, "widths": [as_row(w) for w in swept.widths]}
    else:
        from snn2chip.checks import sensitivity as checks

        runs = len(modes) * (1 + len(checks.matching(graph, layers)))
        with progress(f"sensitivity {source.name}", runs * count) as advance:
            measured = checks.sensitivity(
                graph, x, modes=modes, layers=layers, labels=labels, time_axis=by_step, block=BLOCK, progress=advance
            )
        show_layers(source.name, count, measured)
        rows = {"rows": [as_row(row) for row in measured]}
    if json is not None:
        write_json(json, {**head, **rows, "origin": origin(source, found.data)})
        typer.echo(f"wrote {json}")


def modes_of(text: str) -> tuple[str, ...]:
    """`8,4,ternary,1` as weight modes; InputError names every word that is no width."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    known = {"1": "binary", "binary": "binary", "ternary": "ternary", **{str(n): f"int{n}" for n in range(2, 9)}}
    bad = [word for word in words if word not in known]
    if bad or not words:
        raise InputError(f"--bits {text!r}: widths are 2..8, ternary and 1, separated by commas")
    return tuple(dict.fromkeys(known[word] for word in words))


def as_row(row: Any) -> dict[str, Any]:
    """A row as plain values."""
    import attrs

    return attrs.asdict(row)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def show_layers(name: str, samples: int, rows: tuple[Sensitivity, ...]) -> None:
    """Print one row per layer and width, the most sensitive layer of a width first."""
    from snn2chip.cli.screen import table

    modes = list(dict.fromkeys(row.mode for row in rows))
    ordered = sorted(rows, key=lambda row: (modes.index(row.mode), row.spikes))
    cells = [
        (row.layer, row.mode, _share(row.accuracy), _share(row.agreement), _share(row.spikes), _share(row.lowest))
        for row in ordered
    ]
    columns = ("quantized alone", "weights", "accuracy", "agreement", "equal payloads", "lowest layer")
    table(f"{name}, {samples} samples", columns, cells, numbers=True, whole=(0,))


def show_sweep(name: str, found: Sweep) -> None:
    """Print one row per width, float first; what no program can be made for is said below."""
    from snn2chip.cli.screen import table

    cells = [("float", _share(found.accuracy), _share(1.0), "-")]
    cells += [
        (w.mode, _share(w.accuracy), _share(w.agreement), "-" if w.weight_bytes is None else f"{w.weight_bytes:,}")
        for w in found.widths
    ]
    columns = ("weights", "accuracy", "agreement", "weights, bytes")
    table(f"{name}, {found.samples} samples", columns, cells, numbers=True, whole=(0,))
    for width in found.widths:
        if width.refused:
            typer.echo(f"{width.mode}: no program: {width.refused}")
