"""Arrays of a safetensors file where they lie: mapped read-only, not copied.

The pages of a mapped file are read when they are needed, shared between processes and given back when memory is short.
`snn2chip` writes every file beside its target and renames it, so that what is mapped stays the old file while a new one
takes its name. A file that others change in place (`cp` over it) changes what is mapped: write beside it and rename.
"""

from __future__ import annotations

import json
import mmap
import os
from typing import Any

import numpy as np

KINDS = {f"{sign}{bits}": f"<{kind}{bits // 8}" for sign, kind in (("I", "i"), ("U", "u")) for bits in (8, 16, 32, 64)}


def mapped(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The integer arrays of a file whose header the safetensors library has checked; read-only views of the file.

    Raises ValueError (arrays of other types, sizes that do not fit the file), OSError.
    """
    with open(path, "rb") as file:
        held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    start = 8 + int.from_bytes(held[:8], "little")
    table: dict[str, Any] = json.loads(held[8:start])
    table.pop("__metadata__", None)
    if other := [name for name, said in table.items() if said["dtype"] not in KINDS]:
        raise ValueError(f"arrays must be integers, but {', '.join(other)} are not")
    found = {}
    for name, said in table.items():
        kind, (first, last) = np.dtype(KINDS[said["dtype"]]), said["data_offsets"]
        count = (last - first) // kind.itemsize
        view: Any = np.frombuffer(held, kind, count, start + first) if count else np.zeros(0, kind)
        found[name] = view.reshape(said["shape"])
    return found
