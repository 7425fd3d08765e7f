"""Run Lava processes and notice at once when one of them raises, dies or hangs.

Lava itself waits for ever in these cases. Here the run is started without blocking; every few milliseconds the
actors' exceptions and exit codes are looked at. On trouble `NetworkFailure` names the process.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import queue
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lava.magma.core.model.py.model import PyLoihiModelToPyAsyncModel, PyLoihiProcessModel
from lava.magma.core.process.message_interface_enum import ActorType
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.magma.runtime.mgmt_token_enums import MGMT_RESPONSE, enum_equal
from lava.magma.runtime.runtime import Runtime

POLL_S = 0.02
STILL_S = 0.9


class NetworkFailure(RuntimeError):
    """A process of the network raised, died or hung; `process` is its name (or empty), `text` the whole story."""

    def __init__(self, process: str, text: str) -> None:
        super().__init__(text)
        self.process = process
        self.text = text


class AsyncSimCfg(Loihi2SimCfg):  # type: ignore[misc]
    """Loihi 2 simulation without the barrier of every step: models are converted to asynchronous ones."""

    def __init__(self) -> None:
        super().__init__(select_tag="fixed_pt")
        self.converted: dict[Any, Any] = {}

    def select(self, process: Any, models: Any) -> Any:
        """The fixed-point model of `process`, converted once."""
        model = super().select(process, models)
        if not issubclass(model, PyLoihiProcessModel):
            return model
        if model not in self.converted:
            self.converted[model] = PyLoihiModelToPyAsyncModel(model)
        return self.converted[model]


class WatchedRuntime(Runtime):  # type: ignore[misc]
    """Lava's Runtime whose waits can end."""

    names: list[str]
    check: Callable[[], None]

    def initialize(self, node_cfg_idx: int = 0) -> None:
        """As Lava's own, but a process that dies while it starts is noticed."""
        self._build_watchdog_manager()
        self._build_message_infrastructure()
        self._build_channels()
        self._build_sync_channels()
        with interrupts_ignored():  # Ctrl-C is for the main process, which ends the others
            self._build_processes()
            self._build_runtime_services()
        self._start_ports()
        for i, pending in enumerate(self.exception_q):
            while True:
                try:
                    error = pending.get(timeout=POLL_S)
                    break
                except queue.Empty:
                    self.check()
            if error is not None:
                raise NetworkFailure(self.names[i], f"raised while it started:\n{error.trace}")
        del self.exception_q
        self._is_initialized = True

    @property
    def actors(self) -> list[Any]:
        """The operating-system processes: one per Lava process, then the runtime services."""
        infrastructure = self._messaging_infrastructure
        return list(infrastructure.actors) if infrastructure is not None else []

    def raise_if_dead(self) -> None:
        """Raise NetworkFailure if an actor raised or is gone."""
        self.raise_exceptions()
        gone = {i: actor.exitcode for i, actor in enumerate(self.actors) if actor.exitcode is not None}
        if not gone:
            return
        # an exception may still be on the way; after one, Lava stops the other processes, which exit with 0
        end = time.monotonic() + (POLL_S if any(gone.values()) else 25 * POLL_S)
        while time.monotonic() < end:
            time.sleep(POLL_S / 4)
            self.raise_exceptions()
        number = max(gone, key=lambda i: gone[i] != 0)
        raise NetworkFailure(
            self.name_of(number), f"is gone: its operating-system process died ({describe_exit(gone[number])})"
        )

    def raise_exceptions(self) -> None:
        """Raise NetworkFailure with the traceback of the first actor that raised."""
        for i, actor in enumerate(self.actors):
            if actor.exception is not None:
                raise NetworkFailure(self.name_of(i), f"raised:\n{actor.exception[1]}")

    def name_of(self, number: int) -> str:
        """Name of an actor's Lava process."""
        return self.names[number] if number < len(self.names) else "runtime service"

    def kill(self) -> None:
        """End all actors and free the shared memory, whatever state they are in."""
        for actor in self.actors:
            if actor.exitcode is None:
                actor.kill()
        for actor in self.actors:
            multiprocessing.Process.join(actor, 5)  # Lava's own join closes the handle
        infrastructure = self._messaging_infrastructure
        if infrastructure is not None and infrastructure.smm is not None:
            infrastructure.smm.shutdown()
        self._is_started = False


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Processes forked in here do not react to Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def describe_exit(code: int) -> str:
    """`exit code 3` or `killed by SIGKILL`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


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
    pause = 0.001
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
        if not ready:
            runtime.check()
            if standstill.reached():
                where = waiting(runtime, stacks)
                raise NetworkFailure("", f"everybody waits for a message that nobody sends; {where}")
            time.sleep(pause)
            pause = min(pause * 1.5, POLL_S)


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
