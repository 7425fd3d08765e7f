"""`.npz` files from anywhere: opened without pickle, read row by row so that memory stays small.

What an array declares is held against what the archive stores of it before memory is taken: 10^12 declared numbers, and
a small member that expands without end, cost nothing to refuse.
"""

from __future__ import annotations

import io
import lzma
import math
import os
import struct
import sys
import tokenize
import warnings
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
KINDS = "biufcSU"
"""Kinds of numbers and texts that are read."""
BEST_RATIO = 1100
"""More than deflate ever reaches."""
FREE, RATIO = 1 << 28, 200
"""Bytes that are always read at once, and how much larger than stored more than that may be."""
SKIPPED = 1 << 20
"""Bytes read at a time where rows are skipped."""
DAMAGE = (
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


@attrs.frozen(kw_only=True)
class Header:
    """What an array in the archive says about itself: `size` in bytes of all its numbers."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    in_order: bool
    size: int


class Archive:
    """An open `.npz` file: `files` names its arrays, `archive[name]` reads one whole.

    `stored` is the size of the file, `free` how many bytes are read at once however few of them are stored.
    """

    def __init__(
        self, path: str | os.PathLike[str], archive: zipfile.ZipFile, stored: int, *, free: int = FREE
    ) -> None:
        self.path = path
        self._archive = archive
        self._stored = stored
        self._free = free
        names = archive.namelist()
        self.files = [name.removesuffix(".npy") for name in names if name.endswith(".npy")]

    def __contains__(self, name: object) -> bool:
        return name in self.files

    def __getitem__(self, name: str) -> Any:
        with self.stream(name) as (stream, header):
            if not header.size:
                return np.zeros(header.shape, header.dtype)
            self.check_size(name, header.size)
            array: Any = np.empty(header.size // header.dtype.itemsize, header.dtype)
            raw, at = memoryview(array.view(np.uint8)), 0
            while at < header.size and (part := stream.read(min(header.size - at, SKIPPED))):
                raw[at : at + len(part)] = part
                at += len(part)
            if at < header.size:
                raise InputError(f"{self.path}: {name!r} is cut off after {at} of {header.size} bytes")
            if header.dtype.kind == "U" and int(array.view(np.uint32).astype(">u4").max()) > sys.maxunicode:
                raise InputError(f"{self.path}: {name!r} holds texts that are none")
            return array.reshape(header.shape, order="C" if header.in_order else "F")

    @contextmanager
    def stream(self, name: str) -> Iterator[tuple[IO[bytes], Header]]:
        """The numbers of one array, from the first on, and its header; InputError for what is no plain array."""
        if name not in self.files:
            raise InputError(f"{self.path}: has no array {name!r}; it holds {', '.join(self.files) or 'nothing'}")
        info = self._archive.getinfo(f"{name}.npy")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(f"{self.path}: {name!r} is compressed in a way that NumPy does not write")
        with self._archive.open(info) as stream:
            header = _header(stream)
            most = min(info.file_size, BEST_RATIO * min(info.compress_size, self._stored))
            if header is None or header.dtype.kind not in KINDS or not header.dtype.itemsize:
                raise InputError(
                    f"{self.path}: {name!r} must be an array of numbers or texts; objects are never unpickled"
                )
            if min(header.shape, default=0) < 0 or header.size > most:
                raise InputError(f"{self.path}: {name!r} declares {list(header.shape)}, the file holds less")
            yield stream, header

    def check_size(self, name: str, size: int) -> None:
        """InputError for `size` bytes read at once of an array that is stored in a small fraction of them."""
        stored = self._archive.getinfo(f"{name}.npy").compress_size
        if size > max(self._free, RATIO * min(stored, self._stored)):
            raise InputError(f"{self.path}: {name!r} expands to {size} bytes from {stored}; store it uncompressed")


@contextmanager
def open_npz(path: str | os.PathLike[str]) -> Iterator[Archive]:
    """Open an `.npz` file for reading (`name in file`, `file[name]`, `file.files`).

    Raises InputError for a missing, damaged or pickled file, also while arrays are read inside the block.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file")
    with _told(path), open(path, "rb") as file:
        if file.read(len(npy.MAGIC_PREFIX)) == npy.MAGIC_PREFIX:
            raise InputError(f"{path}: a single array; save it as .npz with numpy.savez(path, x=..)")
        with zipfile.ZipFile(file) as archive:
            yield Archive(path, archive, os.path.getsize(path))


@contextmanager
def open_packed(data: bytes, name: str) -> Iterator[Archive]:
    """The same for the bytes of an `.npz` that this program made: counts compress well, so all that deflate can hold
    is read. What is damaged is an InputError that calls it `name`."""
    with _told(name), zipfile.ZipFile(io.BytesIO(data)) as archive:
        yield Archive(name, archive, len(data), free=sys.maxsize)


@contextmanager
def _told(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what damaged archives lead to into InputError."""
    try:
        yield
    except Snn2ChipError:
        raise
    except DAMAGE as error:
        raise InputError(f"{path}: damaged or not an .npz file of plain arrays ({_short(error)})") from error


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
        with open_npz(path) as file, file.stream(key) as (_, header):
            if header.dtype.kind not in "biuf" or not header.shape:
                what = f"{header.dtype} {list(header.shape)}"
                raise InputError(f"{path}: {key!r} must be an array of numbers with samples first, got {what}")
            file.check_size(key, header.size // max(header.shape[0], 1))
            return cls(str(path), key, header.shape, header.dtype, header.in_order)

    def blocks(self, size: int, *, limit: int | None = None, start: int = 0) -> Iterator[Any]:
        """Rows in blocks of `size`, from row `start` to row `limit` (to the end when None)."""
        total = self.shape[0] if limit is None else min(limit, self.shape[0])
        first = start
        if not self.in_order:
            whole = self.all()
            yield from (whole[start : min(start + size, total)] for start in range(first, total, size))
            return
        row = math.prod(self.shape[1:]) * self.dtype.itemsize
        with open_npz(self.path) as file, file.stream(self.key) as (stream, _):
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


def _skip(stream: IO[bytes], size: int) -> None:
    """Read past `size` bytes (a compressed member cannot be entered in the middle)."""
    while size > 0 and (data := stream.read(min(size, SKIPPED))):
        size -= len(data)


def _header(stream: IO[bytes]) -> Header | None:
    """The header of an array, None where the member is none."""
    if stream.peek(8)[:6] != npy.MAGIC_PREFIX:  # type: ignore[attr-defined]
        return None
    version = npy.read_magic(stream)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about headers of very old files
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    if dtype.hasobject or not all(isinstance(n, int) for n in shape):
        return None
    return Header(shape=tuple(shape), dtype=dtype, in_order=not fortran, size=math.prod(shape) * dtype.itemsize)


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
