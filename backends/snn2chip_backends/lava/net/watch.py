"""Run Lava processes and notice at once when one of them raises, dies or hangs.

Lava itself waits for ever in these cases. Here the run is started without blocking; every few milliseconds the
actors' exceptions and exit codes are looked at. On trouble `NetworkFailure` names the process.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import tempfile
import time
from collections.abc import Callable
from typing import Any

from lava.magma.core.process.message_interface_enum import ActorType
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.magma.runtime.mgmt_token_enums import MGMT_RESPONSE, enum_equal

from .runtime import POLL_S, AsyncSimCfg, NetworkFailure, WatchedRuntime

STILL_S = 0.9
"""Seconds without progress after which the threads' activity is compared with that of as much later."""

FIRST_S, SHARE = 0.0005, 0.02
"""The end of a run is noticed after so many seconds, or so much of the run's own time, but within `POLL_S`."""


def run_network(
    first: Any,
    steps: int,
    *,
    mode: str = "sync",
    limit_s: float = 600.0,
    channel_size: int = 2,
    progress: Callable[[], int] | None = None,
) -> dict[str, Any]:
    """Compile and run everything connected to process `first` for `steps` machine steps.

    `progress()` is the last machine step known to be done; with it a network in which everybody waits for a message
    is noticed long before the time limit. Returns seconds of compiling, starting and running, and the number of
    processes. Raises NetworkFailure; afterwards no actor and no shared memory is left in either case.
    """
    config = AsyncSimCfg() if mode == "async" else Loihi2SimCfg(select_tag="fixed_pt")
    deadline = time.monotonic() + limit_s
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as stacks:
        faulthandler.register(signal.SIGUSR1, file=stacks, all_threads=False)  # inherited by every actor
        marks = [time.monotonic()]
        executable = first.compile(config, {"pypy_channel_size": channel_size})
        marks.append(time.monotonic())
        runtime = WatchedRuntime(executable, ActorType.MultiProcessing)
        runtime.names = [process.name for process in executable.proc_builders]

        def check() -> None:
            runtime.raise_if_dead()
            if time.monotonic() > deadline:
                where = waiting(runtime, stacks)
                raise NetworkFailure("", f"not finished after the time limit of {limit_s:g} s; {where}")

        runtime.check = check
        try:
            executable.assign_runtime_to_all_processes(runtime)
            runtime.initialize()
            marks.append(time.monotonic())
            runtime.start(RunSteps(num_steps=steps, blocking=False))
            wait(runtime, Standstill(runtime, progress or (lambda: 0)), stacks)
            marks.append(time.monotonic())
        finally:
            runtime.kill()
    return {
        "processes": len(runtime.names),
        "steps": steps,
        "compile_s": marks[1] - marks[0],
        "start_s": marks[2] - marks[1],
        "run_s": marks[3] - marks[2],
        "steps_per_s": steps / max(marks[3] - marks[2], 1e-9),
    }


def wait(runtime: WatchedRuntime, standstill: Standstill, stacks: Any) -> None:
    """Until every runtime service says that the steps are done."""
    pending = list(runtime.service_to_runtime)
    begun = looked = time.monotonic()
    while pending:
        ready = [port for port in pending if port.probe()]
        for port in ready:
            answer = port.recv()
            pending.remove(port)
            if not enum_equal(answer, MGMT_RESPONSE.DONE):
                end = time.monotonic() + 1.0
                while time.monotonic() < end:
                    runtime.raise_if_dead()
                    time.sleep(POLL_S)
                raise NetworkFailure("", f"the runtime service answered {answer}")
        if ready:
            continue
        now = time.monotonic()
        if now - looked >= POLL_S:
            looked = now
            runtime.check()
            if standstill.reached():
                where = waiting(runtime, stacks)
                raise NetworkFailure("", f"everybody waits for a message that nobody sends; {where}")
        time.sleep(min(max(FIRST_S, (now - begun) * SHARE), POLL_S))


class Standstill:
    """Whether the network stopped for good: no progress, and no thread of any actor ran for a second."""

    def __init__(self, runtime: WatchedRuntime, progress: Callable[[], int]) -> None:
        self.runtime, self.progress = runtime, progress
        self.step, self.since = -1, time.monotonic()
        self.seen: tuple[Any, ...] | None = None

    def reached(self) -> bool:
        """Look again; cheap while there is progress."""
        now, step = time.monotonic(), self.progress()
        if step != self.step:
            self.step, self.since, self.seen = step, now, None
        elif now - self.since >= STILL_S:
            seen = activity([actor.pid for actor in self.runtime.actors])
            still = seen is not None and seen == self.seen
            self.since, self.seen = now, seen
            return still
        return False


def activity(pids: list[int]) -> tuple[Any, ...] | None:
    """How often each thread of these processes ran so far; None if one is running now or this cannot be known."""
    found: list[Any] = []
    try:
        for pid in pids:
            for task in sorted(os.listdir(f"/proc/{pid}/task")):
                with open(f"/proc/{pid}/task/{task}/stat") as file:
                    if file.read().rsplit(")", 1)[1].split()[0] != "S":
                        return None
                with open(f"/proc/{pid}/task/{task}/schedstat") as file:
                    found.append((task, file.read()))
    except OSError:
        return None
    return tuple(found)


def waiting(runtime: WatchedRuntime, stacks: Any) -> str:
    """Which process stands where: the innermost frame of its model, for every Lava process inside one."""
    found = []
    for name, actor in zip(runtime.names, runtime.actors, strict=False):
        if actor.exitcode is not None:
            continue
        frames = [line.strip() for line in stack_of(actor.pid, stacks) if "multiprocessing" not in line]
        model = next((f for f in frames if f.endswith((" in run_spk", " in __init__"))), "")
        if model:
            path, where = model.split('"')[1:3]
            found.append(f"  {name}: {os.path.join(*path.split(os.sep)[-3:])}{where.replace(',', '')}")
    text = "\n".join(found[:40])
    return f"processes inside their models:\n{text}" if found else "no process is inside its model"


def stack_of(pid: int, stacks: Any) -> list[str]:
    """Python stack of the main thread of `pid`, innermost frame first, through its faulthandler."""
    start = stacks.seek(0, os.SEEK_END)
    os.kill(pid, signal.SIGUSR1)
    for _ in range(20):
        time.sleep(0.005)
        stacks.seek(start)
        lines = stacks.read().splitlines()
        if lines and lines[-1].endswith(" in <module>"):
            break
    return list(lines)
