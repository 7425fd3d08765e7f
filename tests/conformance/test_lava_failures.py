"""Whatever happens in a Lava process, the run ends in a clear error and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from snn2chip.errors import BackendFailure
from snn2chip.ir.nodes import Input, Output, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.registry import get_backend

pytestmark = [pytest.mark.lava, pytest.mark.skipif(sys.version_info[:2] != (3, 10), reason="lava-nc needs Python 3.10")]

FAULTS = Path(__file__).parent / "lava_faults" / "process.py"


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


def leftovers() -> tuple[set[str], set[str]]:
    """Shared-memory files, and processes that belong to a Lava run."""
    running = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if b"snn2chip_backends.lava.child" in (entry / "cmdline").read_bytes():
                    running.add(entry.name)
            except OSError:
                continue
    return {p.name for p in Path("/dev/shm").glob("psm_*")}, running


@pytest.fixture(autouse=True)
def _nothing_left():
    shm, running = leftovers()
    yield
    after = leftovers()
    assert after[0] <= shm
    assert after[1] <= running


def fail(fault: str, *, timeout: float = 60.0, mode: str = "sync") -> tuple[str, float]:
    backend = get_backend("lava", substitutes={"mid": f"{FAULTS}:{fault}"}, timeout=timeout, mode=mode)
    start = time.monotonic()
    with pytest.raises(BackendFailure) as caught:
        backend.run(program(), {"x": np.ones((2, 4, 3), np.int64)})
    return str(caught.value), time.monotonic() - start


START_S = 4.0
"""Start of the child, Lava's compilation and start included, on a busy machine."""


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


def test_a_child_that_is_killed_from_outside_is_reported():
    backend = get_backend("lava", substitutes={"mid": f"{FAULTS}:Hangs"}, timeout=30.0)
    before = leftovers()[1]

    def kill() -> None:
        for _ in range(200):
            mine = sorted(leftovers()[1] - before, key=int)
            if len(mine) > 6:
                os.kill(int(mine[0]), signal.SIGKILL)
                return
            time.sleep(0.05)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(BackendFailure, match=r"died.*signal 9"):
        backend.run(program(), {"x": np.ones((2, 4, 3), np.int64)})
    killer.join()


SCRIPT = """
import numpy as np, sys
sys.path.insert(0, {here!r})
from test_lava_failures import program, FAULTS
from snn2chip.registry import get_backend
backend = get_backend("lava", substitutes={{"mid": f"{{FAULTS}}:Hangs"}}, timeout=60.0)
print("ready", flush=True)
backend.run(program(), {{"x": np.ones((2, 4, 3), np.int64)}})
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_ctrl_c_and_the_death_of_the_caller_leave_nothing(number):
    before = leftovers()
    caller = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(here=str(Path(__file__).parent))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert caller.stdout is not None
    assert caller.stdout.readline() == "ready\n"
    deadline = time.monotonic() + 15
    while len(leftovers()[1] - before[1]) < 7 and time.monotonic() < deadline:
        time.sleep(0.05)
    caller.send_signal(number)
    start = time.monotonic()
    _, said = caller.communicate(timeout=10)
    assert caller.returncode != 0
    assert ("KeyboardInterrupt" in said) == (number == signal.SIGINT)
    while (leftovers()[1] - before[1] or leftovers()[0] - before[0]) and time.monotonic() < start + 2:
        time.sleep(0.05)
    assert leftovers()[1] <= before[1]
    assert leftovers()[0] <= before[0]


def test_a_run_prints_nothing(capfd):
    get_backend("lava").run(program(), {"x": np.ones((2, 1, 3), np.int64)})
    assert capfd.readouterr() == ("", "")
