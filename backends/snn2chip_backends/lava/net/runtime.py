"""Lava's runtime with waits that can end: dead and raising processes are noticed and named."""

from __future__ import annotations

import multiprocessing
import queue
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lava.magma.core.model.py.model import PyLoihiModelToPyAsyncModel, PyLoihiProcessModel
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.magma.runtime.runtime import Runtime

POLL_S = 0.02


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
