"""`snn2chip emit`: a program as a self-contained package of another framework."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snn2chip.cli.lava_options import LavaBatch, LavaLayout, lava_options
from snn2chip.errors import InputError

if TYPE_CHECKING:
    from snn2chip.golden import Golden
    from snn2chip.ir.program import Program


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("emit", help="Write a program as a package that runs with Lava alone.")(emit)


def emit(
    program: Annotated[Path, typer.Argument(metavar="FILE.s2c", help="A compiled program.")],
    out: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the package.")],
    to: Annotated[str, typer.Option("--to", help="Framework: lava.")] = "lava",
    lava_layout: LavaLayout = None,
    lava_batch: LavaBatch = None,
) -> None:
    """Write the package, with the program's golden samples if it holds any."""
    from snn2chip.golden import read_golden
    from snn2chip.ir import files
    from snn2chip.origin import reading

    if to != "lava":
        raise InputError(f"--to {to!r} is unknown; known: lava")
    from snn2chip_backends.lava import emit as emit_lava

    loaded, stored = files.read(program)
    golden = samples_first(*read_golden(program)) if stored else None
    with reading(program):
        folder = emit_lava(loaded, out, golden=golden, **lava_options(lava_layout, None, lava_batch))
    typer.echo(f"wrote {folder}" + (f" (layout {lava_layout})" if lava_layout else ""))
    typer.echo(f"run it: python {folder / 'run.py'} x.npz -o outputs.npz")


def samples_first(program: Program, golden: Golden) -> dict[str, Any]:
    """Golden samples as a package takes them: the batch first, also of inputs that hold every step."""
    import numpy as np

    stepped = {node.name for node in program.inputs if node.coding == "steps"}
    return {name: np.moveaxis(x, 1, 0) if name in stepped else x for name, x in golden.raw.items()}
