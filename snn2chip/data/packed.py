"""Data sets packed as `.npz`: digits (with scikit-learn), MNIST and Fashion-MNIST, CIFAR-10, N-MNIST.

mnist.npz, fashion_mnist.npz   x_train, x_test uint8 [N, 28, 28]; y_train, y_test uint8 [N]
cifar10_test.npz, cifar10_train_*.npz
                               webp uint8, offsets [M+1]: mosaics of 25 x 40 pictures 32 x 32; y [N]; classes
nmnist_small.npz               ev_x_*, ev_y_*, ev_p_* uint8, ev_dt_* uint16 (microseconds between events),
                               offsets_* [N+1], label_* [N]
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from snn2chip.data.npz import Archive, Member, open_npz
from snn2chip.data.samples import Samples, from_arrays, lazily
from snn2chip.errors import InputError

NMNIST_US = 310_000
"""Length of an N-MNIST recording that is cut into frames, in microseconds; later events fall into the last."""


def digits(split: str) -> Samples:
    """scikit-learn's 1797 digits, `[N, 1, 8, 8]` 0..16: 1347 train and 450 test samples, stratified."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    x = data.images.astype(np.uint8)[:, None]
    x_train, x_test, y_train, y_test = train_test_split(
        x, data.target, test_size=0.25, stratify=data.target, random_state=0
    )
    names = [str(n) for n in range(10)]
    return from_arrays("digits", *((x_test, y_test) if split == "test" else (x_train, y_train)), classes=names)


def greyscale(path: Path, split: str, steps: int | None) -> Samples:
    """MNIST and Fashion-MNIST, `[N, 1, 28, 28]` 0..255."""
    pixels = Member.open(path, f"x_{split}")
    with open_npz(path) as file:
        labels = whole_row(file, f"y_{split}", length=pixels.shape[0])
        classes = class_names(file) if "classes" in file.files else [str(n) for n in range(10)]

    def read(size: int, start: int, stop: int) -> Iterator[Mapping[str, Any]]:
        return ({"x": block[:, None]} for block in pixels.blocks(size, start=start, limit=stop))

    return Samples(
        name=path.stem,
        total=pixels.shape[0],
        shapes={"x": (1, *pixels.shape[1:])},
        read=read,
        labels=labels.astype(np.int64),
        classes=classes,
        files=(path,),
    )


def mosaics(path: Path, split: str, steps: int | None) -> Samples:
    """CIFAR-10, `[N, 3, 32, 32]` 0..255; mosaics of 1000 pictures are decoded when they are reached."""
    files = [path] if split == "test" else sorted(path.parent.glob("cifar10_train_*.npz"))
    if not files:
        raise InputError(f"{path.parent}: the training half of CIFAR-10 (cifar10_train_0.npz, ..) is missing")
    sheets: list[bytes] = []
    labels, classes = [], []
    for part in files:
        with open_npz(part) as file:
            data = file["webp"].tobytes()
            sheets += [data[a:b] for a, b in pairwise(whole_row(file, "offsets", top=len(data)).tolist())]
            labels.append(whole_row(file, "y"))
            classes = class_names(file)
    y = np.concatenate(labels)
    if len(y) != 1000 * len(sheets):
        raise InputError(f"{path.parent}: {len(sheets)} mosaics of 1000 pictures, but {len(y)} labels")

    @lru_cache(maxsize=2)
    def sheet(index: int) -> Any:
        from snn2chip.data.picture import open_picture

        pixels = np.asarray(open_picture(io.BytesIO(sheets[index]), what=f"{path.parent}: mosaic {index} of CIFAR-10"))
        if pixels.shape != (25 * 32, 40 * 32, 3):
            raise InputError(f"{path.parent}: mosaic {index} of CIFAR-10 has the shape {list(pixels.shape)}")
        grid = pixels.reshape(25, 32, 40, 32, 3).swapaxes(1, 2).reshape(1000, 32, 32, 3)
        return np.ascontiguousarray(grid.transpose(0, 3, 1, 2))

    def rows(start: int, stop: int) -> Any:
        wanted = range(start // 1000, (stop - 1) // 1000 + 1)
        parts = [sheet(i)[max(start - 1000 * i, 0) : min(stop - 1000 * i, 1000)] for i in wanted]
        return np.concatenate(parts)

    return lazily("cifar10", len(y), (3, 32, 32), rows, y, classes=classes, files=files)


_TOPS = (("x", 33), ("y", 33), ("p", 1))
"""The largest numbers of an event."""


def events(path: Path, split: str, steps: int | None) -> Samples:
    """N-MNIST, event counts `[N, T, 2, 34, 34]`: frame of an event `min(t*T // 310 ms, T-1)`."""
    assert steps is not None
    frames = steps
    with open_npz(path) as file:
        dt = whole_row(file, f"ev_dt_{split}", top=1 << 32)
        x, y, p = (whole_row(file, f"ev_{k}_{split}", length=len(dt), top=t) for k, t in _TOPS)
        labels = whole_row(file, f"label_{split}")
        offsets = whole_row(file, f"offsets_{split}", length=len(labels) + 1, top=len(dt))

    def rows(start: int, stop: int) -> Any:
        out = np.zeros((stop - start, frames, 2, 34, 34), np.int32)
        for i in range(start, stop):
            part = slice(offsets[i], offsets[i + 1])
            t = np.cumsum(dt[part], dtype=np.int64)
            add_events(out[i - start], t, x[part], y[part], p[part], length=NMNIST_US)
        return out

    names = [str(n) for n in range(10)]
    shape = (frames, 2, 34, 34)
    return lazily("nmnist", len(labels), shape, rows, labels, classes=names, time_axis=True, files=[path])


def whole_row(file: Archive, key: str, *, length: int | None = None, top: int = 1 << 31) -> Any:
    """One row of whole numbers 0..top out of a data set, `length` of them; InputError for anything else."""
    row = file[key]
    fits = row.ndim == 1 and row.dtype.kind in "iu" and length in (None, len(row))
    if not fits or (len(row) and not 0 <= int(row.min()) <= int(row.max()) <= top):
        many = "" if length is None else f" of {length}"
        raise InputError(f"{file.path}: {key!r} must be a row{many} of whole numbers 0..{top}")
    return row


def class_names(file: Archive) -> list[str]:
    """Names of the classes; InputError where they are no row."""
    if (names := file["classes"]).ndim != 1:
        raise InputError(f"{file.path}: 'classes' must be a row of names")
    return [str(name) for name in names]


def add_events(frames: Any, t: Any, x: Any, y: Any, p: Any, *, length: int) -> None:
    """Count events into `frames` `[T, 2, H, W]`: frame `min(t*T // length, T-1)`, times in microseconds."""
    steps = len(frames)
    np.add.at(frames, (np.minimum(t * steps // length, steps - 1), p, y, x), 1)
