"""Ratios that README and docs quote, made from `benchmarks/results/*.json` and held against them by a test.

A quoted place lies between `<!-- measured: NAME -->` and `<!-- end -->`; `python -m benchmarks page` writes it anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.results import FOLDER, stored
from snn2chip.writing import replacing

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/speed.md")
PLACE = re.compile(r"<!-- measured: (\w+) -->.*?<!-- end -->", re.DOTALL)


def engine(folder: Path) -> str:
    """The engine's time over the float network's, smallest to largest net, by threads."""
    names, parts = ["float-vgg11", "float-small-vgg", "float-resnet20"], []
    for threads, words in ((1, "one thread"), (2, "two")):
        found = stored(names, folder, threads=threads)
        if len(found) == len(names):
            values = [bar["value"] for result in found.values() for bar in result["table"]["bars"]]
            parts.append(f"{min(values):.2f} to {max(values):.2f} on {words}")
    return f"exact integers take, of the time of the float network they came from, {' and '.join(parts)}"


def parallel(folder: Path) -> str:
    """Parallel neurons against serial ones at the lengths that were measured."""
    (result,) = stored(["parallel"], folder).values()
    rates = {row["name"]: row["samples_per_second"] for row in result["table"]["rows"]}
    lengths = sorted(int(name.rpartition(" ")[2]) for name in rates if name.startswith("parallel, T"))

    def against(other: str) -> str:
        ratios = [rates[f"parallel, T = {n}"] / rates[f"{other}, T = {n}"] for n in lengths]
        return f"{min(ratios):.2f} to {max(ratios):.2f}"

    text = f"{against('IF')} times as fast as serial IF neurons in their own compiled pass, "
    text += f"{against('IF, torch code')} times as fast as serial ones in PyTorch operations"
    return f"{text} (T = {lengths[0]} .. {lengths[-1]})"


QUOTES: dict[str, Callable[[Path], str]] = {"engine": engine, "parallel": parallel}


def quoted(text: str, folder: Path = FOLDER) -> str:
    """The text of a page with every quoted place made from the results in `folder`."""

    def place(found: re.Match[str]) -> str:
        name: Any = found[1]
        return f"<!-- measured: {name} -->{QUOTES[name](folder)}<!-- end -->"

    return PLACE.sub(place, text)


def update(root: Path = ROOT, folder: Path = FOLDER) -> None:
    """Write all quoted places anew."""
    for name in PAGES:
        path = root / name
        before = path.read_text(encoding="utf-8")
        after = quoted(before, folder)
        if after != before:
            with replacing(path) as draft:
                draft.write_text(after, encoding="utf-8")
