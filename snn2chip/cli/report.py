"""`snn2chip report`: counts per layer and per sample, accuracy, and fidelity to a float checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from snn2chip.cli.feed import Count, DataName, Device, InputFile, StepsInInput, make_feed

if TYPE_CHECKING:
    from rich.table import Table

    from snn2chip.reports.report import Report

FloatModel = Annotated[
    Path | None,
    typer.Option("--float", metavar="CKPT", help="The trained float model: adds its accuracy and the agreement."),
]
OwnModel = Annotated[
    str | None, typer.Option("--model", metavar="NAME|module:function", help="The model whose weights CKPT holds.")
]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("report", help="Spikes, synaptic events, neuron updates, accuracy, and fidelity to a float model.")(
        report
    )


def report(
    program: Annotated[Path, typer.Argument(metavar="FILE.s2c", help="A compiled program.")],
    data: DataName = None,
    input: InputFile = None,
    samples: Count = None,
    float_model: FloatModel = None,
    model: OwnModel = None,
    json: Annotated[Path | None, typer.Option("--json", metavar="OUT.json", help="Write the report as JSON.")] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="OUT.html", help="Write the tables as one self-contained page.")
    ] = None,
    device: Device = None,
    steps_in_input: StepsInInput = False,
) -> None:
    """Run the samples, print the tables, say what they assume."""
    from snn2chip.api import load
    from snn2chip.cli.screen import progress, write_json
    from snn2chip.reports.report import report as make_report

    loaded = load(program)
    feed = make_feed(loaded, data=data, path=input, samples=samples, steps_in_input=steps_in_input)
    graph = predict = None
    if float_model is not None:
        from snn2chip.checks.float_side import float_side

        graph, predict = float_side(float_model, model=model, data=data, time_axis=feed.time_axis)
    inputs, labels = next(iter(feed.blocks(feed.samples.total)))
    with progress("report", feed.samples.total) as advance:
        done = [0]

        def moved(now: int, total: int) -> None:
            advance(now - done[0])
            done[0] = now

        found = make_report(
            loaded,
            inputs,
            labels=labels,
            float_graph=graph,
            float_model=predict,
            time_axis=feed.time_axis,
            device=device,
            progress=moved,
        )
    if json is not None:
        write_json(json, found.as_dict())
    if html is not None:
        write_html(html, found)
    show(found)
    for file in (json, html):
        if file is not None:
            typer.echo(f"wrote {file}")


def write_html(path: Path, found: Report) -> None:
    """Write tables, accuracies and assumptions as one HTML file that needs nothing else."""
    import io

    from rich.console import Console

    from snn2chip.ir.files import replacing

    screen = Console(record=True, width=130, file=io.StringIO(), highlight=False)
    for part in tables(found):
        screen.print(part)
    for name, value in found.accuracy.items():
        screen.print(f"{name} accuracy: {'unknown' if value is None else f'{value:.4f}'}")
    for line in found.assumptions:
        screen.print(f"assumes: {line}")
    with replacing(path) as part_file:
        screen.save_html(str(part_file), inline_styles=True)


def show(found: Report) -> None:
    """Print tables, accuracies and assumptions."""
    show_tables(found)
    for name, value in found.accuracy.items():
        if value is not None:
            typer.echo(f"{name} accuracy {value:.4f}")


def tables(found: Report) -> list[Table]:
    """The counts, and the fidelity if a float model was given."""
    from snn2chip.reports.tables import counts_table, fidelity_table

    drawn = [counts_table(found)]
    return drawn if found.fidelity is None else [*drawn, fidelity_table(found.fidelity)]


def show_tables(found: Report) -> None:
    """Print the tables and what they assume."""
    from snn2chip.cli.screen import console

    screen = console()
    for part in tables(found):
        screen.print(part)
    for line in found.assumptions:
        typer.echo(f"assumes: {line}")
