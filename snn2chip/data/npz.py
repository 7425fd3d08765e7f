"""`.npz` files from anywhere: opened without pickle, read row by row so that memory stays small."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import attrs
import numpy as np
from numpy.lib import format as numpy_format

from snn2chip.errors import InputError, Snn2ChipError

npy: Any = numpy_format
SKIPPED = 1 << 20
"""Bytes read past at a time."""


@contextmanager
def open_npz(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Open an `.npz` file for reading (`name in file`, `file[name]`, `file.files`).

    Raises InputError for a missing, damaged or pickled file, also while arrays are read inside the block.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file")
    try:
        file = np.load(path, allow_pickle=False, mmap_mode="r")
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise InputError(f"{path}: a single array; save it as .npz with numpy.savez(path, x=..)")
        with file:
            yield file
    except Snn2ChipError:
        raise
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: damaged or not an .npz file of plain arrays ({error})") from error


@attrs.frozen
class Member:
    """One array of an `.npz` file, read in blocks along its first axis."""

    path: str
    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    in_order: bool

    @classmethod
    def open(cls, path: str | os.PathLike[str], key: str) -> Member:
        """Read the array's header only; raises InputError when it is missing or holds no plain numbers."""
        with open_npz(path) as file:
            names = list(file.files)
        if key not in names:
            raise InputError(f"{path}: has no array {key!r}; it holds {', '.join(names) or 'nothing'}")
        with _stream(path, key) as stream:
            shape, fortran, dtype = _header(stream)
        if dtype.kind not in "biuf" or not shape:
            raise InputError(
                f"{path}: {key!r} must be an array of numbers with samples first, got {dtype} {list(shape)}"
            )
        return cls(str(path), key, tuple(shape), dtype, not fortran)

    def blocks(self, size: int, *, limit: int | None = None, start: int = 0) -> Iterator[Any]:
        """Rows in blocks of `size`, from row `start` to row `limit` (to the end when None)."""
        total = self.shape[0] if limit is None else min(limit, self.shape[0])
        first = start
        if not self.in_order:
            whole = self.all()
            yield from (whole[start : min(start + size, total)] for start in range(first, total, size))
            return
        row = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        with _stream(self.path, self.key) as stream:
            _header(stream)
            _skip(stream, first * row)
            for start in range(first, total, size):
                n = min(size, total - start)
                data = stream.read(n * row)
                if len(data) != n * row:
                    raise InputError(f"{self.path}: {self.key!r} is cut off after {start} samples")
                yield np.frombuffer(data, dtype=self.dtype).reshape(n, *self.shape[1:])

    def all(self) -> Any:
        """The whole array."""
        with open_npz(self.path) as file:
            return file[self.key]


@contextmanager
def _stream(path: str | os.PathLike[str], key: str) -> Iterator[IO[bytes]]:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as stream:
            yield stream
    except Snn2ChipError:
        raise
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: {key!r} is damaged ({error})") from error


def _skip(stream: IO[bytes], size: int) -> None:
    """Read past `size` bytes (a compressed member cannot be entered in the middle)."""
    while size > 0 and (data := stream.read(min(size, SKIPPED))):
        size -= len(data)


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(stream)
    shape, fortran, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(stream)
    return shape, fortran, dtype
