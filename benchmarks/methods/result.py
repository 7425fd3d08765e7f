"""What a row of the methods table holds, and the file it lies in.

A result belongs to its recipes: `identity` is a digest of everything in them that is not a default, so that a row is
measured again when a recipe changes and only then.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from snn2chip.ir.files import write_text
from snn2chip.train.recipe import Recipe


@attrs.frozen(kw_only=True)
class Bar:
    """One thing a row must reach: the words, what was measured, whether it is reached."""

    text: str
    measured: str
    passed: bool


@attrs.frozen(kw_only=True)
class Result:
    """A measured row: bars, nets and how they were trained, further figures, the machine.

    `minutes` are CPU minutes of one core, of training and of the measurement; `ann` is the accuracy in percent of an
    ANN of the same net and budget and the gap to it in points.
    """

    row: str
    title: str
    bars: Sequence[Bar]
    seeds: Sequence[int] = ()
    epochs: Mapping[str, int] = attrs.field(factory=dict)
    minutes: Mapping[str, float] = attrs.field(factory=dict)
    ann: Mapping[str, float] | None = None
    figures: Sequence[Mapping[str, Any]] = ()
    notes: Sequence[str] = ()
    identity: str = ""
    quick: bool = False
    machine: Mapping[str, Any] = attrs.field(factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every bar is reached."""
        return all(bar.passed for bar in self.bars)


_WORDS = ("name", "title", "paper")


def essence(recipe: Recipe) -> dict[str, Any]:
    """Return what of a recipe is not a default, as JSON has it; words about it are left out."""
    fields = {f.name: f.default for f in attrs.fields(Recipe)}
    given = {key: getattr(recipe, key) for key in fields if key not in _WORDS}
    kept = {key: value for key, value in given.items() if not _is_default(value, fields[key])}
    plain: dict[str, Any] = json.loads(json.dumps(kept, default=list))
    return plain


def _is_default(value: Any, default: Any) -> bool:
    made = default.factory() if isinstance(default, attrs.Factory) else default  # type: ignore[arg-type]
    return bool(value == made)


def identity(recipes: Iterable[Recipe], *, quick: bool) -> str:
    """Return a digest of recipes and of whether the measurement is a quick one."""
    text = json.dumps([[recipe.name, essence(recipe)] for recipe in recipes] + [quick], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write(result: Result, path: Path) -> None:
    """Write a result as JSON, beside its target first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(attrs.asdict(result), indent=1) + "\n")


def read(path: Path) -> Result | None:
    """Return the result of a file, or None without one."""
    if not path.is_file():
        return None
    fields = json.loads(path.read_text())
    return Result(**{**fields, "bars": [Bar(**bar) for bar in fields["bars"]]})
