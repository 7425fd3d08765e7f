"""Options that say which samples, `--data` and `--input`; what they open is `snn2chip.data.feed`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from snn2chip.data.feed import Feed
    from snn2chip.ir.program import Program

DataName = Annotated[
    str | None,
    typer.Option(
        "--data", help="Data set by name (its test split): digits, mnist, cifar10, nmnist, ...", metavar="NAME"
    ),
]
InputFile = Annotated[
    Path | None,
    typer.Option("--input", help="Raw samples: x [N, ...], optionally labels y [N].", metavar="X.npz"),
]
Count = Annotated[int | None, typer.Option("--samples", help="Only the first N samples.", metavar="N", min=1)]
StepsInInput = Annotated[bool, typer.Option("--steps-in-input", help="x in X.npz holds every step: [N, T, ...].")]
Device = Annotated[str | None, typer.Option("--device", help="Device of the torch backend: cpu or cuda.")]


def make_feed(program: Program, *, data: str | None, path: Path | None, **how: Any) -> Feed:
    """`snn2chip.data.feed.make_feed`, loaded when it is called."""
    from snn2chip.data import feed

    return feed.make_feed(program, data=data, path=path, **how)


def file_of(feed: Feed | None, path: Path | None = None) -> str | None:
    """The file that samples came from: `path` (--input) or an X.npz by name; None for a data set."""
    if path is not None or feed is None:
        return None if path is None else str(path)
    return feed.samples.name if feed.samples.name.endswith(".npz") else None
