"""Whatever happens in a Lava process, the run ends in a clear error and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snn2chip.errors import BackendFailure
from snn2chip.ir.nodes import Input, Output, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.registry import get_backend

pytestmark = [pytest.mark.lava, pytest.mark.skipif(sys.version_info[:2] != (3, 10), reason="lava-nc needs Python 3.10")]

FAULTS = Path(__file__).parent / "lava_faults" / "process.py"
BLOCK_FAULTS = Path(__file__).parent / "lava_block_faults" / "process.py"


def program() -> Program:
    return Program(
        nodes=[
            Input("x", 3, 0, 1),
            Synapse("w", weight=np.eye(3, dtype=int)),
            Soma("mid", 3, theta=1, levels=2, layer="features.3"),
            Synapse("w2", weight=np.eye(3, dtype=int)),
            Soma("last", 3, theta=1, levels=2),
            Output("out", "payload"),
        ],
        edges=[("x", "w"), ("w", "mid"), ("mid", "w2"), ("w2", "last"), ("last", "out")],
        steps=2,
    )


def running(folder: Path) -> set[int]:
    """Processes of Lava runs whose job folder lies in `folder`."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"snn2chip_backends.lava.child" in command and bytes(folder) in command:
                found.add(int(entry.name))
    return found


def orphaned_memory() -> set[str]:
    """Shared-memory files that no process has mapped (other Lava runs of this machine have theirs mapped)."""
    files = {p.name for p in Path("/dev/shm").glob("psm_*")}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and files:
            try:
                maps = (entry / "maps").read_text()
            except OSError:
                continue
            files -= {name for name in files if name in maps}
    return files


def until(condition: Callable[[], object], seconds: float) -> bool:
    """Wait for `condition`; whether it came true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A place of its own for this test's job folders; afterwards nothing of its runs is left."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = orphaned_memory()
    yield tmp_path
    assert until(lambda: not running(tmp_path), 0.5)
    assert until(lambda: orphaned_memory() <= before, 1.0)
    assert list(tmp_path.glob("snn2chip-lava-*")) == []


def faulty_backend(fault: str, layout: str = "stock", **options: Any) -> Any:
    """The backend with one process replaced: the soma, its layer, or the whole network."""
    file = FAULTS if layout == "stock" else BLOCK_FAULTS
    name = "network" if layout == "fused" else "mid"
    return get_backend("lava", substitutes={name: f"{file}:{fault}"}, layout=layout, **options)


def fail(fault: str, *, timeout: float = 60.0, mode: str = "sync", layout: str = "stock") -> tuple[str, float]:
    backend = faulty_backend(fault, layout, timeout=timeout, mode=mode)
    start = time.monotonic()
    with pytest.raises(BackendFailure) as caught:
        backend.run(program(), {"x": np.ones((2, 4, 3), np.int64)})
    return str(caught.value), time.monotonic() - start


START_S = 6.0
"""Start of the child with Lava's compilation, on a busy machine."""


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("RaisesInInit", ("ValueError: bad start", "in __init__")),
        ("RaisesBeforeRecv", ("ValueError: bad before", "in before_recv")),
        ("RaisesAfterRecv", ("ValueError: bad middle", "in after_recv")),
        ("RaisesAfterSend", ("ValueError: bad end", "in after_send")),
        ("SendsWrongShape", ("Mismatch", "in send")),
        ("Exits", ("exit code 3",)),
        ("ExitsInInit", ("exit code 4",)),
        ("IsKilled", ("SIGKILL",)),
    ],
)
def test_a_failing_process_is_named_with_its_own_traceback(fault, words):
    text, seconds = fail(fault)
    assert "mid (features.3)" in text
    assert all(word in text for word in words)
    assert seconds < START_S + 2


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_missing_message_is_noticed_long_before_the_time_limit(mode):
    text, seconds = fail("SendsNothing", mode=mode)
    assert "waits for a message" in text
    assert "w2: proc/dense/models.py line" in text  # the process that waits for it
    assert seconds < START_S + 3


@pytest.mark.parametrize(
    ("layout", "mode", "fault", "words"),
    [
        ("layer", "async", "IsKilled", ("mid (features.3)", "SIGKILL")),
        ("layer", "async", "SendsNothing", ("waits for a message", "last: processes/block/process.py line")),
        ("fused", "async", "BreaksInside", ("the whole network", "mid (features.3) failed at machine step 1")),
        ("fused", "sync", "Exits", ("'network' of the whole network", "exit code 3")),
    ],
)
def test_failures_in_the_own_layouts_end_as_clearly(layout, mode, fault, words):
    text, seconds = fail(fault, mode=mode, layout=layout)
    assert all(word in text for word in words), text
    assert seconds < START_S + 3


def test_the_time_limit_in_an_own_layout():
    text, seconds = fail("Hangs", timeout=4.0, layout="fused")
    assert "time limit of 4 s" in text
    assert "network: " in text
    assert seconds < 4.0 + 3.0


@pytest.mark.parametrize("fault", ["Hangs", "IgnoresSigterm"])
def test_the_time_limit_ends_a_run_that_never_does(fault):
    text, seconds = fail(fault, timeout=3.0)
    assert "time limit of 3 s" in text
    assert "mid: " in text
    assert seconds < 3.0 + 3.0


def test_a_sound_substitute_runs_and_its_results_are_read():
    backend = get_backend("lava", substitutes={"mid": f"{FAULTS}:Silent"})
    trace = backend.run(program(), {"x": np.ones((2, 4, 3), np.int64)})
    assert not trace.payloads["mid"].any()
    assert not trace.outputs.any()


def test_an_unknown_substitute_says_which_file():
    backend = get_backend("lava", substitutes={"mid": "/nowhere/process.py:Soma"})
    with pytest.raises(BackendFailure, match=r"no process module /nowhere/process\.py"):
        backend.run(program(), {"x": np.ones((2, 1, 3), np.int64)})


@pytest.mark.parametrize(("layout", "processes"), [("stock", 6), ("fused", 4)])
def test_a_child_that_is_killed_from_outside_is_reported(layout, processes, folder):
    backend = faulty_backend("Hangs", layout, timeout=30.0)

    def kill() -> None:
        if until(lambda: len(running(folder)) > processes, 20):
            os.kill(min(running(folder)), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(BackendFailure, match=r"died.*signal 9"):
        backend.run(program(), {"x": np.ones((2, 4, 3), np.int64)})
    killer.join()


SCRIPT = """
import numpy as np, sys
sys.path.insert(0, {here!r})
from test_lava_failures import faulty_backend, program
backend = faulty_backend("Hangs", {layout!r}, timeout=60.0)
print("ready", flush=True)
backend.run(program(), {{"x": np.ones((2, 4, 3), np.int64)}})
"""


@pytest.mark.parametrize(
    ("number", "layout", "processes"),
    [
        (signal.SIGINT, "stock", 6),
        (signal.SIGKILL, "stock", 6),
        (signal.SIGINT, "layer", 5),
        (signal.SIGKILL, "fused", 4),
    ],
)
def test_ctrl_c_and_the_death_of_the_caller_leave_nothing(number, layout, processes, folder):
    caller = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(here=str(Path(__file__).parent), layout=layout)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    assert caller.stdout is not None
    assert caller.stdout.readline() == "ready\n"
    assert until(lambda: len(running(folder)) > processes, 20)
    caller.send_signal(number)
    _, said = caller.communicate(timeout=10)
    assert caller.returncode != 0
    assert ("KeyboardInterrupt" in said) == (number == signal.SIGINT)
    assert until(lambda: not running(folder), 2.0)


def test_a_run_prints_nothing(capfd):
    get_backend("lava").run(program(), {"x": np.ones((2, 1, 3), np.int64)})
    assert capfd.readouterr() == ("", "")
