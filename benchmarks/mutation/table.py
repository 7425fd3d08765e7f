"""The page of a run: kills and branch coverage per room, then every survivor with its change and its reason."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

from coverage import Coverage

from benchmarks.machine import describe_machine
from benchmarks.mutation.draw import Mutant, mutants
from benchmarks.mutation.rooms import ROOMS, ROOT, compiled, files, room_of

PAGE = ROOT / "benchmarks" / "mutation.md"
REASONS = Path(__file__).parent / "survivors.json"
KILLED = ("killed", "timeout")


def page(work: Path, seed: int) -> str:
    """Markdown of the results of one seed that still fit the files as they are."""
    lines = (work / f"results-{seed}.jsonl").read_text().splitlines()
    entries = {entry["key"]: entry for entry in map(json.loads, lines)}
    known = {mutant.key: mutant for room in ROOMS for file in files(room) for mutant in mutants(file)}
    entries = {key: entry for key, entry in entries.items() if key in known and entry["verdict"] != "no program"}
    covered = _branches(work)
    text = [
        "# Mutation testing of the core",
        "",
        "`python -m benchmarks.mutation map`, then `run`, then `table`.",
        "",
        f"Machine: {describe_machine(1)['cpu']}. Operators of cosmic-ray; a mutant's lane is the tests that run its",
        "statement, 10 CPU seconds at most. Mutants that are no program are left out.",
        "",
        "| set | mutants | killed | rate | survivors explained |",
        "|---|---|---|---|---|",
    ]
    reasons = _reasons()
    sets = [(f"{sum(bool(e['drawn']) for e in entries.values())} drawn of all rooms, seed {seed}", None, True)]
    sets += [(f"all of {room}" if room in ("soma", "schedule") else f"drawn of {room}", room, False) for room in ROOMS]
    for title, room, drawn in sets:
        chosen = [e for e in entries.values() if _in(e, room, drawn)]
        dead = sum(e["verdict"] in KILLED for e in chosen)
        why = sum(_reason(known[e["key"]], reasons) != "" for e in chosen if e["verdict"] not in KILLED)
        rate = f"{100 * dead / len(chosen):.1f} %" if chosen else "-"
        text.append(f"| {title} | {len(chosen)} | {dead} | {rate} | {why} of {len(chosen) - dead} |")
    text += ["", "| room | branches and lines run by the fast tests |", "|---|---|"]
    text += [f"| {room} | {covered[room]:.1f} % |" for room in ROOMS]
    text += ["", "## Survivors", ""]
    left = [known[key] for key, entry in entries.items() if entry["verdict"] not in KILLED]
    groups: dict[tuple[str, str], list[str]] = {}
    for mutant in sorted(left, key=lambda m: (m.file, m.line, m.column, m.operator)):
        old, new = change(mutant)
        why = _reason(mutant, reasons) or "**not explained**"
        groups.setdefault((mutant.file, why), []).append(f"  - `{old}` → `{new}`")
    for (file, why), rows in groups.items():
        text += [f"- {file}: {why}", *dict.fromkeys(rows)]
    return "\n".join(text) + "\n"


def change(mutant: Mutant) -> tuple[str, str]:
    """The changed line before and after, without its indentation."""
    before, after = _lines(mutant.file), mutant.source().splitlines()
    rows = list(difflib.ndiff(before, after))
    old = [row[2:].strip() for row in rows if row.startswith("- ")]
    new = [row[2:].strip() for row in rows if row.startswith("+ ")]
    return " ".join(old), " ".join(new)


@cache
def _lines(file: str) -> list[str]:
    return (ROOT / file).read_text().splitlines()


def _in(entry: dict[str, Any], room: str | None, drawn: bool) -> bool:
    return (room is None or room_of(entry["file"]) == room) and (entry["drawn"] or not drawn)


def explained(mutant: Mutant) -> bool:
    """Whether a reason is written down for a survivor."""
    return _reason(mutant, _reasons()) != ""


def _reasons() -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(REASONS.read_text()) if REASONS.exists() else []
    return found


def _reason(mutant: Mutant, reasons: list[dict[str, str]]) -> str:
    """Why a survivor makes no difference to see; a reason names a file, a line's text and perhaps the change."""
    old, new = change(mutant)
    for reason in reasons:
        if reason["file"] == mutant.file and reason["old"] in old and reason.get("new", "") in new:
            return reason["why"]
    return ""


def _branches(work: Path) -> dict[str, float]:
    """Per cent of lines and branches of a room that the maps ran."""
    found: dict[str, float] = {}
    for room in ROOMS:
        total: Counter[str] = Counter()
        for file in files(room):
            name = "nojit" if compiled(file) else "plain"
            cover = Coverage(data_file=str(work / f"{name}.coverage"), config_file=str(work / f"{name}.rc"))
            cover.load()
            numbers = cover._analyze(str(ROOT / file)).numbers
            total["all"] += numbers.n_statements + numbers.n_branches
            total["run"] += numbers.n_executed + numbers.n_executed_branches
        found[room] = 100.0 * total["run"] / max(1, total["all"])
    return found
