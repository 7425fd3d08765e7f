"""Tables for a reader: on the terminal, and as a page made of one result file per question."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from snn2chip.ir.files import replacing

FOLDER = Path(__file__).parent / "results"
PAGE = Path(__file__).parent / "RESULTS.md"
HEAD = """# Speed: what was measured

Made by `{command}` from `benchmarks/results/*.json`; nothing here is written by hand. Rows of a table ran side by side
in one process, equal outputs asserted first, then a warm-up, then {repeats} alternated runs; medians. Ratios depend on
the machine far less than times do; a bar that is missed says so.

"""


def shown(table: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Column heads and cells of one result."""
    if "columns" in table:
        return table["columns"], [[_cell(value) for value in row] for row in table["rows"]]
    heads = ["row", "samples", "median ms", "fastest", "slowest", "samples/s", f"x {table['baseline']}"]
    rows = []
    for row in table["rows"]:
        times = [f"{1e3 * row[key]:.2f}" for key in ("seconds", "fastest", "slowest")]
        rate = f"{row['samples_per_second']:,.0f}"
        rows.append([row["name"], str(row["samples"]), *times, rate, f"{row['ratio']:.2f}"])
    return heads, rows


def _cell(value: Any) -> str:
    return f"{value:,.3g}" if isinstance(value, float) else str(value)


def bar_line(bar: dict[str, Any]) -> str:
    """One bar in words."""
    sign = ">=" if bar["at_least"] else "<="
    return f"{bar['name']}: {bar['value']:.3g} (bar {sign} {bar['limit']:g}): {'met' if bar['met'] else 'MISSED'}"


def print_table(table: dict[str, Any]) -> None:
    """Print one result."""
    console = Console(width=120)
    heads, rows = shown(table)
    out = RichTable(title=table["title"], title_justify="left")
    for i, head in enumerate(heads):
        out.add_column(head, justify="right" if i else "left", no_wrap=True)
    for row in rows:
        out.add_row(*row)
    console.print(out)
    for key, value in table["notes"].items():
        console.print(f"  {key}: {value}", highlight=False)
    for bar in table["bars"]:
        console.print(f"  {bar_line(bar)}", highlight=False)


def store(name: str, machine: dict[str, Any], table: dict[str, Any], folder: Path = FOLDER) -> None:
    """Write the result of one question."""
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / f"{name}.json") as path:
        path.write_text(json.dumps({"machine": machine, "table": table}, indent=1) + "\n")


def stored(names: list[str], folder: Path = FOLDER) -> dict[str, dict[str, Any]]:
    """Results that are there, in the order of `names`."""
    return {name: json.loads(path.read_text()) for name in names if (path := folder / f"{name}.json").exists()}


def write_page(names: list[str], *, command: str, repeats: int, folder: Path = FOLDER, page: Path = PAGE) -> None:
    """Write the page of all results that are there."""
    results = stored(names, folder)
    lines = [HEAD.format(command=command, repeats=repeats)]
    machines = list(dict.fromkeys(_machine(result["machine"]) for result in results.values()))
    lines += [f"- {text}\n" for text in machines]
    bars = [bar for result in results.values() for bar in result["table"]["bars"]]
    if bars:
        lines += ["\n## Bars\n\n", "| what | measured | bar | |\n|---|---:|---:|---|\n"]
        for bar in bars:
            sign, met = ("≥" if bar["at_least"] else "≤"), ("met" if bar["met"] else "**missed**")
            lines.append(f"| {bar['name']} | {bar['value']:.3g} | {sign} {bar['limit']:g} | {met} |\n")
    for name, result in results.items():
        table = result["table"]
        heads, rows = shown(table)
        lines.append(f"\n## {table['title']}\n\n`--only {name}`\n\n")
        lines.append(_markdown(heads, rows))
        lines += [f"\n- {key}: {value}" for key, value in table["notes"].items()]
        lines.append("\n" if table["notes"] else "")
    with replacing(page) as path:
        path.write_text("".join(lines))


def _markdown(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _machine(machine: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in machine.items() if key != "load")
