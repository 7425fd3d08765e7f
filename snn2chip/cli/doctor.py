"""`snn2chip doctor`: what this machine offers."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("doctor", help="Versions, backends available or why not, devices, data sets.")(doctor)


def doctor(json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Look at this machine and print what is there."""
    from snn2chip.cli.screen import as_json, table
    from snn2chip.doctor import examine

    found = examine()
    if json:
        typer.echo(as_json(found.as_dict()))
        return
    table("versions", ("package", "version"), [[k, v or "not installed"] for k, v in found.versions.items()])
    table("backends", ("backend", "state"), [[k, why or "available"] for k, why in found.backends.items()])
    table("devices", ("device", "what"), [[d["name"], d["what"]] for d in found.devices])
    table("data", ("data set", "where"), [[k, str(v["path"] or v["hint"])] for k, v in found.data.items()])
