"""A table of rows measured side by side: equality first, then warm-up, then alternated runs and medians.

Every answer says on its own what was asserted equal before anything was timed (`asserted`), how often and in which
order it ran (`repeated`), and which packages had a part in it (`packages`).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

Outputs = NDArray[np.int64]


@attrs.frozen(kw_only=True)
class Row:
    """One way to compute the same integers: `run()` returns the outputs `[samples, classes]`.

    `compared=False`: a row with nothing to compare (a float network, one update of a training); what it returns is
    not looked at, and the question asserts on its own what can be asserted. `clock`: the seconds that the last run
    says it took, where its start-up is no part of the question. `peak`: megabytes at most of a row whose work is done
    in processes of its own (see `benchmarks.peak`).
    """

    name: str
    samples: int
    run: Callable[[], Any]
    compared: bool = True
    clock: Callable[[], float] | None = None
    peak: Callable[[], float] | None = None


@attrs.frozen(kw_only=True)
class Measured:
    """Median, fastest and slowest seconds of one row; `ratio` is its samples/s over the baseline's.

    `peak_mb`: megabytes at most, None where nobody asked.
    """

    name: str
    samples: int
    seconds: float
    fastest: float
    slowest: float
    ratio: float
    peak_mb: float | None = None

    @property
    def rate(self) -> float:
        """Samples per second at the median."""
        return self.samples / self.seconds


@attrs.frozen(kw_only=True)
class Bar:
    """What a figure has to reach: `value <= limit`, or `value >= limit` with `at_least`."""

    name: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether it does."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def as_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {**attrs.asdict(self), "met": self.met}


@attrs.frozen(kw_only=True)
class Table:
    """Answer to one question; ratios are against the row called `baseline`."""

    title: str
    baseline: str
    rows: list[Measured]
    notes: dict[str, Any] = attrs.field(factory=dict)
    bars: list[Bar] = attrs.field(factory=list)
    asserted: str = ""
    repeated: str = ""
    packages: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Measured:
        """The row called `name`."""
        return next(row for row in self.rows if row.name == name)

    def slowdown(self, name: str, other: str) -> float:
        """Seconds per sample of row `name` over those of row `other`."""
        return self[other].rate / self[name].rate

    def with_bars(self, *bars: Bar) -> Table:
        """The same table with these bars too."""
        return attrs.evolve(self, bars=[*self.bars, *bars])

    def with_peaks(self, peaks: dict[str, float]) -> Table:
        """The same table with megabytes of the rows that are named."""
        rows = [attrs.evolve(row, peak_mb=peaks.get(row.name, row.peak_mb)) for row in self.rows]
        return attrs.evolve(self, rows=rows)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        rows = [{**attrs.asdict(row), "samples_per_second": row.rate} for row in self.rows]
        return {
            "title": self.title,
            "baseline": self.baseline,
            "rows": rows,
            "notes": self.notes,
            "bars": [bar.as_dict() for bar in self.bars],
            "asserted": self.asserted,
            "repeated": self.repeated,
            "packages": list(self.packages),
        }


@attrs.frozen(kw_only=True)
class Figures:
    """Answer to a question about other things than seconds side by side: peaks, slopes, shares of a rate."""

    title: str
    columns: list[str]
    rows: list[list[Any]]
    asserted: str
    repeated: str
    packages: tuple[str, ...] = ()
    notes: dict[str, Any] = attrs.field(factory=dict)
    bars: list[Bar] = attrs.field(factory=list)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        plain = attrs.asdict(self, recurse=False)
        return {**plain, "packages": list(self.packages), "bars": [bar.as_dict() for bar in self.bars]}


class RowsOnly(Exception):
    """Rows of a question that was asked for nothing else."""

    def __init__(self, rows: list[Row]) -> None:
        super().__init__(f"{len(rows)} rows")
        self.rows = rows


_ROWS_ONLY = [False]


@contextmanager
def rows_only() -> Iterator[None]:
    """In this block `measure` raises RowsOnly with its rows instead of running any."""
    _ROWS_ONLY[0] = True
    try:
        yield
    finally:
        _ROWS_ONLY[0] = False


def measure(
    title: str,
    rows: list[Row],
    *,
    repeats: int,
    notes: dict[str, Any] | None = None,
    check: Callable[[], str] | None = None,
    packages: tuple[str, ...] = (),
) -> Table:
    """Compare and time `rows`; the first one is the baseline. Raises AssertionError when two rows disagree.

    `check` asserts what the rows' outputs do not show, and returns it in words. Then every row runs once for the
    comparison (samples that two rows share must give equal outputs), once more as warm-up, then all rows take turns
    `repeats` times, so that a slower spell of the machine hits them alike.
    """
    if _ROWS_ONLY[0]:
        raise RowsOnly(rows)
    told = [check()] if check is not None else []
    told += compared(rows)
    for row in rows:
        row.run()
    seconds: dict[str, list[float]] = {row.name: [] for row in rows}
    for _ in range(repeats):
        for row in rows:
            start = time.perf_counter()
            row.run()
            passed = time.perf_counter() - start
            seconds[row.name].append(passed if row.clock is None else row.clock())
    base = statistics.median(seconds[rows[0].name]) / rows[0].samples
    measured = [
        Measured(
            name=row.name,
            samples=row.samples,
            seconds=(median := statistics.median(seconds[row.name])),
            fastest=min(seconds[row.name]),
            slowest=max(seconds[row.name]),
            ratio=base * row.samples / median,
            peak_mb=None if row.peak is None else row.peak(),
        )
        for row in rows
    ]
    return Table(
        title=title,
        baseline=rows[0].name,
        rows=measured,
        notes=notes or {},
        asserted="; ".join(told) or "nothing",
        repeated=f"once to compare, once to warm up, then {repeats} rounds in which the rows take turns; median",
        packages=packages,
    )


def compared(rows: list[Row]) -> list[str]:
    """Run every row once and assert equal outputs where they share samples; says which rows, and which not."""
    first: Row | None = None
    expected: Outputs = np.zeros((0, 0), np.int64)
    equal: list[str] = []
    for row in rows:
        got = row.run()
        if not row.compared:
            continue
        if first is None:
            first, expected = row, got
        shared = min(row.samples, first.samples, len(got), len(expected))
        assert shared, f"{row.name}: no outputs to compare"
        assert got.dtype == expected.dtype == np.int64, f"{row.name}: outputs must be int64"
        assert np.array_equal(got[:shared], expected[:shared]), f"{row.name} differs from {first.name}"
        if row is not first:
            equal.append(f"{row.name} ({shared})")
    told = [f"outputs == those of {first.name}, on so many samples: {', '.join(equal)}"] if first and equal else []
    left = [row.name for row in rows if not row.compared]
    return told + ([f"not compared: {', '.join(left)}"] if left else [])


def take_turns(works: list[Callable[[], Any]], *, repeats: int) -> list[float]:
    """Median seconds of each of `works`: one warm-up each, then `repeats` rounds in which they take turns."""
    for work in works:
        work()
    found: list[list[float]] = [[] for _ in works]
    for _ in range(repeats):
        for seconds, work in zip(found, works, strict=True):
            start = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - start)
    return [statistics.median(seconds) for seconds in found]


def slope(sizes: list[int], seconds: list[float]) -> float:
    """Least-squares slope of log(seconds) against log(size): 1 is proportional cost."""
    x, y = np.log(np.asarray(sizes, float)), np.log(np.asarray(seconds))
    return float(np.polyfit(x, y, 1)[0])
