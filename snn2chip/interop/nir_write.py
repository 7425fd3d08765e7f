"""Write a `.nir` file (HDF5) in the layout of nir 1.0.8: whole or not at all, no number as a scalar array.

`nodes`: name -> fields, `type` among them; arrays are stored compressed, whole numbers and texts as scalars.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np

from snn2chip.ir.files import replacing
from snn2chip.origin import origin

VERSION = "1.0.8"
Fields = Mapping[str, Any]


def write_nir(
    path: str | os.PathLike[str],
    nodes: Mapping[str, Fields],
    edges: Sequence[tuple[str, str]],
    *,
    metadata: Mapping[str, Any] | None = None,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write a graph of primitives; `metadata` (nested mappings of texts, numbers and arrays) goes beside the nodes.

    `about` (plain JSON) goes with versions and command into the file's attribute `snn2chip`.
    """
    text = h5py.string_dtype()
    image = io.BytesIO()  # HDF5 brings the process down where a disk is full
    with h5py.File(image, "w") as file:
        file.attrs["snn2chip"] = json.dumps({**(about or {}), **origin()})  # readers of NIR look at groups only
        file.create_dataset("version", data=VERSION, dtype=text)
        root = file.create_group("node")
        root.create_dataset("type", data="NIRGraph", dtype=text)
        root.create_dataset("edges", data=np.array([list(e) for e in edges], dtype=object), dtype=text)
        inner = root.create_group("nodes")
        for name, fields in nodes.items():
            _write(inner.create_group(name), fields)
        if metadata:
            _write(root.create_group("metadata"), metadata)
    with replacing(path) as part:
        part.write_bytes(image.getbuffer())


def _write(group: Any, fields: Mapping[str, Any]) -> None:
    for key, value in fields.items():
        if isinstance(value, Mapping):
            _write(group.create_group(key), value)
        elif isinstance(value, str):
            group.create_dataset(key, data=value, dtype=h5py.string_dtype())
        elif isinstance(value, np.ndarray) and value.ndim:
            group.create_dataset(key, data=value, compression="gzip")
        else:
            group.create_dataset(key, data=value)
