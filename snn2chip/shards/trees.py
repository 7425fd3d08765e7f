"""Results as bytes: nested dicts and lists of plain values and arrays, as one `.npz` that holds JSON and the arrays.

Integers are written in the smallest type that holds them and equal arrays once; reading gives back type and value.
Nothing in such a file can run. A seal, which is the comment of the archive, says what the bytes are and their SHA-256.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from typing import Any

import numpy as np
from numpy.lib import format as numpy_format

from snn2chip.data.npz import DAMAGE, Archive, open_packed
from snn2chip.errors import FileFormatError
from snn2chip.ir.types import smallest_int

npy: Any = numpy_format
KEY = "$array"
TREE = "tree"
LEVEL = 1
WHOLE = re.compile(r"[<>|]?[iu][1248]|u?int(8|16|32|64)")
"""Names of the types of integers, which alone are stored in another type than their own."""
NO_COMMENT = b"\0\0"
"""The end of an archive: the length of its comment."""


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
    """The tree; FileFormatError for bytes that are damaged. What they declare is checked before memory is taken."""
    try:
        with open_packed(data, "the archive") as file:
            return _full(json.loads(file[TREE].tobytes()), file, {})
    except DAMAGE as error:
        if isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError):
            raise MemoryError(str(error)) from error
        raise FileFormatError(f"damaged ({error})") from error


def seal(data: bytes, mark: str) -> bytes:
    """The bytes that `pack` gave with a comment: `mark`, which says what they are, and their SHA-256."""
    note = f"{mark} {hashlib.sha256(data).hexdigest()}".encode()
    return data[: -len(NO_COMMENT)] + len(note).to_bytes(2, "little") + note


def unseal(sealed: bytes, mark: str) -> bytes:
    """The bytes that were sealed with `mark`; FileFormatError where they are not the same, or not these."""
    size = len(f"{mark} ") + 2 * hashlib.sha256().digest_size + len(NO_COMMENT)
    data = sealed[:-size] + NO_COMMENT
    if seal(data, mark) != sealed:
        raise FileFormatError(f"is not {mark} as it was written")
    return data


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


def _full(value: Any, file: Archive, arrays: dict[tuple[str, str], Any]) -> Any:
    if isinstance(value, dict):
        if set(value) == {KEY}:
            name, dtype = value[KEY]
            if (name, dtype) not in arrays:
                arrays[name, dtype] = _typed(file[name], dtype)
            return arrays[name, dtype]
        return {key: _full(x, file, arrays) for key, x in value.items()}
    return [_full(x, file, arrays) for x in value] if isinstance(value, list) else value


def _typed(x: Any, dtype: str) -> Any:
    """An array in the type that it had."""
    if str(x.dtype) == dtype:
        return x
    if x.dtype.kind not in "iu" or not WHOLE.fullmatch(dtype):
        raise ValueError(f"{x.dtype} in the place of {dtype}")
    return x.astype(np.dtype(dtype))
