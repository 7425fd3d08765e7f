"""What a row is, and the words its bars share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import mean

import attrs

from benchmarks.methods.nets import Net, Nets
from benchmarks.methods.result import Bar, Result


@attrs.frozen(kw_only=True)
class Row:
    """A row of the table: its recipes (a change in one measures it anew) and how it is measured."""

    name: str
    recipes: Sequence[str]
    measure: Callable[[Nets], Result]


def at_least(text: str, value: float, bound: float, *, unit: str = "%", digits: int = 2) -> Bar:
    """Return the bar value >= bound."""
    return Bar(text=text, measured=f"{value:.{digits}f} {unit} (>= {bound:.{digits}f})", passed=value >= bound)


def at_most(text: str, value: float, bound: float, *, unit: str = "points", digits: int = 2) -> Bar:
    """Return the bar value <= bound."""
    return Bar(text=text, measured=f"{value:.{digits}f} {unit} (<= {bound:.{digits}f})", passed=value <= bound)


def none_differ(text: str, count: int, of: int) -> Bar:
    """Return the bar that nothing differs."""
    return Bar(text=text, measured=f"{count} of {of:,}", passed=count == 0)


def average(nets: Sequence[Net]) -> float:
    """Return the mean test accuracy."""
    return mean(net.accuracy for net in nets)


def against_ann(value: float, twin: Net) -> dict[str, float]:
    """Return what a result says of the ANN of the same net and budget: its accuracy and the gap in points."""
    return {"accuracy": round(twin.accuracy, 2), "gap": round(twin.accuracy - value, 2)}
