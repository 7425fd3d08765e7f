"""Results as bytes: nested dicts and lists of plain values and arrays, as one `.npz` that holds JSON and the arrays.

Integers are written in the smallest type that holds them and equal arrays once; reading gives back type and value.
Nothing in such a file can run.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from typing import Any

import numpy as np
from numpy.lib import format as numpy_format

from snn2chip.ir.types import smallest_int

npy: Any = numpy_format
KEY = "$array"
TREE = "tree"
LEVEL = 1


def pack(tree: Any) -> bytes:
    """The bytes of a tree. Keys are strings; tuples come back as lists."""
    arrays: dict[str, Any] = {}
    text = json.dumps(_flat(tree, arrays, {}))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as archive:
        for name, x in {TREE: np.frombuffer(text.encode(), np.uint8), **arrays}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                npy.write_array(member, x, allow_pickle=False)
    return stream.getvalue()


def unpack(data: bytes) -> Any:
    """The tree; ValueError for bytes that are damaged."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return _full(json.loads(arrays.pop(TREE).tobytes()), arrays)
    except (OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise ValueError(f"damaged ({error})") from error


def _flat(value: Any, arrays: dict[str, Any], seen: dict[bytes, str]) -> Any:
    if isinstance(value, dict):
        return {str(key): _flat(x, arrays, seen) for key, x in value.items()}
    if isinstance(value, (list, tuple)):
        return [_flat(x, arrays, seen) for x in value]
    if isinstance(value, np.generic):
        return value.item()
    if not isinstance(value, np.ndarray):
        return value
    small = np.ascontiguousarray(_smallest(value)).reshape(value.shape)
    mark = hashlib.sha256(f"{small.dtype} {small.shape}".encode() + small.tobytes()).digest()
    name = seen.setdefault(mark, f"a{len(seen)}")
    arrays[name] = small
    return {KEY: [name, str(value.dtype)]}


def _smallest(x: Any) -> Any:
    if x.dtype.kind not in "iu" or x.dtype == np.uint64 or x.size == 0:
        return x
    return x.astype(smallest_int(int(x.min()), int(x.max())), copy=False)


def _full(value: Any, arrays: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        if set(value) == {KEY}:
            name, dtype = value[KEY]
            return arrays[name].astype(np.dtype(dtype), copy=False)
        return {key: _full(x, arrays) for key, x in value.items()}
    return [_full(x, arrays) for x in value] if isinstance(value, list) else value
