"""Full and read-only disks, signals, closed streams, missing packages: one clear line, the exit code, nothing left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kills"))
from runner import Runner
from world import JOBS, clear, is_earlier, prepare

sys.path.pop(0)
pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or find_spec("lightning") is None or find_spec("matplotlib") is None,
    reason="needs Linux and the extras `train` and `report`",
)
WRITERS = [pytest.param(name, id=name) for name in JOBS]
SIGNALS = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated")}
STUCK = """
import time, snn2chip.writing as writing
def stuck(path):
    print("stuck", flush=True)
    time.sleep(300)
writing._sync = stuck
"""
IN_A_BATCH = """
import time
from snn2chip.train.resume import Seeds
def stuck(*given):
    print("stuck", flush=True)
    time.sleep(300)
Seeds.on_train_batch_start = stuck
"""
FULL = """
import resource, snn2chip.writing as writing
from contextlib import contextmanager
plain = writing._workspace
@contextmanager
def full(target):
    with plain(target) as space:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, -1))
        try:
            yield space
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
writing._workspace = full
"""
READ_ONLY = """
import errno, os, tempfile
def refuses(*given, **named):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), "somewhere")
tempfile.mkdtemp = refuses
"""


NEWER_PYTHON = """
import sys, types
import snn2chip_backends.lava.backend as backend
backend.sys = types.SimpleNamespace(version_info=(3, 12, 1, "final", 0), platform=sys.platform)
"""


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    """In a short folder: where a socket below the job's folder would be too deep, TMPDIR stays as it was."""
    with tempfile.TemporaryDirectory(prefix="s", dir="/tmp") as folder:
        prepare(Path(folder))
        made = Runner(Path(folder), False)
        yield made
        made.close()


def until(runner: Runner, condition: Callable[[], object], *, pid: int, seconds: float = 300.0) -> None:
    """Wait for `condition`; a command that ends before, or does not come so far, fails with what it said."""
    end = time.monotonic() + seconds
    while not condition():
        alive = Path(f"/proc/{pid}").exists()
        if not alive or time.monotonic() > end:
            if alive:
                os.kill(pid, signal.SIGKILL)
            raise AssertionError(f"ended with {runner.end()}: {runner.said.read_text()}")
        time.sleep(0.02)


def stuck(runner: Runner, pid: int) -> None:
    until(runner, lambda: runner.said.exists() and "stuck" in runner.said.read_text(), pid=pid)


def nothing_changed(runner: Runner, name: str) -> bool:
    """The earlier result is there and nothing else, here and among temporary files."""
    job, out = JOBS[name], runner.world / "out"
    return (
        {p.name for p in out.iterdir()} == {*job.files, *job.folders}
        and all(is_earlier(path) for path in out.iterdir())
        and list((runner.world / "tmp").iterdir()) == []
    )


@pytest.mark.parametrize("name", WRITERS)
def test_signals_in_the_middle_of_writing(runner: Runner, name: str) -> None:
    number = signal.SIGINT if list(JOBS).index(name) % 2 else signal.SIGTERM
    code, word = SIGNALS[number]
    clear(runner.world, JOBS[name], earlier=True)
    pid = runner.start(JOBS[name].argv, code=STUCK)
    stuck(runner, pid)
    os.kill(pid, number)
    assert runner.end() == code
    assert runner.said.read_text().splitlines()[-2:] == ["stuck", f"error: {word}"]
    assert nothing_changed(runner, name)


def test_signals_in_the_middle_of_training(runner: Runner) -> None:
    for number, (code, word) in SIGNALS.items():
        clear(runner.world, JOBS["train"], earlier=True)
        pid = runner.start(JOBS["train"].argv, code=IN_A_BATCH)
        stuck(runner, pid)
        os.kill(pid, number)
        assert runner.end() == code
        assert runner.said.read_text().splitlines() == ["stuck", f"error: {word}"]
        assert nothing_changed(runner, "train")


@pytest.mark.parametrize(
    ("fault", "why"), [(FULL, "File too large"), (READ_ONLY, "Read-only file system")], ids=["full", "read-only"]
)
def test_a_disk_that_does_not_take_it(runner: Runner, fault: str, why: str) -> None:
    """A limit on the size of files is what a full disk is: a write that comes back short."""
    for name, job in JOBS.items() if fault == FULL else [("compile", JOBS["compile"]), ("emit", JOBS["emit"])]:
        clear(runner.world, job, earlier=True)
        runner.start(job.argv, code=fault)
        code, said = runner.end(), runner.said.read_text()
        assert code == 3, (name, said)
        (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
        target = (*job.files, *job.folders)[0]
        assert line.startswith(f"error: out/{target}") or name == "train", line
        assert "cannot be written (" in line, line
        assert why in line, line
        assert line.endswith("what was there before is unchanged") or name == "train"
        assert "Traceback" not in said
        assert "Exception ignored" not in said
        assert nothing_changed(runner, name), (name, os.listdir(runner.world / "out"))


def test_streams_that_take_nothing(runner: Runner) -> None:
    """A closed output is no fault of the work; a full or broken one is a fault of the machine."""
    command = f"exec {sys.executable} -m snn2chip inspect m.s2c"
    for redirect, code, error in (
        ("", 0, ""),
        (">&-", 0, ""),
        (">&- 2>&- <&-", 0, ""),
        ("> /dev/full", 3, "No space left on device"),
        ("--no-such 2> /dev/full", 2, ""),
    ):
        done = subprocess.run(
            ["bash", "-c", f"{command} {redirect}"],
            cwd=runner.world,
            env=runner.environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, (redirect, done)
        assert error in done.stderr
        assert len(done.stderr.splitlines()) == bool(error)


def test_an_output_that_is_closed_does_not_end_up_in_the_result(runner: Runner) -> None:
    """Without care the first file gets the number of the closed stream, and the command prints into its own result."""
    out = clear(runner.world, JOBS["emit"], earlier=False)
    command = f"exec {sys.executable} -m snn2chip {' '.join(JOBS['emit'].argv)} >&- 2>&-"
    done = subprocess.run(["bash", "-c", command], cwd=runner.world, env=runner.environment(), timeout=120, check=False)
    assert done.returncode == 0
    assert all(b"run it:" not in path.read_bytes() for path in out.rglob("*") if path.is_file())


def test_two_commands_write_one_folder_and_the_last_one_stays(runner: Runner) -> None:
    out = clear(runner.world, JOBS["emit"], earlier=True)
    made = {}
    for layout in ("stock", "fused"):
        runner.start((*JOBS["emit"].argv, "--lava-layout", layout))
        assert runner.end() == 0
        made[layout] = {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    assert made["stock"] != made["fused"]
    for _ in range(2):
        both = [
            subprocess.Popen(
                [sys.executable, "-m", "snn2chip", *JOBS["emit"].argv, "--lava-layout", layout],
                cwd=runner.world,
                env=runner.environment(),
                stdout=subprocess.DEVNULL,
            )
            for layout in made
        ]
        assert [child.wait(timeout=120) for child in both] == [0, 0]
        assert {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()} in made.values()
        assert [p.name for p in out.iterdir()] == ["package"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import sys; sys.modules['lava'] = None", "lava-nc is not installed; pip install lava-nc==0.10.0"),
        (NEWER_PYTHON, "needs Python 3.10, this is 3.12"),
    ],
    ids=["not installed", "another Python"],
)
def test_lava_that_cannot_run_here(runner: Runner, code: str, words: str) -> None:
    for argv in (("run", "m.s2c", "--samples", "2", "--backend", "lava"), ("check", "m.s2c", "--backends", "lava")):
        runner.start(argv, code=code)
        assert runner.end() == 3
        assert words in runner.said.read_text()
        assert len(runner.said.read_text().splitlines()) == 1


def lava_processes(folder: Path) -> list[int]:
    """Processes of Lava runs whose job lies in `folder`, the first one first."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if b"snn2chip_backends.lava.child" in command and bytes(folder) in command:
            found.append(int(entry.name))
    return sorted(found)


@pytest.mark.lava
@pytest.mark.parametrize("who", ["SIGTERM to the command", "SIGINT to the command", "SIGKILL to its child"])
def test_the_end_of_a_command_that_runs_lava(runner: Runner, who: str) -> None:
    """Whoever dies: the exit code says so, no process goes on, no file stays."""
    tmp = runner.world / "tmp"
    pid = runner.start(("run", "m.s2c", "--samples", "400", "--backend", "lava"))
    until(runner, lambda: len(lava_processes(tmp)) > 4, pid=pid)
    victim = pid if "command" in who else lava_processes(tmp)[0]
    os.kill(victim, getattr(signal, who.split()[0]))
    code = runner.end()
    said: Any = runner.said.read_text()
    assert code == {"SIGTERM": 143, "SIGINT": 130, "SIGKILL": 3}[who.split()[0]], said
    assert said.startswith("error: ")
    assert ("died (signal 9)" in said) == ("child" in who)
    end = time.monotonic() + 30
    while lava_processes(tmp):
        assert time.monotonic() < end
        time.sleep(0.1)
    assert list(tmp.iterdir()) == []
