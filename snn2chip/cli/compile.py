"""`snn2chip compile`: a trained network to an integer program; the kind of file decides the way."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from snn2chip.errors import InputError

if TYPE_CHECKING:
    from snn2chip.ir.program import Program


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("compile", help="Compile a trained network into an integer program.")(compile)


def compile(
    source: Annotated[Path, typer.Argument(metavar="X.net", help="A lava-dl network file.")],
    out: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.s2c", help="Where the program goes.")],
    steps: Annotated[int, typer.Option("--steps", metavar="T", min=1, help="Steps of one sample.")] = 32,
) -> None:
    """Compile and save."""
    if not source.is_file():
        raise InputError(f"{source}: no such file")
    if source.suffix != ".net":
        raise InputError(f"{source}: expected a lava-dl network file (.net), got {source.suffix or 'no ending'!r}")
    program = from_netx(source, steps=steps)
    program.save(out)
    neurons = sum(soma.size for soma in program.somas)
    typer.echo(f"{program.name}: {len(program.nodes)} nodes, {neurons:,} neurons, {program.steps} steps")
    typer.echo(f"wrote {out}")


def from_netx(path: Path, *, steps: int) -> Program:
    """A lava-dl `.net` file as a program."""
    from snn2chip.frontends.netx import import_netx

    return import_netx(path, steps=steps)
