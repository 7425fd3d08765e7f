"""`snn2chip map`: a program on the cores of a chip; tables per layer and per core, and how far messages go."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snn2chip.cli.feed import Count, DataName, Device, InputFile, StepsInInput, file_of, make_feed
from snn2chip.errors import InputError

if TYPE_CHECKING:
    from snn2chip.ir.program import Program
    from snn2chip.mapping.assign import Mapping

DEFAULT_SAMPLES = 16


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("map", help="Cut a program into the cores of a chip and place them on its mesh.")(map_)


def map_(
    program: Annotated[Path, typer.Argument(metavar="FILE.s2c", help="A compiled program.")],
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="NAME|FILE.toml", help="loihi1, loihi2, ideal or a file (default: its own)."),
    ] = None,
    data: DataName = None,
    input: InputFile = None,
    samples: Count = None,
    out: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT.s2c", help="Write the program with its placement.")
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", metavar="OUT.json", help="Write the tables as JSON.")] = None,
    chips: Annotated[int | None, typer.Option("--chips", min=1, metavar="N", help="At most N chips.")] = None,
    encoding: Annotated[
        str | None, typer.Option("--encoding", help="Only this encoding of synapse lists (default: the smallest).")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the placement.")] = 0,
    device: Device = None,
    steps_in_input: StepsInInput = False,
) -> None:
    """Map the program; with --data or --input messages are those of a run, else every neuron spikes at every step."""
    import attrs

    from snn2chip.api import load
    from snn2chip.cli.screen import write_json
    from snn2chip.data.feed import READ
    from snn2chip.ir.files import read
    from snn2chip.mapping.assign import map_program
    from snn2chip.mapping.savings import savings
    from snn2chip.mapping.tables import as_dict
    from snn2chip.mapping.target_file import target_names
    from snn2chip.mapping.traffic import rates_of_blocks
    from snn2chip.origin import data_name, origin, origin_of

    loaded = load(program)
    rates, name, feed = None, "uniform", None
    if data is not None or input is not None:
        feed = make_feed(
            loaded,
            data=data,
            path=input,
            samples=samples,
            default_samples=DEFAULT_SAMPLES,
            steps_in_input=steps_in_input,
        )
        blocks = (inputs for inputs, _ in feed.blocks(READ))
        rates = rates_of_blocks(loaded, blocks, time_axis=feed.time_axis, device=device)
        name = f"measured over {feed.samples.total} samples of {data_name(feed.samples.name)}"
    elif samples is not None or steps_in_input:
        raise InputError("--samples and --steps-in-input speak about the samples of --data or --input")
    found = map_program(
        loaded, target or loaded.target, rates=rates, traffic_name=name, chips=chips, encoding=encoding, seed=seed
    )
    chip = None if target is None or target in target_names() else target
    files = (program, file_of(feed, input), chip)
    if out is not None:
        placed = found.attached()
        placed = attrs.evolve(placed, meta={**placed.meta, "mapped": origin(*files)})
        _write(out, placed, read(program)[1])
    if json is not None:
        write_json(json, {**as_dict(found), "origin": origin_of(loaded, *files)})
    show(found)
    for saving in savings(found):
        typer.echo(f"offered: {saving}")
    for file in (out, json):
        if file is not None:
            typer.echo(f"wrote {file}")


def _write(path: Path, program: Program, golden: dict[str, Any]) -> None:
    """Write the program with the golden vectors that it came with."""
    from snn2chip.ir.files import write

    write(path, program, golden=golden or None)


def show(found: Mapping) -> None:
    """Print the tables, the costs and what they assume."""
    from snn2chip.cli.screen import table
    from snn2chip.mapping.tables import ASSUMPTIONS, core_rows, gains, layer_rows

    layers, cores = layer_rows(found), core_rows(found)
    title = f"{found.program.name} on {found.target.title}: {found.partition.cores} cores, {found.chips.count} chip(s)"
    heads = ("neurons", "syn. bytes", "state", "axons in", "slots out", "binding", "full")
    table(
        title,
        ("soma", "cores", "cut", *heads),
        [[row["soma"], str(row["cores"]), "x".join(map(str, row["parts"])), *_cells(row)] for row in layers],
        numbers=True,
    )
    table(
        "per core",
        ("core", "chip", "x,y", "soma", *heads),
        [[str(row["core"]), str(row["chip"]), "{},{}".format(*row["xy"]), row["soma"], *_cells(row)] for row in cores],
        numbers=True,
    )
    table(
        f"messages per sample, {found.traffic}",
        ("order", "messages", "hops", "within a tile", "off chip", "busiest link"),
        [
            [
                label,
                *(f"{n:,.0f}" for n in (c.messages, c.hops, c.same_tile, c.off_chip, c.busiest_link)),
            ]
            for label, c in (("placed", found.cost), ("row-major", found.row_major), ("random", found.random))
        ],
        numbers=True,
    )
    saved = gains(found)
    typer.echo(f"hops saved: {saved['random']:.1%} of random, {saved['row_major']:.1%} of row-major order")
    typer.echo(f"messages from the inputs: {found.input_messages:,.0f} per sample")
    for line in ASSUMPTIONS:
        typer.echo(f"assumes: {line}")


def _cells(row: dict[str, Any]) -> list[str]:
    numbers = (row[key] for key in ("neurons", "synapse bytes", "state bytes", "input axons", "output slots"))
    return [*(f"{n:,}" for n in numbers), row["binding"], f"{row['share']:.0%}"]
