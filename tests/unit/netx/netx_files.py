"""Small `.net` files for tests: `write_net(path, layers)` writes lava-dl's HDF5 layout from plain dictionaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

NEURON = {"type": "CUBA", "iDecay": 1024, "vDecay": 128, "vThMant": 80}


def neuron(**changes: Any) -> dict[str, Any]:
    """A neuron group with some fields changed."""
    return {**NEURON, **changes}


def dense(weight: Any, **fields: Any) -> dict[str, Any]:
    """A dense layer with neurons; `neuron=None` leaves the group out."""
    weight = np.asarray(weight)
    return _layer({"type": "dense", "shape": np.array([weight.shape[0]]), "weight": weight, "neuron": NEURON}, fields)


def recurrent(weight: Any, weight_rec: Any, **fields: Any) -> dict[str, Any]:
    """A dense layer whose own neurons feed it too."""
    return dense(weight, type="dense_rec", weight_rec=np.asarray(weight_rec), **fields)


def delta(threshold: int, **fields: Any) -> dict[str, Any]:
    """A group of sigma-delta neurons."""
    return {"type": "SDNN", "activation": "relu", "vThMant": threshold, **fields}


def conv(weight: Any, shape: Sequence[int], **fields: Any) -> dict[str, Any]:
    """A conv layer that makes neurons of `shape` (torch order), stride 1, no padding."""
    plain = {"stride": np.array([1, 1]), "padding": np.array([0, 0]), "dilation": np.array([1, 1]), "groups": 1}
    base = {"type": "conv", "shape": np.array(shape), "weight": np.asarray(weight), "neuron": NEURON, **plain}
    return _layer(base, fields)


def inputs(shape: Sequence[int], **fields: Any) -> dict[str, Any]:
    """An input layer; without a neuron it only names the shape."""
    return _layer({"type": "input", "shape": np.array(shape)}, fields)


def flatten() -> dict[str, Any]:
    """A flatten layer."""
    return {"type": "flatten", "shape": np.array([1])}


def pool(weight: Any, shape: Sequence[int], **fields: Any) -> dict[str, Any]:
    """A pooling layer that makes neurons of `shape`, its kernel beside each other."""
    kernel = np.asarray(weight)
    base = {"type": "pool", "shape": np.array(shape), "weight": kernel[None, None], "neuron": NEURON}
    plain = {"stride": np.array(kernel.shape), "padding": np.array([0, 0]), "dilation": np.array([1, 1])}
    return _layer({**base, **plain}, fields)


def average(groups: int) -> dict[str, Any]:
    """A layer that averages groups of neurons."""
    return {"type": "average", "shape": np.array([groups, 1, 1])}


def _layer(base: dict[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in {**base, **fields}.items() if value is not None}


def write_net(path: Path, layers: Sequence[Mapping[str, Any]], *, sample: int | None = 16) -> Path:
    """Write the layers as lava-dl does: every value a dataset, the type a one-element fixed-length string."""
    with h5py.File(path, "w") as file:
        group = file.create_group("layer")
        for i, layer in enumerate(layers):
            _write(group.create_group(str(i)), layer)
        if sample is not None:
            _write(file.create_group("simulation"), {"Ts": 1, "tSample": sample})
    return path


def _write(group: Any, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, Mapping):
            _write(group.create_group(key), value)
        elif key == "type" and "vThMant" not in values and "shape" in values:
            group.create_dataset(key, (1,), "S10", [str(value).encode("ascii")])
        elif isinstance(value, str):
            group.create_dataset(key, data=value)
        else:
            group.create_dataset(key, data=np.asarray(value))
