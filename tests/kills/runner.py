"""Runs commands that are going to be disturbed, with everything they write in one folder, the world."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
from world import Job

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LIMIT_S = 600.0


@attrs.define
class Runner:
    """Runs jobs in `world`: forked from a warm process, or (`fresh`) each in a Python of its own."""

    world: Path
    fresh: bool
    zygote: Any = None

    def __attrs_post_init__(self) -> None:
        (self.world / "tmp").mkdir()
        if not self.fresh:
            pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            command = [sys.executable, str(HERE / "zygote.py")]
            self.zygote = subprocess.Popen(command, env=self.environment(), cwd=self.world, **pipes)
            assert self.zygote.stdout.readline() == "ready\n", "the warm process did not start"

    def environment(self, **more: str) -> dict[str, str]:
        """One thread; this project first; temporary files inside the world."""
        paths = [str(ROOT / name) for name in (".", "backends", "models")]
        if more:
            paths.insert(0, str(HERE / "hook"))
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        own = {"PYTHONPATH": os.pathsep.join(paths), "TMPDIR": str(self.world / "tmp")}
        return {**os.environ, **one, **more, **own}

    def run(
        self, job: Job, *, kill_at: int | None = None, after: float | None = None, count: Path | None = None
    ) -> int:
        """The exit code of a job; -9 if it was killed at step `kill_at` or `after` so many seconds."""
        if self.fresh:
            return self._fresh(job, kill_at, after, count)
        pid = self.start(job.argv, kill_at=kill_at, count=None if count is None else str(count))
        if after is not None:
            time.sleep(after)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return self.end()

    def start(self, argv: Sequence[str], *, code: str = "", **order: Any) -> int:
        """Let the warm process fork a command, with `code` executed before it; its process id."""
        self.said.unlink(missing_ok=True)
        whole = {
            "argv": list(argv),
            "code": code,
            "cwd": str(self.world),
            "folder": str(self.world / "out"),
            "kill_at": None,
            "count": None,
            "said": str(self.said),
            **order,
        }
        self.zygote.stdin.write(json.dumps(whole) + "\n")
        self.zygote.stdin.flush()
        return int(self.zygote.stdout.readline())

    def end(self) -> int:
        """Wait for what was started; its exit code."""
        return int(self.zygote.stdout.readline())

    @property
    def said(self) -> Path:
        """What the command prints, both streams."""
        return self.world / "said.txt"

    def _fresh(self, job: Job, kill_at: int | None, after: float | None, count: Path | None) -> int:
        more = {"KILL_FOLDER": str(self.world / "out")}
        more |= {} if kill_at is None else {"KILL_AT": str(kill_at)}
        more |= {} if count is None else {"KILL_COUNT": str(count)}
        with open(self.said, "wb") as said:
            child = subprocess.Popen(
                [sys.executable, "-m", "snn2chip", *job.argv],
                cwd=self.world,
                env=self.environment(**more),
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                return child.wait(timeout=LIMIT_S if after is None else after)
            except subprocess.TimeoutExpired:
                child.kill()
                return child.wait()

    def close(self) -> None:
        """End the warm process."""
        if self.zygote is not None:
            self.zygote.stdin.close()
            self.zygote.wait()
