"""Raw samples with their labels, in blocks: what `run` and `check` feed to a program.

`X.npz` holds `x` with samples first, `[N, ...]`, or `[N, T, ...]` when it holds every step, and optionally
labels `y` `[N]`; a program with several inputs takes `<input>` or `x/<input>` for each of them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from snn2chip.data.labels import check_labels
from snn2chip.data.npz import Member, open_npz
from snn2chip.errors import InputError
from snn2chip.ir.types import IntArray

Blocks = Callable[[int, int, int], Iterator[Mapping[str, Any]]]
"""`read(size, start, stop)`: samples `start` to `stop` in blocks of at most `size`, by input name `[n, ...]`."""
HASHED = 256
"""Samples hashed at a time."""


@attrs.frozen(kw_only=True)
class Samples:
    """`total` raw samples, read block by block.

    `shapes[name]`: shape of one sample (with its steps first when `time_axis`); `labels` int64 `[N]` or None;
    `classes` their names, when known. `read(size, start, stop)` yields `{name: [n, ...]}`; `rows(start, stop)`, where
    the only input can be read from anywhere, gives `[stop - start, ...]`; `files` is all that they are made of, when
    known.
    """

    name: str
    total: int
    shapes: Mapping[str, tuple[int, ...]]
    read: Blocks
    labels: IntArray | None = None
    classes: Sequence[str] = ()
    time_axis: bool = False
    rows: Callable[[int, int], Any] | None = None
    files: Sequence[Path] = ()

    def take(self, samples: int | None) -> Samples:
        """The first `samples` of them (all when None); raises InputError when there are fewer."""
        if samples is None:
            return self
        if samples < 1:
            raise InputError(f"--samples must be at least 1, got {samples}")
        if samples > self.total:
            raise InputError(f"{self.name} holds {self.total} samples, {samples} were asked for")
        return attrs.evolve(self, total=samples, labels=None if self.labels is None else self.labels[:samples])

    def blocks(
        self, size: int, *, start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[Mapping[str, Any], IntArray | None]]:
        """Blocks of at most `size` of samples `start` to `stop`: arrays by name `[n, ...]` and their labels."""
        for arrays in self.read(size, start, self.total if stop is None else min(stop, self.total)):
            n = len(next(iter(arrays.values())))
            yield arrays, None if self.labels is None else self.labels[start : start + n]
            start += n

    def digest(self) -> str:
        """SHA-256 of the samples: of the bytes of their files where these are known, else of the samples themselves.

        The number of samples taken is part of it, so that the first N of a file are not those of another N.
        """
        found = hashlib.sha256(repr((self.total, dict(self.shapes), self.time_axis)).encode())
        found.update(b"" if self.labels is None else self.labels.tobytes())
        for path in self.files:
            with path.open("rb") as stream:
                while data := stream.read(1 << 20):
                    found.update(data)
        if not self.files:
            for arrays, _ in self.blocks(HASHED):
                for name, x in arrays.items():
                    found.update(f"{name} {x.dtype}".encode() + np.ascontiguousarray(x).tobytes())
        return found.hexdigest()

    def arrays(self) -> tuple[dict[str, Any], IntArray | None]:
        """Everything at once: arrays by name `[N, ...]` and the labels."""
        parts = [arrays for arrays, _ in self.blocks(max(self.total, 1))]
        return {name: np.concatenate([part[name] for part in parts]) for name in self.shapes}, self.labels


def read_samples(
    path: str | os.PathLike[str],
    *,
    inputs: Sequence[str] = ("x",),
    steps_in_input: bool = False,
    wanted: Mapping[str, Sequence[int]] | None = None,
) -> Samples:
    """Samples of an `X.npz` for the inputs named; arrays are streamed, nothing is unpickled.

    `wanted` are shapes to tell of where arrays are missing. Raises InputError for a damaged file, missing arrays, or
    arrays of different length.
    """
    with open_npz(path) as file:
        names = set(file.files)
        labels = np.asarray(file["y"]) if "y" in names else None
    single = len(inputs) == 1 and "x" in names
    keys = {name: "x" if single else name if name in names else f"x/{name}" for name in inputs}
    missing = [name for name, key in keys.items() if key not in names]
    if missing:
        want = "'x' (samples first)"
        if len(inputs) > 1:
            shapes = {name: ["N", *(wanted or {}).get(name, ("...",))] for name in inputs}
            want = ", ".join(f"{name!r} [{', '.join(map(str, shape))}]" for name, shape in shapes.items())
        raise InputError(f"{path}: needs {want}; it holds {', '.join(sorted(names)) or 'nothing'}")
    members = {name: Member.open(path, key) for name, key in keys.items()}
    totals = {keys[name]: member.shape[0] for name, member in members.items()}
    if labels is not None:
        totals["y"] = len(labels) if labels.ndim else -1
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise InputError(f"{path}: 'y' must be whole numbers [N], got {labels.dtype} {list(labels.shape)}")
        check_labels(labels, None, name=str(path))
    if len(set(totals.values())) != 1:
        raise InputError(f"{path}: different numbers of samples: {totals}")
    total = next(iter(totals.values()))
    if total == 0:
        raise InputError(f"{path}: holds no samples")

    def read(size: int, start: int, stop: int) -> Iterator[Mapping[str, Any]]:
        streams = [member.blocks(size, start=start, limit=stop) for member in members.values()]
        for parts in zip(*streams, strict=True):
            yield dict(zip(members, parts, strict=True))

    return Samples(
        name=str(path),
        total=total,
        shapes={name: member.shape[1:] for name, member in members.items()},
        read=read,
        labels=None if labels is None else labels.astype(np.int64),
        time_axis=steps_in_input,
        files=(Path(path),),
    )


def from_arrays(name: str, x: Any, y: Any, *, classes: Sequence[str] = ()) -> Samples:
    """Samples that lie in memory: `x` `[N, ...]`, labels `y` `[N]`."""
    return lazily(name, len(x), x.shape[1:], lambda a, b: x[a:b], y, classes=classes)


def lazily(
    name: str,
    total: int,
    shape: tuple[int, ...],
    rows: Callable[[int, int], Any],
    y: Any,
    *,
    classes: Sequence[str] = (),
    time_axis: bool = False,
    files: Sequence[Path] = (),
) -> Samples:
    """Samples made on demand: `rows(start, stop)` gives `[stop - start, *shape]`."""

    def read(size: int, start: int, stop: int) -> Iterator[Mapping[str, Any]]:
        for first in range(start, stop, size):
            yield {"x": rows(first, min(first + size, stop))}

    return Samples(
        name=name,
        total=total,
        shapes={"x": tuple(shape)},
        read=read,
        labels=np.asarray(y, dtype=np.int64),
        classes=tuple(map(str, classes)),
        time_axis=time_axis,
        rows=rows,
        files=tuple(files),
    )
