"""`snn2chip export`: a program, or a float network, as a file of another format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from snn2chip.cli.import_options import (
    ImportFlags,
    NetxIgnore,
    NetxInputShape,
    NetxNumbers,
    NirOptions,
    NirProfile,
    NumLayers,
)
from snn2chip.errors import InputError


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("export", help="Write a program or a trained network as a file of another format (NIR, NetX).")(export)


def export(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A program (.s2c), X.net, X.nir, or a checkpoint.")],
    to: Annotated[str, typer.Option("--to", metavar="nir|netx", help="The format.")],
    out: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where the file goes.")],
    nir_profile: NirProfile = None,
    nir_options: NirOptions = None,
    num_layers: NumLayers = None,
    netx_ignore: NetxIgnore = None,
    netx_numbers: NetxNumbers = "netx",
    netx_input_shape: NetxInputShape = None,
    steps: Annotated[
        int | None, typer.Option("--steps", metavar="T", min=1, help="Steps, where FILE says none.")
    ] = None,
) -> None:
    """Export and say what the format cannot hold."""
    from snn2chip.interop.formats import sink_named
    from snn2chip.origin import reading

    sink = sink_named(to)
    imports = ImportFlags(
        nir_profile=nir_profile,
        nir_options=nir_options,
        num_layers=num_layers,
        netx_ignore=netx_ignore,
        netx_numbers=netx_numbers,
        netx_input_shape=netx_input_shape,
    )
    network = _network(source, imports, steps)
    with reading(source):
        lost = sink.write(network, out)
    for text in lost:
        typer.echo(f"note: {text}")
    typer.echo(f"wrote {out} ({sink.what})")


def _network(source: Path, imports: ImportFlags, steps: int | None) -> Any:
    """The program or float graph of a file."""
    if not source.is_file():
        raise InputError(f"{source}: no such file")
    if found := imports.misplaced(source):
        raise InputError(f"{source}: {'; '.join(found)}")
    if source.suffix == ".s2c":
        from snn2chip.api import load

        return _of_steps(load(source), steps, source)
    if source.suffix == ".net":
        from snn2chip.frontends.netx import import_netx

        return import_netx(source, steps=steps, **imports.netx())
    if source.suffix == ".nir":
        from snn2chip.frontends.nir import import_nir
        from snn2chip.interop.nir_compile import holds_program, import_nir_program, parsed_options

        profile, chosen = imports.nir_profile, parsed_options(imports.nir_options)
        if profile is None and holds_program(source):
            if chosen:
                raise InputError(f"{source}: holds an integer program of snn2chip; leave out --nir-option")
            return _of_steps(import_nir_program(source), steps, source)
        return import_nir(source, profile=profile, steps=steps, options=chosen)
    from snn2chip.checkpoint_compile import checkpoint_graph

    return checkpoint_graph(source, steps=steps)[0]


def _of_steps(program: Any, steps: int | None, source: Path) -> Any:
    """The program as it is; InputError where another number of steps is asked for."""
    if steps not in (None, program.steps):
        raise InputError(f"{source}: is a program of {program.steps} steps; --steps {steps} cannot change it")
    return program
