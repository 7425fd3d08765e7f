"""`snn2chip demo`: the main job on one screen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from snn2chip.errors import MismatchError

if TYPE_CHECKING:
    from snn2chip.demo import Demo


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("demo", help="Train small networks, compile them, run them on every backend, compare.")(demo)


def demo(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where programs, traces and checkpoints go.")
    ] = Path("runs/demo"),
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed of the training.")] = 0,
) -> None:
    """Run the demo; leaves with 1 when backends differ."""
    from snn2chip.cli.screen import say
    from snn2chip.demo import run_demo

    result = run_demo(out, seed=seed, say=lambda text: say(f"- {text}"))
    show(result)
    if not result.equal:
        firsts = [run.result.first for run in result.runs if run.result is not None and not run.result.equal]
        raise MismatchError("\n".join(map(str, firsts)))


def show(result: Demo) -> None:
    """Print accuracies, equality, counts, files and times."""
    from snn2chip.cli.screen import counts_table, table

    for run in result.runs:
        assert run.counts is not None
        assert run.result is not None
        recipe, proof = run.recipe, run.result
        typer.echo(f"\n{recipe.name}: {recipe.steps} step(s) of {recipe.levels} levels per sample")
        typer.echo(f"  float accuracy    {run.float_accuracy:.4f}")
        typer.echo(f"  integer accuracy  {run.integer_accuracy:.4f}   same prediction {run.agreement:.4f}")
        verdict = "EQUAL" if proof.equal else "DIFFERENT"
        typer.echo(f"  {verdict} {' == '.join(proof.backends)}: {proof.compared:,} payloads and potentials compared")
        counts_table("per sample", run.counts)
    for name, reason in result.skipped.items():
        typer.echo(f"{name} skipped: {reason}")
    typer.echo("files:")
    for file in (file for run in result.runs for file in run.files):
        typer.echo(f"  {file}")
    seconds = {**result.seconds, "total": sum(result.seconds.values())}
    table("time", ("stage", "seconds"), [[name, f"{value:.1f}"] for name, value in seconds.items()], numbers=True)
