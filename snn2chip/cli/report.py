"""`snn2chip report`: counts, costs and fidelity as tables, JSON, CSV and one page; or two programs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snn2chip.cli.artifacts import Artifacts, write_artifacts
from snn2chip.cli.feed import Count, DataName, Device, InputFile, StepsInInput
from snn2chip.cli.measured import SENSITIVITY, made
from snn2chip.cli.shard_options import Executor, PartialFolder, Scheduler, ShardSize, WorkerCount, finished, workers_of

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
Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--target", metavar="NAME|FILE.toml", help="Costs on this target; again for more. Default: both Loihis."
    ),
]
Models = Annotated[
    list[str] | None, typer.Option("--energy-model", metavar="NAME", help="Only this energy model; again for more.")
]

BESIDE = ".origin.json"
"""Behind the name of a CSV file, which has no place for it: where it comes from."""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("report", help="Counts, energy and time by model, accuracy, fidelity; two programs side by side.")(
        report
    )


def report(
    programs: Annotated[
        list[Path], typer.Argument(metavar="FILE.s2c", help="A compiled program; two of them with --compare.")
    ],
    data: DataName = None,
    input: InputFile = None,
    samples: Count = None,
    float_model: FloatModel = None,
    model: OwnModel = None,
    target: Targets = None,
    energy_model: Models = None,
    compare: Annotated[bool, typer.Option("--compare", help="Two programs, A.s2c B.s2c, side by side.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Only what every run counts: no detail, no costs.")] = False,
    json: Annotated[Path | None, typer.Option("--json", metavar="OUT.json", help="Write the report as JSON.")] = None,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="OUT.csv", help="Write a line per layer.")] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="OUT.html", help="Write one self-contained page with figures.")
    ] = None,
    neurobench: Annotated[
        Path | None, typer.Option("--neurobench", metavar="OUT.json", help="Write NeuroBench's figures.")
    ] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Samples per call in NeuroBench's sense.")] = 1,
    execution_rate: Annotated[
        float | None,
        typer.Option("--execution-rate", metavar="HZ", help="Rate of the model, stated in NeuroBench's file."),
    ] = None,
    sensitivity: Annotated[
        int | None,
        typer.Option(
            "--sensitivity",
            metavar="N",
            min=0,
            help="With --float: what each layer's bits matter, on N samples (default: 32 for --html, else none).",
        ),
    ] = None,
    board_power: Annotated[
        float | None,
        typer.Option("--board-power", metavar="W", min=0.0, help="Power of the board that runs the float model."),
    ] = None,
    artifacts: Artifacts = None,
    device: Device = None,
    steps_in_input: StepsInInput = False,
    workers: WorkerCount = None,
    executor: Executor = None,
    scheduler: Scheduler = None,
    shard: ShardSize = None,
    partial: PartialFolder = None,
) -> None:
    """Run the samples, print the tables, say what they assume."""
    from snn2chip.api import load
    from snn2chip.checkpoint_tensors import file_sha256
    from snn2chip.cli.screen import write_json
    from snn2chip.errors import InputError

    if len(programs) != (2 if compare else 1):
        raise InputError(
            f"{'--compare takes two programs, A.s2c B.s2c' if compare else 'one program; two with --compare'}"
            f", got {len(programs)}"
        )
    options: dict[str, Any] = {
        "data": data,
        "source": input,
        "samples": samples,
        "float_model": float_model,
        "model": model,
        "targets": target or [],
        "energy_models": energy_model or [],
        "quick": quick,
        "neurobench": batch if neurobench is not None or artifacts is not None else None,
        "execution_rate": execution_rate,
        "sensitivity": SENSITIVITY if sensitivity is None and (html or artifacts) else sensitivity or 0,
        "board_power": board_power,
        "device": device,
        "steps_in_input": steps_in_input,
        "shared": (shared := workers_of(workers, executor, scheduler, shard, partial, beside=json)),
    }
    of_one = (("--csv", csv), ("--neurobench", neurobench), ("--artifacts", artifacts))
    wanted = [name for name, value in of_one if compare and value is not None]
    if wanted:
        raise InputError(f"{', '.join(wanted)} is of one program; leave out --compare")
    if quick and (target or energy_model or html or artifacts or board_power is not None):
        raise InputError(
            "--quick counts only what every run counts; leave it out for --target, --energy-model, --html, --artifacts "
            "and --board-power"
        )
    if float_model is None and (sensitivity or board_power is not None):
        raise InputError("--sensitivity and --board-power speak about the float model; name it with --float CKPT")
    if html is not None:
        from snn2chip.reports.page import drawable

        drawable()  # before the samples run, not after
    if artifacts is not None:
        (path,) = programs
        found = [write_artifacts(artifacts, load(path), options=options, source=path)]
    else:
        found = [made(path, **options) for path in programs]
    files = [file for file in (json, csv, html, neurobench, artifacts) if file is not None]
    if compare:
        _compared(found[0], found[1], json=json, html=html, names=[path.name for path in programs])
    else:
        (one,) = found
        if json is not None:
            write_json(json, one.as_dict())
        if csv is not None:
            from snn2chip.reports.rows import write_csv

            write_csv(csv, one)
            write_json(beside := csv.with_name(csv.name + BESIDE), {"sha256": file_sha256(csv), **one.origin()})
            files.insert(files.index(csv) + 1, beside)
        if neurobench is not None:
            write_json(neurobench, {**(one.neurobench or {}), "origin": one.origin()})
        if html is not None:
            from snn2chip.ir.files import write_text

            write_text(html, one.html())
        show(one)
    finished(shared)
    for file in files:
        typer.echo(f"wrote {file}")


def show(found: Report) -> None:
    """Print tables, accuracies and assumptions."""
    show_tables(found)
    for name, value in found.accuracy.items():
        if value is not None:
            typer.echo(f"{name} accuracy {value:.4f}")


def tables(found: Report) -> list[Table]:
    """The counts, the costs if there are some, and the fidelity if a float model was given."""
    from snn2chip.reports.tables import cost_tables, counts_table, fidelity_table, outputs_table, versus_table

    drawn = [counts_table(found)]
    if found.costs is not None:
        drawn += cost_tables(found.costs)
    if found.fidelity is not None:
        drawn.append(fidelity_table(found.fidelity))
        if len(found.fidelity["outputs"]) > 1:
            drawn.append(outputs_table(found.fidelity))
    return drawn if found.versus is None else [*drawn, versus_table(found.versus)]


def show_tables(found: Report) -> None:
    """Print the tables and what they assume."""
    from snn2chip.cli.screen import console

    screen = console()
    for part in tables(found):
        screen.print(part)
    for line in found.assumptions:
        typer.echo(f"assumes: {line}")
    for line in () if found.versus is None else found.versus.notes:
        typer.echo(f"note: {line}")
    if found.costs is not None:
        for line in found.costs.caveats:
            typer.echo(f"caveat: {line}")
        for target in found.costs.targets:
            typer.echo(f"{target.name}: {target.floor}; {target.traffic.note}")
            if target.refused:
                more = f" (first of {len(target.refused)} reasons)" if len(target.refused) > 1 else ""
                typer.echo(f"{target.name} cannot run this program as it is{more}: {target.refused[0]}")


def _compared(a: Report, b: Report, *, json: Path | None, html: Path | None, names: list[str]) -> None:
    from snn2chip.cli.screen import table, write_json
    from snn2chip.reports.rows import comparison, shown, side_by_side

    cells = [
        (row["figure"], shown(row["a"], row["unit"]), shown(row["b"], row["unit"]),
         "-" if row["ratio"] is None else f"{row['ratio']:.3g}")
        for row in side_by_side(a, b)
    ]  # fmt: skip
    table(f"{a.samples} samples", ("figure", *(f"{x}: {n}" for x, n in zip("AB", names, strict=True)), "B / A"), cells,
          numbers=True)  # fmt: skip
    if a.costs is not None:
        for line in a.costs.caveats:
            typer.echo(f"caveat: {line}")
    if json is not None:
        write_json(json, comparison(a, b))
    if html is not None:
        from snn2chip.ir.files import write_text
        from snn2chip.reports.page import comparison_page

        write_text(html, comparison_page(a, b, names))
