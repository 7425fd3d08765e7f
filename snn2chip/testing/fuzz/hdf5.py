"""Damage to HDF5 files (NIR, NetX): groups and datasets taken out, exchanged, linked elsewhere, made huge."""

from __future__ import annotations

import io
import random
from typing import Any

import h5py
import numpy as np

from snn2chip.testing.fuzz.values import TEXTS

HUGE = (1 << 20, 1 << 20)
KINDS = ("LIF", "IF", "CubaLIF", "LI", "Conv2d", "Linear", "Flatten", "NIRGraph", "Input", "Output", "SumPool2d",
         "AvgPool2d", "Delay", "Scale", "Threshold", "input", "conv", "dense", "dense_rec", "pool", "average",
         "flatten", "SDNN", "CUBA", "LOIHI", "RF_IZ", "os.system", "")  # fmt: skip


def hdf5_damage(data: bytes, rng: random.Random) -> bytes:
    """One to three places of a sound file damaged; what HDF5 itself refuses to write stays as it is."""
    stream = io.BytesIO(data)
    with h5py.File(stream, "r+") as file:
        for _ in range(rng.choice((1, 1, 2, 3))):
            names: list[str] = []
            file.visit(names.append)
            if names:
                try:
                    _damage(file, rng.choice(names), rng, other=rng.choice(names))
                except (ValueError, OSError, RuntimeError, TypeError, KeyError, OverflowError, MemoryError):
                    continue
    return stream.getvalue()


def _damage(file: Any, name: str, rng: random.Random, *, other: str) -> None:
    old, way = file[name], rng.randrange(10)
    if way == 0:
        del file[name]
    elif way == 1:
        file.move(name, name.rpartition("/")[0] + "/" + rng.choice(TEXTS)[:300])
    elif way == 2:
        value = file[other]
        del file[name]
        file.copy(value, name) if other != name else None
    elif way == 3:
        del file[name]
        file[name] = rng.choice(
            (h5py.SoftLink(f"/{other}"), h5py.SoftLink("/"), h5py.ExternalLink("/etc/passwd", "x"), file["/"])
        )
    elif way == 4:
        del file[name]
        file.create_dataset(name, shape=HUGE, dtype=rng.choice(("f4", "f8", "i8")), chunks=(16, 16))
    elif isinstance(old, h5py.Dataset):
        value = _value(old, rng)
        del file[name]
        file.create_dataset(name, data=value)
    else:
        file.create_dataset(f"{name}/{rng.choice(TEXTS)[:100]}", data=rng.choice((1.0, "x", 3)))


def _value(old: Any, rng: random.Random) -> Any:
    if h5py.check_string_dtype(old.dtype) is not None and rng.random() < 0.6:
        return rng.choice((*KINDS, *TEXTS))
    array = np.asarray(old[()])
    if array.dtype.kind not in "biuf" or rng.random() < 0.3:
        return rng.choice(
            (np.nan, np.inf, -1, 0, 1e308, 1 << 40, "text", b"\xff\xfe", np.zeros((0, 3)), np.ones((2, 3), complex),
             h5py.Empty("f8"), np.ones((3, 1, 2)), np.zeros((1 << 9, 1 << 9), np.int8), True)
        )  # fmt: skip
    values: Any = array.astype(np.float64)
    factor = rng.choice((0.0, -1.0, 0.5, 1e6, 1e30, np.nan, np.inf, 1.0))
    with np.errstate(all="ignore"):
        values = values * factor + rng.choice((0.0, 1.0, 0.3, -1e4))
    shaped = rng.choice((values, values.ravel(), values[..., None], values.ravel()[:1], values.T))
    return (
        shaped if rng.random() < 0.7 else np.nan_to_num(shaped).clip(-1e9, 1e9).astype(rng.choice(("i8", "i2", "f4")))
    )
