"""Nothing grows: the small forms of `python tests/soak samples` and `python tests/soak lava`."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

SOAK = Path(__file__).resolve().parents[1] / "soak"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux" or find_spec("h5py") is None, reason="needs Linux and the extra `lava`"),
]


def soak(*words: str) -> dict[str, Any]:
    """The last line of JSON; 0 only if nothing grew."""
    done = subprocess.run([sys.executable, str(SOAK), *words], capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads([line for line in done.stdout.splitlines() if line.startswith("{")][-1])
    return found


def test_samples_that_stream_through_run_leave_their_results_only() -> None:
    found = soak("samples", "--samples", "100000")
    assert (found["samples"], found["rounds"]) == (100_000, 25)  # blocks of 4096
    assert found["grew"]["memory"] <= 8


@pytest.mark.lava
def test_lava_runs_leave_no_process_descriptor_or_shared_memory() -> None:
    found = soak("lava", "--runs", "6")
    assert found["rounds"] == 6
    assert found["mapped"] >= 6  # shared memory of every run was seen, so that what is left of it would be too
    assert all(found["last"][name] == 0 for name in ("children", "shared", "temporary")), found
