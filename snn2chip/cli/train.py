"""`snn2chip train`: a recipe to a model checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from snn2chip.errors import InputError


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("train", help="Train a recipe and write a model checkpoint.")(train)


def train(
    recipe: Annotated[
        str | None, typer.Argument(metavar="RECIPE", help="A recipe of the zoo by name, or a .toml file.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="CKPT", help="Where the checkpoint goes.")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="NAME", help="Another data set than the recipe's.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", metavar="N", min=1, help="Another number of epochs.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="cpu or cuda.")] = "cpu",
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", min=0, help="Another seed.")] = None,
    logs: Annotated[
        Path | None, typer.Option("--logs", metavar="DIR", help="Write CSV logs of the training there.")
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="List the recipes and leave.")] = False,
) -> None:
    """Train and save."""
    from snn2chip.train import load_recipe, recipe_names

    if show:
        from snn2chip.cli.screen import table

        found = [load_recipe(name) for name in recipe_names()]
        rows = [[r.name, r.data, str(r.epochs), r.title] for r in found]
        table("", ("recipe", "data", "epochs", "what it trains"), rows)
        return
    if recipe is None:
        raise InputError(f"say which recipe: {', '.join(recipe_names())}, or a .toml file (train --list tells more)")
    if out is None:
        raise InputError("say where the checkpoint goes: -o CKPT")
    from snn2chip.train import train_recipe

    done = train_recipe(load_recipe(recipe), out=out, data=data, epochs=epochs, device=device, seed=seed, logs=logs)
    samples = done.header.metrics["test_samples"]
    typer.echo(f"test accuracy {done.accuracy:.4f} ({samples:,} samples), {done.seconds:.1f} s")
    typer.echo(f"wrote {done.path}")
