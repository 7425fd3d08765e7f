"""`snn2chip inspect`: what is in a program, a checkpoint or a weight file, without running anything of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "inspect",
        help="Show what is in a program (.s2c), in weights (.pt, .safetensors), in X.onnx, X.nir or X.net.",
    )(inspect)


def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .s2c, .pt, .safetensors, .onnx, .nir or .net file.")],
    soma: Annotated[
        str | None, typer.Argument(metavar="[SOMA]", help="With --micro: this soma only.", show_default=False)
    ] = None,
    micro: Annotated[
        bool, typer.Option("--micro", help="Neuron programs: add, multiply, shift, compare and select steps.")
    ] = False,
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="T", help="With --micro: the chip (default: the program's), or FILE.toml."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the content of a file."""
    from snn2chip.cli.screen import as_json, table
    from snn2chip.errors import InputError
    from snn2chip.inspection import inspect_file

    if micro:
        typer.echo(neuron_programs(file, soma, target, as_text=not json))
        return
    if soma is not None or target is not None:
        raise InputError("a soma and --target go with --micro")
    found = inspect_file(file)
    if json:
        typer.echo(as_json(found))
    elif found["kind"] == "program":
        typer.echo(found["text"].rstrip())
        for key in ("name", "digest", "neurons", "synapses", "latency"):
            typer.echo(f"{key}: {found[key]}")
        typer.echo(f"ranges: {found['proofs']}")
        for name, row in found["ranges"].items():
            shown = ", ".join(f"{key} {row[key][0]}..{row[key][1]}" for key in ("current", "potential", "payload"))
            typer.echo(f"  {name}: {row['status']}; {shown}")
        golden = found["golden"]
        typer.echo("golden: " + (f"{golden['samples']} samples of {golden['backend']}" if golden else "none"))
    elif found["kind"] in ("network", "nir"):
        typer.echo(found["text"].rstrip())
        for line in found["notes"]:
            typer.echo(f"note: {line}")
    else:
        if found["header"]:
            typer.echo(as_json(found["header"]))
        if "text" in found:
            typer.echo(found["text"].rstrip())
        rows = [[t["name"], str(t["shape"]), t["dtype"]] for t in found["tensors"]]
        table(f"{len(rows)} tensors, {found['parameters']:,} numbers", ("tensor", "shape", "type"), rows)


def neuron_programs(file: Path, soma: str | None, target: str | None, *, as_text: bool) -> str:
    """The listings of a program file, as text or JSON."""
    from snn2chip.api import load
    from snn2chip.cli.screen import as_json
    from snn2chip.mapping.target_file import load_target
    from snn2chip.micro.text import micro_rows, micro_text

    program = load(file)
    chip = load_target(target or program.target)
    if as_text:
        return micro_text(program, chip, only=soma).rstrip()
    return as_json({"target": chip.name, "somas": micro_rows(program, chip, only=soma)})
