"""The questions that are measured, one table each; a module per group, each with its own `QUESTIONS`."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Protocol

from benchmarks.table import Figures, Table

GROUPS = ("engine", "costs", "run_memory", "emitted", "training", "compiling")
"""`benchmarks/<group>.py`: engine against others, its costs and memory, emitted Lava, training, compiling, files."""


class Question(Protocol):
    """Builds its rows and measures them."""

    def __call__(self, *, quick: bool, repeats: int) -> Table | Figures: ...


def threaded() -> list[str]:
    """Questions for which a second count of threads is worth a table: the engine against others, side by side."""
    return list(import_module("benchmarks.engine").THREADED)


def questions() -> dict[str, Question]:
    """All questions by name, in the order in which they are asked."""
    found: dict[str, Question] = {}
    for group in GROUPS:
        if find_spec(f"benchmarks.{group}") is not None:
            found |= import_module(f"benchmarks.{group}").QUESTIONS
    return found
