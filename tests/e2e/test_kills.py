"""kill -9 in the middle of every verb that writes: the small form of `python tests/kills --kills 60`."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

HARNESS = Path(__file__).resolve().parents[1] / "kills"
pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or find_spec("lightning") is None or find_spec("matplotlib") is None,
    reason="needs Linux and the extras `train` and `report`",
)


@pytest.mark.slow
def test_killed_at_a_few_moments_nothing_is_lost_and_the_rerun_is_the_same() -> None:
    """Fixed seed; two kills of each kind of writer: one file, several files, a folder, a training that is resumed."""
    command = [sys.executable, str(HARNESS), "--kills", "8", "--seed", "3", "--jobs", "compile,report,artifacts,train"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].endswith("0 with something wrong")
    assert done.stdout.splitlines()[-1].startswith("8 kills")
