"""Memory of the rows of a table: megabytes that a row adds to a process in which it has not run before.

`python -m benchmarks.peak QUESTION` builds the rows of a question and forks a process for each. What is there before
the first run (libraries, the network, the samples) is the start; the most that is resident beyond it in that run is the
row's figure, with everything that a first run makes and keeps. Rows that run in processes of their own measure
themselves: the largest sum over these processes (shared pages counted once) above the sum before the run.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.lowering.row import Memory
from benchmarks.table import Row, RowsOnly, rows_only

EVERY_S = 0.01


def extra_megabytes(work: Callable[[], Any]) -> float:
    """Most resident megabytes of this process while `work` runs, above those before (Linux)."""
    give_back()
    with Memory() as memory:
        kept = work()
    del kept
    return float(memory.extra)


def give_back() -> None:
    """Return memory that was freed to the system, or it would hide what is taken next."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
    if trim is not None:
        trim(0)


def forked(row: Row, *, threads: int, before: Callable[[], None] = lambda: None) -> float:
    """`extra_megabytes` of a row's first run, in a forked process; RuntimeError when it ends early.

    `before` runs there first: a fork has the libraries' pages, but touches each of them for the first time.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            from benchmarks.machine import limited_threads

            with limited_threads(threads):
                before()
                os.write(writing, f"{extra_megabytes(row.run)}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    if not answer:
        raise RuntimeError(f"{row.name}: the process that measures its memory ended early")
    return float(answer)


def of_rows(name: str, *, quick: bool, threads: int) -> dict[str, float]:
    """Megabytes by row of question `name`, in a process with no other work in it; {} where no row runs in-process."""
    words = [sys.executable, "-W", "ignore", "-m", "benchmarks.peak", name, "--threads", str(threads)]
    words += ["--quick"] if quick else []
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"memory of the rows of {name}: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


class SessionPeak:
    """Most megabytes of all processes of one session in a block, shared pages counted once, above those before."""

    def __init__(self, session: int) -> None:
        self.session = session
        self.most = self.start = 0.0
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> SessionPeak:
        self.most = self.start = session_megabytes(self.session)
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._watcher.join()

    @property
    def extra(self) -> float:
        """The figure, behind the block."""
        return self.most - self.start

    def _watch(self) -> None:
        while not self._done.is_set():
            self.most = max(self.most, session_megabytes(self.session))
            time.sleep(EVERY_S)


def session_megabytes(session: int) -> float:
    """Proportional set sizes of all processes of a session, in megabytes (Linux)."""
    total = 0
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[3]) != session:
                continue
            lines = (folder / "smaps_rollup").read_text().splitlines()
        except (OSError, IndexError, ValueError):  # it has just ended
            continue
        total += next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
    return total / 1024


def main(arguments: list[str] | None = None) -> int:
    """Print the megabytes by row as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peak", description=__doc__)
    parser.add_argument("question")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    from benchmarks.machine import limited_threads
    from benchmarks.questions import questions

    with limited_threads(1):  # before the fork nothing may start threads: a forked process has none of them
        warm_libraries()
        found: dict[str, float] = {}
        with rows_only():
            try:
                questions()[given.question](quick=given.quick, repeats=1)
            except RowsOnly as only:
                rows = [row for row in only.rows if row.peak is None]
                found = {row.name: forked(row, threads=given.threads, before=warm_libraries) for row in rows}
    print(json.dumps(found))
    return 0


def warm_libraries() -> None:
    """Load what any run loads (compiled passes, oneDNN, BLAS), so that it is not taken for the memory of a row."""
    import torch
    from torch import nn

    from benchmarks.networks import conv_net, mlp, pixels
    from benchmarks.numpy_loop import NumpyLoop
    from snn2chip.api import run
    from snn2chip.ir.program import Program

    def both(program: Program) -> None:
        for samples in (2, 64):  # few rows and many take other products
            for record in ("all", "outputs"):
                run(program, pixels(program, samples), record=record)

    small = mlp((20, 30, 10))
    both(small)
    both(conv_net(channels=4))
    NumpyLoop(small, reuse_first=True)(pixels(small, 2))
    with torch.inference_mode():
        nn.Conv2d(3, 4, 3)(torch.zeros(2, 3, 8, 8).contiguous(memory_format=torch.channels_last))
        nn.Conv2d(3, 4, 3)(torch.zeros(2, 3, 8, 8))


if __name__ == "__main__":
    sys.exit(main())
