"""Files and backends as words that any process understands, opened once per process."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from snn2chip.checkpoint_tensors import file_sha256
from snn2chip.errors import InputError
from snn2chip.sources import source_digest

if TYPE_CHECKING:
    from snn2chip.data.feed import Feed, FeedSpec
    from snn2chip.ir.program import Program
    from snn2chip.registry import Backend


@attrs.frozen
class NamedFile:
    """A file by its path from the root and its SHA-256, so that every machine opens the same one."""

    path: str
    sha256: str

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> NamedFile:
        """The file as it is now; InputError where there is none."""
        found = Path(path).resolve()
        if not found.is_file():
            raise InputError(f"{path}: no such file")
        return cls(str(found), file_sha256(found))

    def check(self) -> None:
        """Raise InputError where another file has this path."""
        if not Path(self.path).is_file():
            raise InputError(f"{self.path}: no such file here; every worker must see the folders that are named")
        if file_sha256(self.path) != self.sha256:
            raise InputError(f"{self.path}: is another file here than when the shards were made")


@lru_cache(maxsize=2)
def program_of(file: NamedFile) -> Program:
    """The program in a file."""
    from snn2chip.api import load

    file.check()
    return load(file.path)


@lru_cache(maxsize=2)
def feed_of(file: NamedFile, samples: FeedSpec) -> Feed:
    """The samples for the program in a file; InputError where they are not all here."""
    return samples.open(program_of(file))


def work(verb: str, file: NamedFile, samples: FeedSpec) -> dict[str, Any]:
    """What every verb's results depend on: the program and the samples."""
    return {
        "verb": verb,
        "program": file.sha256,
        "samples": feed_of(file, samples).samples.digest(),
        "by_step": samples.steps_in_input,
    }


@attrs.frozen
class Engine:
    """A backend by name, with the options it is made with and its device."""

    name: str
    options: tuple[tuple[str, Any], ...] = ()
    device: str | None = None

    @classmethod
    def of(cls, backend: str | Backend, *, options: dict[str, Any], device: str | None) -> Engine:
        """How `backend` was named on a command line: `options` are those of Lava, `device` that of torch."""
        name = backend if isinstance(backend, str) else backend.name
        own = tuple(sorted(options.items())) if name == "lava" else ()
        return cls(name, own, device if name == "torch" else None)

    def ready(self, program: Program) -> Backend:
        """The backend; raises why it cannot run this program here."""
        from snn2chip.api import ready_backend
        from snn2chip.registry import get_backend

        made = get_backend(self.name, **dict(self.options)) if self.options else self.name
        return ready_backend(made, program, device=self.device)

    def words(self) -> list[Any]:
        """The same as plain values, and the sources of a backend that is not ours."""
        from snn2chip.registry import BUILT_IN, backend_module

        code = None if self.name in BUILT_IN else source_digest(backend_module(self.name))
        return [self.name, [list(pair) for pair in self.options], self.device, code]
