"""`snn2chip export`: a program, or a float network, as a file of another format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("export", help="Write a program or a trained network as a file of another format (NIR, NetX).")(export)


def export(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A program (.s2c), X.net, X.nir, or a checkpoint.")],
    to: Annotated[str, typer.Option("--to", metavar="nir|netx", help="The format.")],
    out: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where the file goes.")],
    nir_profile: Annotated[
        str | None, typer.Option("--nir-profile", metavar="NAME", help="The framework that wrote X.nir.")
    ] = None,
    nir_options: Annotated[
        list[str] | None,
        typer.Option("--nir-option", metavar="KEY=VALUE", help="One convention of the profile otherwise; repeatable."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", metavar="T", min=1, help="Steps, where FILE says none.")
    ] = None,
) -> None:
    """Export and say what the format cannot hold."""
    from snn2chip.interop.formats import sink_named
    from snn2chip.origin import reading

    sink = sink_named(to)
    network = _network(source, nir_profile, nir_options, steps)
    with reading(source):
        lost = sink.write(network, out)
    for text in lost:
        typer.echo(f"note: {text}")
    typer.echo(f"wrote {out} ({sink.what})")


def _network(source: Path, profile: str | None, options: list[str] | None, steps: int | None) -> Any:
    """The program or float graph of a file."""
    from snn2chip.errors import InputError

    if not source.is_file():
        raise InputError(f"{source}: no such file")
    if profile is not None and source.suffix != ".nir":
        raise InputError(f"{source}: --nir-profile {profile} is for X.nir files; leave it out")
    if options and source.suffix != ".nir":
        raise InputError(f"{source}: --nir-option {options[0]} is for X.nir files; leave it out")
    if source.suffix == ".s2c":
        from snn2chip.api import load

        return _of_steps(load(source), steps, source)
    if source.suffix == ".net":
        from snn2chip.frontends.netx import import_netx

        return import_netx(source, steps=steps)
    if source.suffix == ".nir":
        from snn2chip.frontends.nir import import_nir
        from snn2chip.interop.nir_compile import holds_program, import_nir_program, parsed_options

        chosen = parsed_options(options)
        if profile is None and holds_program(source):
            if chosen:
                raise InputError(f"{source}: holds an integer program of snn2chip; leave out --nir-option")
            return _of_steps(import_nir_program(source), steps, source)
        return import_nir(source, profile=profile, steps=steps, options=chosen)
    from snn2chip.checkpoint_compile import checkpoint_graph

    return checkpoint_graph(source, steps=steps)[0]


def _of_steps(program: Any, steps: int | None, source: Path) -> Any:
    """The program as it is; InputError where another number of steps is asked for."""
    from snn2chip.errors import InputError

    if steps not in (None, program.steps):
        raise InputError(f"{source}: is a program of {program.steps} steps; --steps {steps} cannot change it")
    return program
