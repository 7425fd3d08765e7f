"""A look at an HDF5 file's bytes before the library opens it, for damage that the library never returns from.

Texts of variable length live in global heap collections: `GCOL`, version, size, then objects of 16 bytes header
(index, references, reserved, size) and padded data; index 0 is the free rest. libhdf5 (1.14, 2.0) steps over a free
object by its size alone and loops for ever when that is 0; an object beyond the end of its heap makes it crash.
Layout: HDF5 file format specification, III.E.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

SIGNATURE = b"\x89HDF\r\n\x1a\n"
HEAP = b"GCOL\x01"
OBJECT = struct.Struct("<HHIQ")
LENGTH_AT = {0: 14, 1: 14, 2: 10, 3: 10}
"""Where a superblock of each version keeps the width of its lengths."""


def unreadable(path: Path, *, kind: str = ".net", writer: str = "lava-dl") -> str:
    """Why the HDF5 library must not open this file; empty if it may."""
    with path.open("rb") as file:
        head = file.read(16)
        if len(head) < 16 or not head.startswith(SIGNATURE):
            return f"damaged, truncated or not a {kind} (HDF5) file"
        if head[LENGTH_AT.get(head[8], 0)] != 8:
            return f"damaged superblock, or an HDF5 layout that {writer} does not write"
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            start = data.find(HEAP)
            while start >= 0:
                if _endless(data, start):
                    return f"damaged text heap at byte {start}"
                start = data.find(HEAP, start + 1)
    return ""


def _endless(data: mmap.mmap, start: int) -> bool:
    """Whether walking the heap collection at `start` stops moving before its end, or leaves it."""
    end = min(start + int.from_bytes(data[start + 8 : start + 16], "little"), len(data))
    at = start + OBJECT.size
    while at + OBJECT.size <= end:
        index, _, _, size = OBJECT.unpack_from(data, at)
        if (index == 0 and size == 0) or size > end - at:
            return True
        at += size if index == 0 else OBJECT.size + (size + 7) // 8 * 8
    return False
