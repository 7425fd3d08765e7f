"""Mutants by cosmic-ray's operators: every one of a file, in a fixed order, and a sample with a fixed seed."""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence

import attrs
from cosmic_ray import plugins
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code

from benchmarks.mutation.rooms import ROOMS, ROOT, WHOLE, files

Place = tuple[int, int]


@attrs.frozen
class Mutant:
    """One change of one file: the `occurrence`-th place where the operator applies, at `line`."""

    file: str
    operator: str
    occurrence: int
    line: int
    column: int

    @property
    def key(self) -> str:
        """Name of the mutant in the results."""
        return f"{self.file}:{self.line}:{self.column} {self.operator} {self.occurrence}"

    def source(self) -> str:
        """The whole file with the change."""
        operator = plugins.get_operator(f"core/{self.operator}")()
        return str(mutate_code((ROOT / self.file).read_text(), operator, self.occurrence))


def operators() -> list[str]:
    """Cosmic-ray's core operators; two kinds make no other program in CPython or need arguments, and are left out.

    `==` to `is` holds for interned strings and small integers (and ruff refuses it); the variable operators
    take the names of two variables.
    """
    names = (name.removeprefix("core/") for name in plugins.operator_names() if name.startswith("core/"))
    return sorted(name for name in names if "Variable" not in name and not _identity(name))


def _identity(name: str) -> bool:
    kind, _, change = name.partition("_")
    old, _, new = change.partition("_")
    return kind == "ReplaceComparisonOperator" and old not in ("Is", "IsNot") and new in ("Is", "IsNot")


def mutants(file: str) -> Iterator[Mutant]:
    """Every mutant of a file, except in annotations, which are never run."""
    source = (ROOT / file).read_text()
    nodes = list(ast_nodes(get_ast(source)))
    unread = annotations(source)
    for name in operators():
        operator = plugins.get_operator(f"core/{name}")()
        places = [place for node in nodes for place in operator.mutation_positions(node)]
        for occurrence, (start, _) in enumerate(places):
            if not any(first <= start < last for first, last in unread):
                yield Mutant(file, name, occurrence, *start)


def annotations(source: str) -> list[tuple[Place, Place]]:
    """Spans of the annotations of a file that has `from __future__ import annotations`."""
    spans: list[tuple[Place, Place]] = []
    for node in ast.walk(ast.parse(source)):
        for field in ("annotation", "returns"):
            found = getattr(node, field, None)
            if isinstance(found, ast.expr):
                end = (found.end_lineno or found.lineno, found.end_col_offset or 0)
                spans.append(((found.lineno, found.col_offset), end))
    return spans


def drawn(sample: int, seed: int, rooms: Sequence[str] = tuple(ROOMS)) -> list[Mutant]:
    """`sample` mutants of all rooms, then every mutant of soma and schedule that is not among them.

    Drawn by the digest of seed, file, change and the line's text, so that a change elsewhere draws the same again.
    """
    every = sorted(_ranked(seed, rooms), key=lambda pair: pair[0])
    chosen = [mutant for _, mutant in every[:sample]]
    taken = {mutant.key for mutant in chosen}
    whole = {file for room in WHOLE if room in rooms for file in files(room)}
    rest = (mutant for _, mutant in every[sample:] if mutant.file in whole and mutant.key not in taken)
    return chosen + sorted(rest, key=lambda mutant: (mutant.file, mutant.line, mutant.column, mutant.operator))


def _ranked(seed: int, rooms: Sequence[str]) -> Iterator[tuple[str, Mutant]]:
    for file in (file for room in rooms for file in files(room)):
        lines = (ROOT / file).read_text().splitlines()
        seen: Counter[tuple[str, str]] = Counter()
        for mutant in mutants(file):
            place = (mutant.operator, lines[mutant.line - 1].strip())
            seen[place] += 1
            text = f"{seed}|{file}|{place}|{seen[place]}"
            yield hashlib.sha256(text.encode()).hexdigest(), mutant
