"""Arrays of a safetensors file where they lie: mapped read-only, not copied.

The pages of a mapped file are read when they are needed, shared between processes and given back when memory is short.
`snn2chip` writes every file beside its target and renames it, so that what is mapped stays the old file while a new one
takes its name. A file that others change in place (`cp` over it) changes what is mapped, and reading behind the end of
one that was cut ends the process. So the file stays open, and before weights are taken from it (`unchanged`) it has to
have the size and time of change that it was loaded with.
"""

from __future__ import annotations

import json
import mmap
import os
from typing import Any

import numpy as np

from snn2chip.errors import InputError

KINDS = {f"{sign}{bits}": f"<{kind}{bits // 8}" for sign, kind in (("I", "i"), ("U", "u")) for bits in (8, 16, 32, 64)}


class Held(mmap.mmap):
    """A mapped file that stays open, and what it was when it was opened."""

    path: str
    descriptor: int
    was: tuple[int, ...]

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> Held:
        """The file, mapped to be read. Raises OSError, ValueError (an empty file)."""
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            was = _identity(descriptor)  # before a byte is read
            held = cls(descriptor, 0, access=mmap.ACCESS_READ)
        except BaseException:
            os.close(descriptor)
            raise
        held.path, held.descriptor, held.was = os.fspath(path), descriptor, was
        return held

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)

    def check(self) -> None:
        """Raise InputError if the file was changed in place since."""
        try:
            now = _identity(self.descriptor)
        except OSError as error:  # a network file system lost it
            raise InputError(f"{self.path}: cannot be read any more ({error}); load it again") from error
        if now != self.was:
            raise InputError(
                f"{self.path}: changed in place after it was loaded ({self.was[0]} bytes then, {now[0]} now); weights"
                + " are read from it when they are needed: load it again, and put new files in its place by mv, not cp"
            )


def _identity(descriptor: int) -> tuple[int, ...]:
    said = os.fstat(descriptor)
    return said.st_size, said.st_mtime_ns, said.st_ino, said.st_dev


def unchanged(array: Any) -> Any:
    """The array; InputError where it lies in a mapped file that was changed in place since it was loaded."""
    owner = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, memoryview):
        owner = owner.obj
    if isinstance(owner, Held):
        owner.check()
    return array


def mapped(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The integer arrays of a file whose header the safetensors library has checked; read-only views of the file.

    Raises ValueError (arrays of other types, sizes that do not fit the file), OSError.
    """
    held = Held.of(path)
    start = 8 + int.from_bytes(held[:8], "little")
    table: dict[str, Any] = json.loads(held[8:start])
    table.pop("__metadata__", None)
    if other := [name for name, said in table.items() if said["dtype"] not in KINDS]:
        raise ValueError(f"arrays must be integers, but {', '.join(other)} are not")
    found = {}
    for name, said in table.items():
        kind, (first, last) = np.dtype(KINDS[said["dtype"]]), said["data_offsets"]
        count = (last - first) // kind.itemsize
        view: Any = np.frombuffer(held, kind, count, start + first) if count else np.zeros(0, kind)
        found[name] = view.reshape(said["shape"])
    return found
