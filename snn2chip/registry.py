"""Backends by name, found through the entry-point group `snn2chip.backends` and loaded on first use."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol, runtime_checkable

from snn2chip.errors import EnvironmentFault, InputError
from snn2chip.ir.program import Program
from snn2chip.ir.types import IntArray
from snn2chip.trace import Trace

GROUP = "snn2chip.backends"
BUILT_IN = {
    "reference": "snn2chip_backends.reference:ReferenceBackend",
    "torch": "snn2chip_backends.torch:TorchBackend",
    "lava": "snn2chip_backends.lava:LavaBackend",
}


@runtime_checkable
class Backend(Protocol):
    """What a backend is: it runs coded payloads of one block of samples through a program.

    `run(program, {input: int64 [T, B, ...]}, record="all"|"outputs")` returns a Trace; every payload of every
    soma at every logical step and every read-out potential must equal the reference. `limits(program)`
    lists, with reasons, what it cannot do; `missing()` says why it cannot run here (None: it can);
    `block(program)` is how many samples it likes at a time.
    """

    name: str

    def run(self, program: Program, inputs: Mapping[str, IntArray], *, record: str = "all") -> Trace: ...

    def limits(self, program: Program) -> list[str]: ...

    def missing(self) -> str | None: ...

    def block(self, program: Program) -> int: ...


@lru_cache(maxsize=1)
def _entries() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        other = found.get(entry.name)
        if other is not None and other.value != entry.value:
            raise EnvironmentFault(
                f"two packages offer a backend called {entry.name!r}: {other.value} and {entry.value}; uninstall one"
            )
        found[entry.name] = entry
    for name, value in BUILT_IN.items():
        found.setdefault(name, EntryPoint(name=name, value=value, group=GROUP))
    return found


def backend_names() -> list[str]:
    """Names of all backends, the built-in ones first."""
    return [*BUILT_IN, *sorted(set(_entries()) - set(BUILT_IN))]


def backend_module(name: str) -> str:
    """The module that a backend comes from, which is not imported; InputError for an unknown name."""
    if name not in _entries():
        raise InputError(f"unknown backend {name!r}; known: {', '.join(backend_names())}")
    return _entries()[name].module


def get_backend(name: str, **options: Any) -> Backend:
    """Make the backend called `name`; options (such as `device`) go to its constructor.

    Raises InputError for an unknown name or option.
    """
    backend_module(name)
    cls = _entries()[name].load()
    try:
        backend = cls(**options)
    except TypeError as error:
        raise InputError(f"backend {name!r} does not take {', '.join(options)}: {error}") from error
    return backend
