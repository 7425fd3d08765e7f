"""What the verbs print: results on stdout, progress on stderr and only on a terminal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from snn2chip.reports.counts import Counts

PIPE_WIDTH = 120


def console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal, or 120 columns in a pipe."""
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, width=PIPE_WIDTH)


def say(text: str) -> None:
    """A line for the reader on stderr."""
    typer.echo(text, err=True)


@contextmanager
def progress(text: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr that `advance(n)` moves; silent when stderr is not a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    out = console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=out, disable=not out.is_terminal, transient=True) as bar:
        task = bar.add_task(text, total=total)
        yield lambda n: bar.advance(task, n)


def table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numbers: bool = False,
    whole: Sequence[int] = (),
) -> None:
    """Print a table; with `numbers` the columns after the first are right-aligned; columns `whole` never break."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for i, name in enumerate(columns):
        drawn.add_column(name, justify="right" if i and numbers else "left", overflow="fold", no_wrap=i in whole)
    for row in rows:
        drawn.add_row(*(Text(cell) for cell in row))
    console().print(drawn)


def counts_table(title: str, counts: Counts) -> None:
    """Print spikes and events per sample, for inputs, somas and synapses."""
    n = counts.samples
    rows = [
        [name, f"{row['neurons']:,}", f"{row['spikes'] / n:,.1f}", f"{row['payload_sum'] / n:,.1f}", "", ""]
        for name, row in counts.sources.items()
    ]
    rows += [
        [name, "", "", "", f"{row['synaptic_events'] / n:,.1f}", f"{row['payload_weighted_events'] / n:,.1f}"]
        for name, row in counts.synapses.items()
    ]
    table(
        title, ("node", "neurons", "spikes", "payload sum", "synaptic events", "events x payload"), rows, numbers=True
    )


def as_json(value: Mapping[str, Any]) -> str:
    """JSON text with NumPy numbers as plain ones and without NaN."""
    return json.dumps(value, indent=2, default=lambda x: x.item() if hasattr(x, "item") else str(x), allow_nan=False)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON beside the target and rename it."""
    from snn2chip.ir.files import write_text

    write_text(path, as_json(value) + "\n")
