"""The folders that torchvision and tonic leave behind, read where they lie.

MNIST/raw, FashionMNIST/raw     idx files, plain or gzipped (torchvision)
cifar-10-batches-py, cifar-100-python     read by torchvision itself, which checks their MD5
NMNIST/{Train,Test}/<digit>/*.bin         40-bit events (tonic)
CIFAR10DVS/events_np/<class>/*.npz        arrays t, x, y, p (spikingjelly); first 90 % of a class train
CIFAR10DVS/<class>/*.aedat4               read by tonic's data class itself; first 90 % of a class train
imagenet: {train,val}/<class>/*.JPEG      shorter side to 256, centre 224 x 224
imagenet200: the same                     shorter side to 64, centre 64 x 64
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from snn2chip.data.npz import open_npz
from snn2chip.data.packed import NMNIST_US, add_events
from snn2chip.data.samples import Samples, from_arrays, lazily
from snn2chip.errors import EnvironmentFault, InputError

DVS_SIZE = 128
MOST = 1 << 28
"""Bytes of an idx file."""
PICTURES = {".jpeg", ".jpg", ".png", ".webp"}


def idx(path: Path, split: str, steps: int | None) -> Samples:
    """MNIST-like idx files, `[N, 1, 28, 28]` 0..255."""
    stem = "t10k" if split == "test" else "train"
    x = _idx_array(path / f"{stem}-images-idx3-ubyte", axes=3)
    y = _idx_array(path / f"{stem}-labels-idx1-ubyte", axes=1)
    if len(x) != len(y):
        raise InputError(f"{path}: {len(x)} pictures, but {len(y)} labels")
    names = {"MNIST": "mnist", "FashionMNIST": "fashion_mnist"}
    return from_arrays(names.get(path.parent.name, path.parent.name), x[:, None], y)


def _idx_array(path: Path, *, axes: int) -> Any:
    packed = path.with_name(path.name + ".gz")
    try:
        with path.open("rb") if path.exists() else gzip.open(packed) as file:
            data = file.read(MOST + 1)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file (nor {packed.name})") from error
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{packed}: damaged ({error})") from error
    if len(data) > MOST:
        raise InputError(f"{path}: more than {MOST} bytes")
    head = 4 + 4 * axes
    shape = tuple(int(n) for n in np.frombuffer(data[4:head], ">u4")) if len(data) >= head else ()
    absurd = math.prod(max(n, 1) for n in shape) > MOST  # also beside an axis of 0, where the product says nothing
    if data[:4] != bytes((0, 0, 8, axes)) or len(data) != head + math.prod(shape) or absurd:
        raise InputError(f"{path}: not an idx file of bytes with {axes} axes")
    return np.frombuffer(data, np.uint8, offset=head).reshape(shape)


def cifar(path: Path, split: str, steps: int | None) -> Samples:
    """CIFAR-10 and CIFAR-100 as torchvision keeps them, `[N, 3, 32, 32]` 0..255."""
    try:
        from torchvision import datasets
    except ImportError as error:
        raise EnvironmentFault(
            f"{path}: reading it needs torchvision; install it with `pip install torchvision`"
        ) from error
    name = "cifar10" if path.name == "cifar-10-batches-py" else "cifar100"
    kind = datasets.CIFAR10 if name == "cifar10" else datasets.CIFAR100
    try:
        data = kind(str(path.parent), train=split == "train", download=False)
    except RuntimeError as error:
        raise InputError(f"{path}: incomplete or damaged ({error})") from error
    return from_arrays(name, data.data.transpose(0, 3, 1, 2), np.asarray(data.targets), classes=data.classes)


def nmnist(path: Path, split: str, steps: int | None) -> Samples:
    """N-MNIST as tonic keeps it, event counts `[N, T, 2, 34, 34]`."""
    assert steps is not None
    files, labels, classes = _by_class(path / split.capitalize(), {".bin"})

    def frames(file: Path, out: Any) -> None:
        raw = np.frombuffer(file.read_bytes(), np.uint8)
        if len(raw) % 5:
            raise InputError(f"{file}: {len(raw)} bytes are not a whole number of 5-byte events")
        x, y, high, mid, low = raw.reshape(-1, 5).T.astype(np.int64)
        if len(x) and max(x.max(), y.max()) >= 34:
            raise InputError(f"{file}: an event lies outside 34 x 34")
        add_events(out, ((high & 127) << 16) | (mid << 8) | low, x, y, high >> 7, length=NMNIST_US)

    return _framed("nmnist", files, labels, classes, frames, steps, 34)


def dvs_npz(path: Path, split: str, steps: int | None, *, size: int = DVS_SIZE) -> Samples:
    """CIFAR10-DVS, event counts `[N, T, 2, size, size]` in frames of equal length over each recording.

    With a `size` below 128 the event at (x, y) counts at (x*size // 128, y*size // 128).
    """
    assert steps is not None
    files, labels, classes = _by_class(path, {".npz"})

    def events(file: Path) -> Any:
        with open_npz(file) as data:
            return {key: np.asarray(data[key]) for key in "txyp"}

    return _dvs(files, labels, classes, events, split=split, steps=steps, size=size)


def dvs_tonic(path: Path, split: str, steps: int | None, *, size: int = DVS_SIZE) -> Samples:
    """CIFAR10-DVS through tonic's data class, counts as `dvs_npz`; nothing is downloaded.

    Raises EnvironmentFault without tonic, InputError without recordings.
    """
    assert steps is not None
    try:
        from tonic.datasets import CIFAR10DVS
    except ImportError as error:
        raise EnvironmentFault(f"{path} is read by tonic ({error}); install it with: pip install tonic") from error

    # of the same name, which is the folder's; always there, so that nothing is downloaded
    here: Any = type(CIFAR10DVS.__name__, (CIFAR10DVS,), {"_check_exists": lambda self: True})
    recordings = here(save_to=str(path.parent))
    order = sorted(range(len(recordings.data)), key=recordings.data.__getitem__)
    if not order:
        raise InputError(f"{path}: no recordings <class>/*.aedat4, as tonic.datasets.CIFAR10DVS leaves them")
    labels = np.array([recordings.targets[i] for i in order])
    classes = sorted(recordings.classes, key=recordings.classes.get)
    return _dvs(order, labels, classes, lambda index: recordings[index][0], split=split, steps=steps, size=size)


def _dvs(
    sources: Sequence[Any], labels: Any, classes: Sequence[str], events: Any, *, split: str, steps: int, size: int
) -> Samples:
    """Frames of recordings; `events(source)` has fields t, x, y, p."""
    keep = np.concatenate([_last_tenth(labels == c, test=split == "test") for c in range(len(classes))])
    keep.sort()

    def frames(source: Any, out: Any) -> None:
        found = events(source)
        t, x, y, p = (np.asarray(found[key]) for key in "txyp")
        kinds = {(a.ndim, len(a) if a.ndim else 0) for a in (t, x, y, p)}
        plain = all(a.dtype.kind in "biuf" and bool(np.isfinite(a).all()) for a in (t, x, y, p))
        if len(kinds) > 1 or t.ndim != 1 or not plain:
            raise InputError(f"{source}: t, x, y, p must be rows of numbers, one for each event")
        t, x, y, p = (a.astype(np.int64) for a in (t, x, y, p))
        outside = len(t) and (min(x.min(), y.min(), p.min()) < 0 or max(x.max(), y.max()) >= DVS_SIZE or p.max() > 1)
        if outside or (len(t) and int(t.max()) - int(t.min()) >= 1 << 40):
            raise InputError(f"{source}: an event lies outside {DVS_SIZE} x {DVS_SIZE}, two polarities and 2^40 us")
        if len(t):
            t = t - t.min()
            x, y = x * size // DVS_SIZE, y * size // DVS_SIZE
            add_events(out, t, x, y, p, length=int(t.max()) + 1)

    name = "cifar10_dvs" if size == DVS_SIZE else f"cifar10_dvs{size}"
    return _framed(name, [sources[i] for i in keep], labels[keep], classes, frames, steps, size)


def dvs48(path: Path, split: str, steps: int | None) -> Samples:
    """CIFAR10-DVS in frames of 48 x 48."""
    return dvs_npz(path, split, steps, size=48)


def dvs48_tonic(path: Path, split: str, steps: int | None) -> Samples:
    """CIFAR10-DVS in frames of 48 x 48, through tonic's data class."""
    return dvs_tonic(path, split, steps, size=48)


def _last_tenth(mask: Any, *, test: bool) -> Any:
    rows = np.flatnonzero(mask)
    cut = len(rows) - len(rows) // 10
    return rows[cut:] if test else rows[:cut]


def _framed(
    name: str, files: Sequence[Any], labels: Any, classes: Sequence[str], frames: Any, steps: int, size: int
) -> Samples:
    def rows(start: int, stop: int) -> Any:
        out = np.zeros((stop - start, steps, 2, size, size), np.int32)
        for i in range(start, stop):
            frames(files[i], out[i - start])
        return out

    return lazily(name, len(files), (steps, 2, size, size), rows, labels, classes=classes, time_axis=True)


def pictures(path: Path, split: str, steps: int | None, *, shorter: int = 256, size: int = 224) -> Samples:
    """ImageNet-like picture folders, `[N, 3, size, size]` 0..255: shorter side to `shorter`, centre crop."""
    files, labels, classes = _by_class(path / ("val" if split == "test" else "train"), PICTURES)

    def rows(start: int, stop: int) -> Any:
        return np.stack([_picture(file, shorter=shorter, size=size) for file in files[start:stop]])

    return lazily(path.name, len(files), (3, size, size), rows, labels, classes=classes, files=files)


def pictures64(path: Path, split: str, steps: int | None) -> Samples:
    """Picture folders, `[N, 3, 64, 64]`: shorter side to 64, centre crop."""
    return pictures(path, split, steps, shorter=64, size=64)


def _picture(file: Path, *, shorter: int, size: int) -> Any:
    from PIL import Image

    from snn2chip.data.picture import open_picture

    image = open_picture(file, what=str(file))
    w, h = image.size
    w, h = (shorter, shorter * h // w) if w <= h else (shorter * w // h, shorter)
    left, top = (w - size) // 2, (h - size) // 2
    pixels = image.resize((w, h), Image.Resampling.BILINEAR).crop((left, top, left + size, top + size))
    return np.asarray(pixels).transpose(2, 0, 1)


def _by_class(path: Path, suffixes: set[str]) -> tuple[list[Path], Any, list[str]]:
    if not path.is_dir():
        raise InputError(f"{path}: no such folder (one sub-folder per class is expected in it)")
    classes = sorted(entry.name for entry in path.iterdir() if entry.is_dir())
    files, labels = [], []
    for index, name in enumerate(classes):
        own = sorted(file for file in (path / name).iterdir() if file.suffix.lower() in suffixes)
        files += own
        labels += [index] * len(own)
    if not files:
        raise InputError(f"{path}: holds no {', '.join(sorted(suffixes))} files in folders by class")
    return files, np.asarray(labels, np.int64), classes
