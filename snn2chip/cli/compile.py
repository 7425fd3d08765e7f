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
    source: Annotated[
        Path, typer.Argument(metavar="CKPT", help="A model checkpoint, a state_dict, or a lava-dl X.net file.")
    ],
    out: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.s2c", help="Where the program goes.")],
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
    target: Annotated[str, typer.Option("--target", help="loihi2, loihi1 or ideal.")] = "loihi2",
    steps: Annotated[
        int | None, typer.Option("--steps", metavar="T", min=1, help="Steps of one sample of X.net (default: its own).")
    ] = None,
) -> None:
    """Compile and save."""
    if not source.is_file():
        raise InputError(f"{source}: no such file")
    if source.suffix == ".net":
        given = {
            "--model": model,
            "--data": data,
            "--weights": None if weights == "keep" else weights,
            "--quant": quant,
        }
        if unfit := [name for name, value in given.items() if value is not None]:
            raise InputError(f"{source}: a .net file holds integers already; leave out {', '.join(unfit)}")
        program = from_netx(source, steps=steps)
    else:
        if steps is not None:
            raise InputError("--steps is for X.net files; a model says its own T")
        program = from_checkpoint(source, model=model, data=data, weights=weights, quant=quant, target=target)
    program.save(out)
    neurons = sum(soma.size for soma in program.somas)
    typer.echo(f"{program.name}: {len(program.nodes)} nodes, {neurons:,} neurons, {program.steps} steps")
    for note in program.meta.get("notes", ()):
        typer.echo(f"note: {note}")
    typer.echo(f"wrote {out}")


def from_netx(path: Path, *, steps: int | None) -> Program:
    """A lava-dl `.net` file as a program."""
    from snn2chip.frontends.netx import import_netx

    return import_netx(path, steps=steps)


def from_checkpoint(
    path: Path, *, model: str | None, data: str | None, weights: str, quant: Path | None, target: str
) -> Program:
    """A model checkpoint, or the state_dict of a named model, as a program."""
    from snn2chip.checkpoint_compile import compile_checkpoint
    from snn2chip.quantize.quant_file import read_quant
    from snn2chip.quantize.spec import QuantSpec

    spec = QuantSpec(weights=weights) if quant is None else read_quant(quant)
    if quant is not None and weights not in ("keep", spec.weights):
        raise InputError(f"--weights {weights} and {quant} (weights = {spec.weights}) contradict each other")
    return compile_checkpoint(
        path, model=model, data=data, weights=spec.weights, overrides=spec.overrides, target=target
    )
