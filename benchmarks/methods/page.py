"""The page of the methods table, made of result files alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.methods.result import Result

HEAD = """# The methods, measured

Written by `python -m benchmarks methods` from the files in `methods/results`; do not edit. Accuracy in percent on the
whole test set unless a row says otherwise. Learning rates were chosen on the training set. Minutes are CPU minutes of
one core.
"""


def page(results: Sequence[Result]) -> str:
    """Return the page as Markdown."""
    parts = [HEAD, _overview(results)]
    for result in results:
        parts.append(_section(result))
    return "\n".join(parts)


def _overview(results: Sequence[Result]) -> str:
    lines = ["| row | bar | measured | |", "| --- | --- | --- | --- |"]
    for result in results:
        for index, bar in enumerate(result.bars):
            title = f"[{result.title}](#{result.row})" if index == 0 else ""
            lines.append(f"| {title} | {bar.text} | {bar.measured} | {'pass' if bar.passed else '**fail**'} |")
    return "\n".join(lines) + "\n"


def _section(result: Result) -> str:
    lines = [f'<a id="{result.row}"></a>', "", f"## {result.title}", ""]
    if result.quick:
        lines += ["**A quick run: a few samples, one epoch. The figures mean nothing.**", ""]
    facts = []
    if result.seeds:
        facts.append(f"seeds {', '.join(map(str, result.seeds))}")
    if result.epochs:
        facts.append("epochs " + ", ".join(f"{k}: {v}" for k, v in _grouped(result.epochs).items()))
    facts += [f"{value} min {key}" for key, value in result.minutes.items()]
    if result.ann:
        facts.append(f"ANN twin {result.ann['accuracy']} %, gap {result.ann['gap']} points")
    lines += [f"- {fact}" for fact in facts]
    lines += [f"- {_machine(result.machine)}"] + [f"- {note}" for note in result.notes] + [""]
    lines.append(_table(result.figures))
    return "\n".join(lines)


def _grouped(epochs: Mapping[str, int]) -> dict[str, int]:
    """Nets that differ in the seed alone are one; nets that tried a rate are in the notes."""
    return {name.rpartition("-s")[0]: count for name, count in epochs.items() if "-lr" not in name}


def _machine(machine: Mapping[str, Any]) -> str:
    return (
        f"{machine['cpu']}, {machine['threads']} thread of {machine['cores']} cores ({machine['instructions']}), "
        f"Python {machine['python']}, torch {machine['torch']}"
    )


def _table(figures: Sequence[Mapping[str, Any]]) -> str:
    if not figures:
        return ""
    keys = list(dict.fromkeys(key for row in figures for key in row))
    lines = ["| " + " | ".join(keys) + " |", "|" + " --- |" * len(keys)]
    lines += ["| " + " | ".join(str(row.get(key, "")).replace("|", "/").replace("\n", " ") for key in keys) + " |"
              for row in figures]  # fmt: skip
    return "\n".join(lines) + "\n"
