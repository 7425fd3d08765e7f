"""A table of rows measured side by side: equality first, then warm-up, then alternated runs and medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table as RichTable

Outputs = NDArray[np.int64]


@attrs.frozen(kw_only=True)
class Row:
    """One way to compute the same integers: `run()` returns the outputs `[samples, classes]`."""

    name: str
    samples: int
    run: Callable[[], Outputs]


@attrs.frozen(kw_only=True)
class Measured:
    """Median, fastest and slowest seconds of one row; `ratio` is its samples/s over the baseline's."""

    name: str
    samples: int
    seconds: float
    fastest: float
    slowest: float
    ratio: float

    @property
    def rate(self) -> float:
        """Samples per second at the median."""
        return self.samples / self.seconds


@attrs.frozen(kw_only=True)
class Table:
    """Answer to one question; ratios are against the row called `baseline`."""

    title: str
    baseline: str
    rows: list[Measured]
    notes: dict[str, Any] = attrs.field(factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        rows = [{**attrs.asdict(row), "samples_per_second": row.rate} for row in self.rows]
        return {"title": self.title, "baseline": self.baseline, "rows": rows, "notes": self.notes}


def measure(title: str, rows: list[Row], *, repeats: int, notes: dict[str, Any] | None = None) -> Table:
    """Compare and time `rows`; the first one is the baseline. Raises AssertionError when two rows disagree.

    Every row runs once for the comparison (samples that two rows share must give equal outputs), once more as
    warm-up, then all rows take turns `repeats` times, so that a slower spell of the machine hits them alike.
    """
    expected = rows[0].run()
    for row in rows[1:]:
        got, shared = row.run(), min(row.samples, rows[0].samples)
        assert got.dtype == expected.dtype == np.int64, f"{row.name}: outputs must be int64"
        assert np.array_equal(got[:shared], expected[:shared]), f"{row.name} differs from {rows[0].name}"
    for row in rows:
        row.run()
    seconds: dict[str, list[float]] = {row.name: [] for row in rows}
    for _ in range(repeats):
        for row in rows:
            start = time.perf_counter()
            row.run()
            seconds[row.name].append(time.perf_counter() - start)
    base = statistics.median(seconds[rows[0].name]) / rows[0].samples
    measured = [
        Measured(
            name=row.name,
            samples=row.samples,
            seconds=(median := statistics.median(seconds[row.name])),
            fastest=min(seconds[row.name]),
            slowest=max(seconds[row.name]),
            ratio=base * row.samples / median,
        )
        for row in rows
    ]
    return Table(title=title, baseline=rows[0].name, rows=measured, notes=notes or {})


def print_tables(tables: list[Table], machine: dict[str, Any]) -> None:
    """Print everything for a reader."""
    console = Console(width=120)
    console.print(", ".join(f"{key} {value}" for key, value in machine.items()), highlight=False)
    for table in tables:
        shown = RichTable(title=f"{table.title} (equal outputs asserted)", title_justify="left")
        for column in ("row", "samples", "median ms", "fastest", "slowest", "samples/s", f"x {table.baseline}"):
            shown.add_column(column, justify="left" if column == "row" else "right", no_wrap=True)
        for row in table.rows:
            times = [f"{1e3 * value:.2f}" for value in (row.seconds, row.fastest, row.slowest)]
            shown.add_row(row.name, str(row.samples), *times, f"{row.rate:,.0f}", f"{row.ratio:.2f}")
        console.print(shown)
        for key, value in table.notes.items():
            console.print(f"  {key}: {value}", highlight=False)
