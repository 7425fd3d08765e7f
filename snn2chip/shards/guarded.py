"""One shard in a worker: its result as bytes, or what went wrong as words; warnings come along."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import traceback
import warnings
from typing import Any, Protocol

import attrs

from snn2chip import errors
from snn2chip.errors import EnvironmentFault, Notice, Snn2ChipError
from snn2chip.shards.plan import Shard
from snn2chip.shards.trees import pack
from snn2chip.threads import torch_threads


class Job(Protocol):
    """What is done with a shard. Small, and understood by a process on another machine."""

    @property
    def floats(self) -> bool:
        """Whether floating-point numbers are computed: on one thread then, wherever it runs."""

    def run(self, shard: Shard) -> Any:
        """The results of one shard: dicts, lists, plain values, arrays."""


@attrs.frozen
class Failure:
    """An error as words: class name, message, traceback."""

    kind: str
    message: str
    trace: str

    def error(self, shard: Shard) -> Exception:
        """The error to raise, with the samples it is about."""
        text = f"{shard}: {self.message}"
        known = getattr(errors, self.kind, None)
        made: Exception
        if isinstance(known, type) and issubclass(known, Snn2ChipError):
            made = known(text)
        elif self.kind in ("MemoryError", "_ArrayMemoryError") or self.kind in _SYSTEM:
            made = EnvironmentFault(f"{shard}: {self.kind}: {self.message}")
        else:
            made = RuntimeError(f"{shard}: {self.kind}: {self.message}")
        made.__cause__ = WorkerTrace(self.trace)
        return made


class WorkerTrace(Exception):
    """The traceback of a worker, shown as the cause of what its error became here."""

    def __str__(self) -> str:
        return f"in a worker:\n{self.args[0]}"


@attrs.frozen
class Outcome:
    """What came of one shard."""

    shard: Shard
    data: bytes | None
    failure: Failure | None
    notices: tuple[tuple[str, str, str], ...] = ()


_SYSTEM = {"OSError", *(cls.__name__ for cls in OSError.__subclasses__())}
_ONE = threading.Lock()
_ADOPTED: set[int] = set()


def call(job: Job, shard: Shard, parent: int | None = None) -> Outcome:
    """Run one shard and never raise (Dask runs several in one process: one after the other, then).

    `parent` is the process whose child this is, if it is one: the worker leaves when it is gone.
    """
    if parent is not None and parent != os.getpid():
        _adopt(parent)
    with _ONE, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", Notice)
        try:
            with torch_threads(1) if job.floats else contextlib.nullcontext():  # sums of floats in one order
                return Outcome(shard, pack(job.run(shard)), None, _notices(told))
        except Exception as error:
            failure = Failure(type(error).__name__, str(error), traceback.format_exc())
            return Outcome(shard, None, failure, _notices(told))


def _notices(told: Any) -> tuple[tuple[str, str, str], ...]:
    """Class name, key and text of each, once."""
    found = [w.message for w in told if isinstance(w.message, Notice)]
    return tuple({notice.key: (type(notice).__name__, notice.key, str(notice)) for notice in found}.values())


def _adopt(parent: int) -> None:
    """Leave Ctrl-C to the parent, and leave when the parent is gone (once per process)."""
    if parent in _ADOPTED:
        return
    _ADOPTED.add(parent)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
