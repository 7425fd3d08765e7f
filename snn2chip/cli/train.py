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
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", min=0, help="Another seed.")] = None,
    precision: Annotated[str | None, typer.Option("--precision", help="32, bf16-mixed or 16-mixed.")] = None,
    compiled: Annotated[bool | None, typer.Option("--compile/--no-compile", help="Use torch.compile.")] = None,
    device: Annotated[str, typer.Option("--device", help="cpu or cuda.")] = "cpu",
    devices: Annotated[int, typer.Option("--devices", metavar="N", help="Devices on each machine.")] = 1,
    nodes: Annotated[int, typer.Option("--nodes", metavar="N", help="Machines.")] = 1,
    strategy: Annotated[str, typer.Option("--strategy", help="How devices train together: auto, ddp, ...")] = "auto",
    workers: Annotated[int, typer.Option("--workers", metavar="N", help="Processes that prepare batches.")] = 0,
    logs: Annotated[
        Path | None, typer.Option("--logs", metavar="DIR", help="Write logs of the training there.")
    ] = None,
    logger: Annotated[str, typer.Option("--logger", help="Kind of logs: csv or tensorboard.")] = "csv",
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Go on where a killed run was, or start anew.")
    ] = True,
    minutes: Annotated[
        float | None, typer.Option("--save-minutes", metavar="M", help="Also save the state every M minutes.")
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="List the recipes and leave.")] = False,
) -> None:
    """Train and save."""
    from snn2chip.train import load_recipe, recipe_names

    if show:
        show_recipes()
        return
    if recipe is None:
        raise InputError(f"say which recipe: {', '.join(recipe_names())}, or a .toml file (train --list tells more)")
    if out is None:
        raise InputError("say where the checkpoint goes: -o CKPT")
    from snn2chip.train import train_recipe
    from snn2chip.train.options import RunOptions

    options = RunOptions(
        device=device,
        devices=devices,
        nodes=nodes,
        strategy=strategy,
        workers=workers,
        logger=logger,
        resume=resume,
        save_minutes=minutes,
    )
    done = train_recipe(
        load_recipe(recipe),
        out=out,
        data=data,
        epochs=epochs,
        seed=seed,
        precision=precision,
        compile=compiled,
        device=device,
        logs=logs,
        options=options,
    )
    samples = done.header.metrics["test_samples"]
    typer.echo(f"test accuracy {done.accuracy:.4f} ({samples:,} samples), {done.seconds:.1f} s")
    typer.echo(f"wrote {done.path}")


def show_recipes() -> None:
    """Print the table of recipes."""
    from snn2chip.cli.screen import table
    from snn2chip.train import load_recipe, recipe_names

    found = [load_recipe(name) for name in recipe_names()]
    rows = [[r.name, r.data, str(r.epochs), r.title] for r in found]
    table("", ("recipe", "data", "epochs", "what it trains"), rows)
