"""One statement about a chip: a value with its unit, its source and how far it can be trusted.

Confidence codes: M a published silicon measurement, PS published but itself simulated before silicon, S a published
specification, C read in a simulator's, emulator's or compiler's source, D arithmetic on the above, E an estimate or a
modelling choice; `*` means that the primary document was not read directly.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import attrs

CONFIDENCE = re.compile(r"(M|PS|S|C|D|E)\*?(, ?(M|PS|S|C|D|E)\*?)*\Z")
"""One code or several, separated by commas."""
OWN = "own"
"""Source of a choice made here; always with confidence E."""


@attrs.frozen
class Fact:
    """A value with `unit`, `source` (keys of the target's sources) and `confidence`; `lo..hi` is its range, if any.

    `points` are `(x, value)` pairs where the value depends on `by` (a barrier on the number of tiles). A number that
    is not limited is infinite.
    """

    value: Any
    unit: str
    source: str
    confidence: str
    lo: float | None = None
    hi: float | None = None
    by: str = ""
    points: tuple[tuple[float, float], ...] = ()
    note: str = ""

    @property
    def range(self) -> tuple[Any, Any]:
        """Smallest and largest value that the sources support."""
        return (self.value if self.lo is None else self.lo), (self.value if self.hi is None else self.hi)

    def plain(self) -> dict[str, Any]:
        """Values that fit JSON; infinity is the text "unlimited"."""
        found = {key: value for key, value in attrs.asdict(self).items() if value not in (None, "", ())}
        found["value"] = self.value
        return {k: "unlimited" if isinstance(v, float) and math.isinf(v) else v for k, v in found.items()}


FACT_KEYS = tuple(field.name for field in attrs.fields(Fact))
REQUIRED = ("value", "unit", "source", "confidence")


@attrs.frozen(kw_only=True)
class Slot:
    """What a field of a target file must hold: `kind`, `unit` and, for choices and names, the legal `options`.

    kind: count (whole, >= 0), whole, number (>= 0), flag, choice, names (a list of options), counts (a list of counts).
    """

    kind: str
    unit: str = ""
    options: tuple[str, ...] = ()
    what: str = ""


def slot(kind: str, unit: str = "", *, options: tuple[str, ...] = (), what: str) -> dict[str, Slot]:
    """Metadata of an attrs field that is filled from a target file."""
    return {"slot": Slot(kind=kind, unit=unit, options=options, what=what)}


def fact_breaches(table: Any, want: Slot, sources: Collection[str]) -> Iterator[str]:
    """What is wrong with the table of one fact; nothing if it can become a `Fact`."""
    if not isinstance(table, Mapping):
        yield f"expected a table with {', '.join(REQUIRED)}, got {table!r}"
        return
    if unknown := [key for key in table if key not in FACT_KEYS]:
        yield f"unknown {', '.join(unknown)}; known: {', '.join(FACT_KEYS)}"
    if missing := [key for key in REQUIRED if key not in table]:
        yield f"{', '.join(missing)} missing"
        return
    if text := _value_breach(table["value"], want):
        yield text
    if table["unit"] != want.unit:
        yield f"unit must be {want.unit!r}, got {table['unit']!r}"
    if not isinstance(table["confidence"], str) or not CONFIDENCE.match(table["confidence"]):
        yield f"confidence must be codes of M, PS, S, C, D, E (with * for second hand), got {table['confidence']!r}"
    yield from _source_breaches(table, sources)
    yield from _range_breaches(table, want)


def _source_breaches(table: Mapping[str, Any], sources: Collection[str]) -> Iterator[str]:
    given = table["source"]
    names = [name.strip() for name in given.split(",")] if isinstance(given, str) and given.strip() else []
    if not names:
        yield f"source must name entries of [sources], got {given!r}"
    if unknown := [name for name in names if name not in (*sources, OWN)]:
        yield f"source {', '.join(unknown)} is not in [sources]"
    if names == [OWN] and table["confidence"] != "E":
        yield f"what only we say has confidence E, got {table['confidence']!r}"
    for key in ("by", "note"):
        if not isinstance(table.get(key, ""), str):
            yield f"{key} must be text, got {table[key]!r}"


def _range_breaches(table: Mapping[str, Any], want: Slot) -> Iterator[str]:
    ends = {key: table[key] for key in ("lo", "hi") if key in table}
    if ends and want.kind not in ("count", "whole", "number"):
        yield "lo and hi belong to numbers"
        return
    bad = [f"{key} must be a number, got {end!r}" for key, end in ends.items() if not _number(end)]
    yield from bad
    if (
        not bad
        and _number(table["value"])
        and not ends.get("lo", table["value"]) <= table["value"] <= ends.get("hi", table["value"])
    ):
        yield f"value {table['value']} is outside lo..hi"
    if "points" in table:
        pairs = table["points"]
        fits = isinstance(pairs, (list, tuple)) and all(
            isinstance(p, (list, tuple)) and len(p) == 2 and all(map(_number, p)) for p in pairs
        )
        if not fits or not table.get("by"):
            yield "points are [x, value] pairs and `by` says what x is"


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value


def _value_breach(value: Any, want: Slot) -> str:
    options = ", ".join(want.options)
    whole = _number(value) and (isinstance(value, int) or math.isinf(value))
    many = isinstance(value, (list, tuple))
    if want.kind == "count" and not (whole and value >= 0):
        return f"value must be a whole number >= 0 or inf, got {value!r}"
    if want.kind == "whole" and not whole:
        return f"value must be a whole number, inf or -inf, got {value!r}"
    if want.kind == "number" and not (_number(value) and value >= 0):
        return f"value must be a number >= 0, got {value!r}"
    if want.kind == "flag" and not isinstance(value, bool):
        return f"value must be true or false, got {value!r}"
    if want.kind == "choice" and value not in want.options:
        return f"value must be one of {options}, got {value!r}"
    if want.kind == "names" and not (many and all(v in want.options for v in value)):
        return f"value must be a list of {options}, got {value!r}"
    if want.kind == "counts" and not (many and value and all(isinstance(v, int) and v > 0 for v in value)):
        return f"value must be a list of whole numbers > 0, got {value!r}"
    return ""


def make_fact(table: Mapping[str, Any]) -> Fact:
    """The fact of a table without breaches; lists become tuples."""
    value = tuple(table["value"]) if isinstance(table["value"], list) else table["value"]
    points = tuple((float(x), float(y)) for x, y in table.get("points", ()))
    return Fact(**{**table, "value": value, "points": points})
