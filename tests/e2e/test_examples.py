"""Every example runs to its end and prints what it promises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples"
EXAMPLES = sorted(FOLDER.glob("[0-9]*.py"))
BY_HAND = "02_program_by_hand"


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in EXAMPLES if path.stem != BY_HAND], ids=lambda path: path.stem)
def test_example(path: Path) -> None:
    result = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout


def test_there_are_examples() -> None:
    assert {path.stem for path in EXAMPLES} >= {"01_digits_to_integers", BY_HAND}


def test_a_program_by_hand_gives_the_worked_example() -> None:
    """Payloads 1, 0, 2 and potentials 2, 0, 2, worked out by hand from the equation in the example."""
    path = FOLDER / f"{BY_HAND}.py"
    result = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=120, check=True)
    lines = dict(line.split(None, 1) for line in result.stdout.splitlines())
    assert lines == {"payloads": "[1, 0, 2]", "potentials": "[2, 0, 2]", "streamed": "[1, 0, 2]", "golden": "equal"}
