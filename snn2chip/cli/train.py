"""`snn2chip train`: a recipe to a model checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from snn2chip.errors import InputError

if TYPE_CHECKING:
    from snn2chip.train.recipe import Recipe


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
    init: Annotated[
        Path | None, typer.Option("--init", metavar="CKPT", help="Weights to start from, of the recipe's [init].")
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
    converts: Annotated[
        bool, typer.Option("--convert/--no-convert", help="Do the recipe's conversions after training.")
    ] = True,
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
        init=init,
        data=data,
        epochs=epochs,
        seed=seed,
        precision=precision,
        compile=compiled,
        device=device,
        logs=logs,
        options=options,
    )
    if not done.main:  # the first of several processes speaks
        return
    samples = done.header.metrics["test_samples"]
    typer.echo(f"test accuracy {done.accuracy:.4f} ({samples:,} samples), {done.seconds:.1f} s")
    typer.echo(f"wrote {done.path}")
    if converts:
        convert_trained(load_recipe(recipe), done.path, data=data, samples=int(samples))


def convert_trained(recipe: Recipe, path: Path, *, data: str | None, samples: int) -> None:
    """Do the conversions of a recipe; each checkpoint lies beside the source's, named by method and T."""
    from snn2chip.convert.files import convert_checkpoint
    from snn2chip.train.recipe import steps_of_conversion

    for entry in recipe.convert:
        method, given = entry["method"], dict(entry.get("options", {}))
        for steps in steps_of_conversion(entry):
            name = "-".join([path.stem, method, *(str(value) for value in given.values())])
            target = path.with_name(name + ("" if steps is None else f"-t{steps}") + path.suffix)
            made = convert_checkpoint(
                path, out=target, method=method, steps=steps, options=given, data=data, test_samples=samples
            )
            typer.echo(
                f"{method} T={steps or made.header.T}: test accuracy {made.after:.4f} ({made.samples:,} samples)"
            )
            typer.echo(f"wrote {made.path}")


def show_recipes() -> None:
    """Print the table of recipes; the last column is what the paper reports, in percent."""
    from snn2chip.cli.screen import table
    from snn2chip.train import load_recipe, recipe_names

    rows = [describe(load_recipe(name)) for name in recipe_names()]
    table("", ("recipe", "method", "model", "data", "T", "L", "paper %"), rows, whole=(0, 2, 3))


def describe(recipe: Recipe) -> list[str]:
    """Return the row of one recipe: name, method, model, data, T, L and the paper's accuracy."""
    from snn2chip.train.recipe import steps_of_conversion

    made = [str(t) for e in recipe.convert for t in steps_of_conversion(e) if t is not None]
    levels = recipe.args.get("L", dict(recipe.args.get("neuron_args", {})).get("levels"))
    figures = [f"T{t} {value}" for t, value in recipe.paper.get("steps", {}).items()]
    if len(figures) > 3:
        figures = [figures[0], "..", figures[-1]]
    if "ann" in recipe.paper:
        figures.insert(0, f"ANN {recipe.paper['ann']}")
    if "accuracy" in recipe.paper:
        figures.insert(0, str(recipe.paper["accuracy"]))
    return [
        recipe.name,
        " + ".join([recipe.method, *dict.fromkeys(e["method"] for e in recipe.convert)]),
        recipe.model,
        recipe.data,
        " ".join(dict.fromkeys(made)) or str(recipe.steps or 1),
        "" if levels is None else str(levels),
        " ".join(figures),
    ]
