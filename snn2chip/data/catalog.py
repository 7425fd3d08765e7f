"""Data sets by name: where each is looked for, and what to say when it is not there.

A data set is looked for in the folder named by SNN2CHIP_DATA, then in `./data`, first as a packed `.npz`, then
as the folder that torchvision or tonic leave behind. Nothing is downloaded. Samples are raw: pixels 0..255
(digits 0..16) as `[N, C, H, W]`, event counts as `[N, T, 2, H, W]`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from snn2chip.data import folders, packed
from snn2chip.data.samples import Samples, read_samples
from snn2chip.errors import InputError

ENV = "SNN2CHIP_DATA"
Reader = Callable[[Path, str, int | None], Samples]
"""`reader(path, split, steps)`; `steps` is how many frames events become (None where there are none)."""


@attrs.frozen
class Place:
    """One form in which a data set may lie in a root folder: `path` (must exist) and how to read it."""

    path: str
    reader: Reader


PLACES: Mapping[str, tuple[Place, ...]] = {
    "digits": (),
    "mnist": (Place("mnist.npz", packed.greyscale), Place("MNIST/raw", folders.idx)),
    "fashion_mnist": (Place("fashion_mnist.npz", packed.greyscale), Place("FashionMNIST/raw", folders.idx)),
    "cifar10": (Place("cifar10_test.npz", packed.mosaics), Place("cifar-10-batches-py", folders.cifar)),
    "cifar100": (Place("cifar-100-python", folders.cifar),),
    "nmnist": (Place("nmnist_small.npz", packed.events), Place("NMNIST", folders.nmnist)),
    "cifar10_dvs": (Place("CIFAR10DVS/events_np", folders.dvs_npz), Place("CIFAR10DVS", folders.dvs_tonic)),
    "cifar10_dvs48": (Place("CIFAR10DVS/events_np", folders.dvs48), Place("CIFAR10DVS", folders.dvs48_tonic)),
    "imagenet": (Place("imagenet", folders.pictures),),
    "imagenet200": (Place("imagenet200", folders.pictures64),),
}
DATA_NAMES = tuple(PLACES)
EVENTS = ("nmnist", "cifar10_dvs", "cifar10_dvs48")


def roots() -> list[Path]:
    """Folders that are searched, in order."""
    named = os.environ.get(ENV)
    try:
        own = [Path(named).expanduser()] if named else []
        for root in own:
            root.exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"{ENV}={named!r:.200} names no folder ({error!s:.200})") from error
    return [*own, Path("data")]


def find_data(name: str) -> Path | None:
    """Where data set `name` lies, or None when it is not there (digits come with scikit-learn: None)."""
    found = _find(name)
    return None if found is None else found[0]


def _find(name: str) -> tuple[Path, Reader] | None:
    for root in roots():
        for place in PLACES[name]:
            if (root / place.path).exists():
                return root / place.path, place.reader
    return None


def where_to_put(name: str) -> str:
    """One sentence that says which file or folder is expected where."""
    named = os.environ.get(ENV)
    forms = " or ".join(place.path for place in PLACES[name])
    root = f"{named} ({ENV})" if named else f"the folder named by the environment variable {ENV} (not set)"
    return f"put {forms} into {root} or ./data"


def open_data(
    name: str, *, split: str = "test", steps: int | None = None, inputs: Sequence[str] = ("x",), by_step: bool = False
) -> Samples:
    """Data set `name`, read block by block; `split` is "train" or "test", `steps` the frames of event data.

    digits: the stratified split with 25 % test samples, random_state 0 (1347 train, 450 test). The path of a file X.npz
    is a data set, too: the same samples for both splits, arrays by the names `inputs`, and `by_step` says that they
    hold every step.
    Raises InputError for an unknown name, a missing or damaged data set, or events without `steps`.
    """
    if split not in ("train", "test"):
        raise InputError(f"split must be 'train' or 'test', got {split!r}")
    if Path(name).suffix == ".npz":
        return read_samples(name, inputs=inputs, steps_in_input=by_step)
    if name not in PLACES:
        raise InputError(f"unknown data set {name!r}; known: {', '.join(DATA_NAMES)} (or the path of a file X.npz)")
    if name == "digits":
        return packed.digits(split)
    if name in EVENTS and (steps is None or steps < 1):
        raise InputError(f"data set {name!r} holds events; say into how many frames (steps >= 1), got {steps!r}")
    found = _find(name)
    if found is None:
        raise InputError(f"data set {name!r} is not here: {where_to_put(name)}")
    path, reader = found
    return reader(path, split, steps)


def load_data(name: str, *, split: str = "train", steps: int | None = None) -> tuple[Any, Any]:
    """All of data set `name`: raw samples `[N, ...]` (events `[N, T, 2, H, W]`) and int64 labels `[N]`.

    Raises InputError as `open_data`.
    """
    arrays, labels = open_data(name, split=split, steps=steps).arrays()
    return arrays["x"], labels
