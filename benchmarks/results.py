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

Made by `{command}` from `benchmarks/results/*.json`; nothing here is written by hand. Each table says for itself when
and at which commit it was measured (`+`: with uncommitted changes), how loaded the machine was when it began (a load
near 1 is the question before it), what was asserted equal before anything was timed, and how often it ran. Threads are
set by count for every library; nothing is bound to a core. Ratios depend on the machine far less than times do; a bar
that is missed says so.

`+MB` is memory: the most that a row's first run adds to a fresh process in which libraries, network and samples are
loaded, with all that this run makes and keeps; of emitted Lava networks the most that all processes of a run hold
together beyond what was there before it (shared pages once); of training steps the first step of a fresh process.

"""


def shown(table: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Column heads and cells of one result."""
    if "columns" in table:
        return table["columns"], [[_cell(value) for value in row] for row in table["rows"]]
    heads = ["row", "samples", "median ms", "fastest", "slowest", "samples/s", f"x {table['baseline']}"]
    weighed = any(row.get("peak_mb") is not None for row in table["rows"])
    rows = []
    for row in table["rows"]:
        times = [f"{1e3 * row[key]:.2f}" for key in ("seconds", "fastest", "slowest")]
        rate = f"{row['samples_per_second']:,.0f}"
        cells = [row["name"], str(row["samples"]), *times, rate, f"{row['ratio']:.2f}"]
        rows.append([*cells, *([_megabytes(row.get("peak_mb"))] if weighed else [])])
    return [*heads, *(["+MB"] if weighed else [])], rows


def _megabytes(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


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
    for key, value in {"asserted": table["asserted"], "repeated": table["repeated"], **table["notes"]}.items():
        console.print(f"  {key}: {value}", highlight=False)
    for bar in table["bars"]:
        console.print(f"  {bar_line(bar)}", highlight=False)


def store(
    name: str, machine: dict[str, Any], when: dict[str, Any], table: dict[str, Any], folder: Path = FOLDER
) -> None:
    """Write the result of one question: `NAME.json` on one thread, `NAME.threadsN.json` on N."""
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(_file(name, machine.get("threads", 1), folder)) as path:
        path.write_text(json.dumps({"machine": machine, "when": when, "table": table}, indent=1) + "\n")


def stored(names: list[str], folder: Path = FOLDER, *, threads: int = 1) -> dict[str, dict[str, Any]]:
    """Results on so many threads that are there, in the order of `names`."""
    paths = {name: _file(name, threads, folder) for name in names}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}


def _file(name: str, threads: int, folder: Path) -> Path:
    return folder / (f"{name}.json" if threads == 1 else f"{name}.threads{threads}.json")


def everything(names: list[str], folder: Path = FOLDER) -> list[tuple[str, list[dict[str, Any]]]]:
    """Per question that has results, those on one thread first."""
    counts = sorted({int(path.stem.rpartition(".threads")[2]) for path in folder.glob("*.threads*.json")} - {1})
    found = [(name, [r for n in (1, *counts) for r in stored([name], folder, threads=n).values()]) for name in names]
    return [(name, results) for name, results in found if results]


def write_page(names: list[str], *, command: str, folder: Path = FOLDER, page: Path = PAGE) -> None:
    """Write the page of all results that are there."""
    found = everything(names, folder)
    lines = [HEAD.format(command=command)]
    lines += [f"- {text}\n" for text in dict.fromkeys(_machine(r["machine"]) for _, many in found for r in many)]
    bars = [(r["machine"].get("threads", 1), bar) for _, many in found for r in many for bar in r["table"]["bars"]]
    if bars:
        lines += ["\n## Bars\n\n", "| what | threads | measured | bar | |\n|---|---:|---:|---|---|\n"]
        for threads, bar in bars:
            sign, met = ("≥" if bar["at_least"] else "≤"), ("met" if bar["met"] else "**missed**")
            lines.append(f"| {bar['name']} | {threads} | {bar['value']:.3g} | {sign} {bar['limit']:g} | {met} |\n")
    for name, results in found:
        lines.append(f"\n## {results[0]['table']['title']}\n\n`--only {name}`\n")
        lines += [text for result in results for text in _section(result)]
    with replacing(page) as path:
        path.write_text("".join(lines))


def _section(result: dict[str, Any]) -> list[str]:
    """One table with everything that belongs to it, after the words that say when it was measured."""
    table, when = result["table"], result.get("when", {})
    heads, rows = shown(table)
    count = result["machine"].get("threads", 1)
    told = [f"**{count} thread{'s' if count > 1 else ''}**", when.get("date", "date not recorded")]
    told += [f"commit {when.get('commit') or 'not recorded'}", f"load {when.get('load', 'not recorded')} at the start"]
    told += [f"{name} {version}" for name, version in when.get("versions", {}).items()]
    lines = ["\n", ", ".join(told), "\n\n", _markdown(heads, rows)]
    lines.append(f"\n- asserted: {table.get('asserted') or 'not recorded'}")
    lines.append(f"\n- repeated: {table.get('repeated') or 'not recorded'}")
    lines += [f"\n- {key}: {value}" for key, value in table["notes"].items()]
    return [*lines, "\n"]


def _markdown(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _machine(machine: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in machine.items() if key not in ("load", "threads"))
