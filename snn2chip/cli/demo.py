"""`snn2chip demo`: the main job on one screen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from snn2chip.demo import Demo


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("demo", help="Train a small network, compile it, run it on every backend, compare, report.")(demo)


def demo(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where program, trace, report and checkpoint go.")
    ] = Path("runs/demo"),
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed of the training.")] = 0,
) -> None:
    """Run the demo; leaves with 1 when backends differ."""
    from snn2chip.cli.screen import say
    from snn2chip.demo import run_demo

    result = run_demo(out, seed=seed, say=lambda text: say(f"- {text}"))
    show(result)
    result.result.raise_if_different()


def show(demo: Demo) -> None:
    """Print accuracies, equality, the report, files and times."""
    from snn2chip.cli.report import show_tables
    from snn2chip.cli.screen import table

    proof, found = demo.result, demo.report
    show_tables(found)
    typer.echo(f"\nfloat accuracy    {found.accuracy['float']:.4f}   ({found.samples} test samples)")
    typer.echo(f"integer accuracy  {found.accuracy['integer']:.4f}   ({demo.differing} predictions differ)")
    verdict = "EQUAL" if proof.equal else "DIFFERENT"
    typer.echo(f"{verdict} {' == '.join(proof.backends)}: {proof.compared:,} payloads and potentials compared")
    for name, reason in demo.skipped.items():
        typer.echo(f"{name} skipped: {reason}")
    typer.echo("\nfiles:")
    for file in demo.files:
        typer.echo(f"  {file}")
    seconds = {**demo.seconds, "total": sum(demo.seconds.values())}
    table("time", ("stage", "seconds"), [[name, f"{value:.1f}"] for name, value in seconds.items()], numbers=True)
