"""`snn2chip inspect`: what is in a program, a checkpoint or a weight file, without running anything of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("inspect", help="Show what is in a program (.s2c) or in weights (.pt, .safetensors).")(inspect)


def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .s2c, .pt or .safetensors file.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the content of a file."""
    from snn2chip.cli.screen import as_json, table
    from snn2chip.inspection import inspect_file

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
    else:
        if found["header"]:
            typer.echo(as_json(found["header"]))
        if "text" in found:
            typer.echo(found["text"].rstrip())
        rows = [[t["name"], str(t["shape"]), t["dtype"]] for t in found["tensors"]]
        table(f"{len(rows)} tensors, {found['parameters']:,} numbers", ("tensor", "shape", "type"), rows)
