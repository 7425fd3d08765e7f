"""Target files: built in or a user's own, `base = "NAME"` takes over everything that is not said again.

A fact is replaced whole, so that no value ever stands beside another's source. All mistakes are named at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import attrs

from snn2chip.errors import InputError
from snn2chip.mapping.fact import Fact, Slot, fact_breaches, make_fact
from snn2chip.mapping.target import ENERGY_EVENTS, SCOPES, SECTIONS, STATUS, TIMING_EVENTS, Encoding, Model, Target
from snn2chip.toml_files import toml_tables

GROUPS = ("encodings", "energy", "timing", "power", "sources")
TOP = ("name", "title", "base", *SECTIONS, *GROUPS)
MODEL_KEYS = ("title", "kind", "status", "formula", "caveat", "scope", "events")
MODEL_KINDS = {"energy": ("events", "operations"), "timing": ("sum", "max-affine")}
UNITS = {"energy": "pJ", "timing": "ns"}
EVENTS = {"energy": ENERGY_EVENTS, "timing": TIMING_EVENTS}


def target_names() -> list[str]:
    """Names of the targets that come with snn2chip."""
    folder = resources.files("snn2chip.mapping") / "targets"
    return sorted(e.name.removesuffix(".toml") for e in folder.iterdir() if e.name.endswith(".toml"))


def load_target(name_or_path: str | Path) -> Target:
    """Return the target of a built-in name or of the path of a `.toml` file.

    Raises InputError that lists the known names, or every wrong, missing and unknown field of the file.
    """
    text = str(name_or_path)
    tables = _read(text, above=(), folder=None)
    reader = _Reader(tables)
    target = reader.target()
    if reader.bad or target is None:
        raise InputError([f"target {text}: {breach}" for breach in reader.bad])
    return target


def _read(text: str, *, above: tuple[str, ...], folder: Path | None) -> dict[str, Any]:
    if text in above:
        raise InputError(f"target {above[0]}: its bases lead back to {text!r}")
    own = text.endswith(".toml")
    path = Path(text) if folder is None else folder / text
    if own:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(f"target {path}: cannot be read ({error.strerror})") from error
    else:
        place = resources.files("snn2chip.mapping") / "targets"
        partial = text.startswith("base/") and (place / f"{text}.toml").is_file() and bool(above)
        if text not in target_names() and not partial:
            known = ", ".join(target_names())
            raise InputError(f"target must be one of {known} or the path of a .toml file, got {text!r}")
        content = (place / f"{text}.toml").read_bytes()
    try:
        tables = toml_tables(content)
    except ValueError as error:
        raise InputError(f"target {text}: not a TOML file ({error})") from error
    if "base" not in tables:
        return tables
    if not isinstance(tables["base"], str):
        raise InputError(f"target {text}: base={tables['base']!r}, expected the name of a target")
    base = _read(tables["base"], above=(*above, text), folder=path.parent if own else None)
    return _laid_over(base, {key: value for key, value in tables.items() if key != "base"})


def _laid_over(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in own.items():
        old = merged.get(key)
        tables = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = _laid_over(old, value) if tables and "value" not in value else value  # type: ignore[arg-type]
    return merged


class _Reader:
    """Turns tables into a target and gathers everything that is wrong with them."""

    def __init__(self, tables: Mapping[str, Any]) -> None:
        self.tables = tables
        self.bad: list[str] = []
        sources = self.table("sources")
        self.sources = {key: str(text) for key, text in sources.items()}
        self.bad += [
            f"sources.{key}: must be text that says where to look, got {text!r}"
            for key, text in sources.items()
            if not isinstance(text, str) or not text.strip()
        ]

    def target(self) -> Target | None:
        """The target, or None with breaches in `bad`."""
        self.bad += [f"unknown {key}; known: {', '.join(TOP)}" for key in self.tables if key not in TOP]
        for key in ("name", "title"):
            if not isinstance(self.tables.get(key), str) or not self.tables[key].strip():
                self.bad.append(f"{key}: must be text, got {self.tables.get(key)!r}")
        sections: dict[str, Any] = {
            name: self.section(name, self.table(name), kind)
            for name, kind in SECTIONS.items()
            if name != "mesh" or name in self.tables
        }
        groups: dict[str, Any] = {
            "encodings": {n: self.section(f"encodings.{n}", t, Encoding) for n, t in self.named("encodings")},
            "energies": {n: self.model("energy", n, t) for n, t in self.named("energy")},
            "timings": {n: self.model("timing", n, t) for n, t in self.named("timing")},
            "power": {n: self.fact(f"power.{n}", t, Slot(kind="number", unit="W")) for n, t in self.named("power")},
        }
        for key in ("encodings", "energies", "timings"):
            if not groups[key]:
                self.bad.append(f"{key.replace('energies', 'energy').replace('timings', 'timing')}: nothing is given")
        if self.bad:
            return None
        return Target(
            name=self.tables["name"],
            title=self.tables["title"],
            sources=self.sources,
            **{"mesh": None, **sections},
            **groups,
        )

    def table(self, name: str) -> Mapping[str, Any]:
        """One table of the file; what is no table is a breach."""
        found = self.tables.get(name, {})
        if isinstance(found, Mapping):
            return found
        self.bad.append(f"{name}: must be a table, got {found!r}")
        return {}

    def named(self, group: str) -> list[tuple[str, Any]]:
        """Entries of a table whose keys are free."""
        return list(self.table(group).items())

    def section(self, where: str, table: Any, kind: type[Any]) -> Any:
        """A table with fixed keys as an object of `kind`."""
        if not isinstance(table, Mapping):
            self.bad.append(f"{where}: must be a table, got {table!r}")
            return None
        slots: dict[str, Slot] = {f.name: f.metadata["slot"] for f in attrs.fields(kind)}
        self.bad += [f"{where}.{key}: unknown; known: {', '.join(slots)}" for key in table if key not in slots]
        found = {}
        for key, want in slots.items():
            if key in table:
                found[key] = self.fact(f"{where}.{key}", table[key], want)
            else:
                self.bad.append(f"{where}.{key}: missing ({want.what})")
        return None if self.bad else kind(**found)

    def fact(self, where: str, table: Any, want: Slot) -> Fact | None:
        """One fact, or None with its breaches noted."""
        wrong = list(fact_breaches(table, want, self.sources))
        self.bad += [f"{where}: {text}" for text in wrong]
        return None if wrong else make_fact(table)

    def model(self, group: str, name: str, table: Any) -> Model | None:
        """One energy or timing model."""
        where = f"{group}.{name}"
        if not isinstance(table, Mapping):
            self.bad.append(f"{where}: must be a table, got {table!r}")
            return None
        wrong = [f"{key}: unknown; known: {', '.join(MODEL_KEYS)}" for key in table if key not in MODEL_KEYS]
        for key, options in (("kind", MODEL_KINDS[group]), ("status", STATUS)):
            if table.get(key) not in options:
                wrong.append(f"{key}: must be one of {', '.join(options)}, got {table.get(key)!r}")
        if table.get("scope", "dynamic") not in SCOPES:
            wrong.append(f"scope: must be one of {', '.join(SCOPES)}, got {table['scope']!r}")
        for key in ("title", "formula"):
            if not isinstance(table.get(key), str) or not table[key].strip():
                wrong.append(f"{key}: must be text, got {table.get(key)!r}")
        if not isinstance(table.get("caveat", ""), str):
            wrong.append(f"caveat: must be text, got {table['caveat']!r}")
        events = table.get("events")
        if not isinstance(events, Mapping) or not events:
            wrong.append(f"events: must be a table of {', '.join(EVENTS[group])}, got {events!r}")
            events = {}
        if unknown := [key for key in events if key not in EVENTS[group]]:
            wrong.append(f"events.{', '.join(unknown)}: unknown; known: {', '.join(EVENTS[group])}")
        self.bad += [f"{where}.{text}" for text in wrong]
        unit = Slot(kind="number", unit=UNITS[group])
        found = {key: self.fact(f"{where}.events.{key}", fact, unit) for key, fact in events.items()}
        given = {key: value for key, value in table.items() if key != "events"}
        return None if self.bad else Model(name=name, events=found, **given)
