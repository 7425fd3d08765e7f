"""The table of properties is true: every test it names exists, every property and choice has a row with one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
COUNTS = {"P1": 6, "P2": 9, "P3": 4, "P4": 7, "P5": 3, "C1": 2, "C2": 1, "C3": 4, "C4": 2, "C5": 5}
IDS = {f"{part}.{n}" for part, count in COUNTS.items() for n in range(1, count + 1)} | {"P2.1'"}


def rows() -> dict[str, tuple[str, list[str]]]:
    found: dict[str, tuple[str, list[str]]] = {}
    for line in (TESTS / "PROPERTIES.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and re.fullmatch(r"[PC]\d\.\d'?", cells[0]):
            assert len(cells) == 3, line
            assert cells[0] not in found, cells[0]
            found[cells[0]] = (cells[1], re.findall(r"`([^`]+)`", cells[2]))
    return found


def functions(path: Path) -> set[str]:
    """Names of the test functions pytest collects of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_property_and_choice_has_a_row() -> None:
    assert set(rows()) == IDS
    assert all(text and tests for text, tests in rows().values())


@pytest.mark.parametrize("key", sorted(IDS))
def test_the_named_tests_exist(key: str) -> None:
    for node in rows()[key][1]:
        file, _, name = node.partition("::")
        assert (TESTS / file).is_file(), node
        assert name in functions(TESTS / file), node
