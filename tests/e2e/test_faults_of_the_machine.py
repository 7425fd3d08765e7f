"""Full and read-only disks, signals, closed streams, missing packages: one clear line, the exit code, nothing left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

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
READ_ONLY = """
import errno, os, tempfile
def refuses(*given, **named):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), "somewhere")
tempfile.mkdtemp = refuses
"""


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    world = tmp_path_factory.mktemp("machine")
    prepare(world)
    made = Runner(world, False)
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


def test_a_read_only_disk(runner: Runner) -> None:
    for name in ("compile", "emit"):
        job = JOBS[name]
        clear(runner.world, job, earlier=True)
        runner.start(job.argv, code=READ_ONLY)
        assert runner.end() == 3, runner.said.read_text()
        target = (*job.files, *job.folders)[0]
        assert runner.said.read_text().splitlines()[-1] == (
            f"error: out/{target}: cannot be written (Read-only file system); nothing was written, "
            "what was there before is unchanged"
        )
        assert nothing_changed(runner, name)


def test_streams_that_take_nothing(runner: Runner) -> None:
    """A closed output is no fault of the work; a full or broken one is a fault of the machine."""
    command = f"exec {sys.executable} -m snn2chip inspect m.s2c"
    for redirect, code, error in (
        ("", 0, ""),
        (">&-", 0, ""),
        (">&- 2>&- <&-", 0, ""),
        ("> /dev/full", 3, "No space left on device"),
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


def test_lava_that_is_not_installed(runner: Runner) -> None:
    for argv in (("run", "m.s2c", "--samples", "2", "--backend", "lava"), ("check", "m.s2c", "--backends", "lava")):
        runner.start(argv, code="import sys; sys.modules['lava'] = None")
        assert runner.end() == 3
        assert "lava-nc is not installed; pip install lava-nc==0.10.0" in runner.said.read_text()
        assert len(runner.said.read_text().splitlines()) == 1
