"""Texts of variable length in an HDF5 file, read from its bytes: the library crashes on damaged ones.

A dataset holds 16 bytes per text: its length, the address of a heap collection, the number of an object in it. A
collection is `GCOL`, version 1, its size, then objects: a header of 16 bytes (number, references, reserved, size) and
data padded to 8; number 0 is the free rest. Layout: HDF5 file format specification, III.E and IV.B.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

ELEMENT, OBJECT = struct.Struct("<IQI"), struct.Struct("<HHIQ")
HEAD = b"GCOL\x01"


class Damaged(Exception):
    """Why the texts cannot be read."""


class Texts:
    """The texts of one file; collections are walked once."""

    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        self.heaps: dict[int, dict[int, tuple[int, int]]] = {}

    def of(self, dataset: Any, *, longest: int) -> list[str]:
        """The texts of a dataset in a row, each of `longest` bytes at most; raises Damaged."""
        start = dataset.id.get_offset()
        if start is None or dataset.chunks is not None:
            raise Damaged("stored in a way that nir does not write")
        if start + ELEMENT.size * dataset.size > len(self.data):
            raise Damaged("reaches beyond the end of the file")
        return [self._text(start + ELEMENT.size * i, longest) for i in range(dataset.size)]

    def _text(self, at: int, longest: int) -> str:
        length, address, number = ELEMENT.unpack_from(self.data, at)
        if not length:
            return ""
        found = self._heap(address).get(number)
        if found is None or length > found[1]:
            raise Damaged("refers to no text of this file")
        if length > longest:
            raise Damaged(f"a name of more than {longest} letters")
        return self.data[found[0] : found[0] + length].split(b"\0")[0].decode("utf8", "replace")

    def _heap(self, address: int) -> dict[int, tuple[int, int]]:
        if address in self.heaps:
            return self.heaps[address]
        if self.data[address : address + len(HEAD)] != HEAD:
            raise Damaged("refers to no text of this file")
        end = min(address + int.from_bytes(self.data[address + 8 : address + 16], "little"), len(self.data))
        objects: dict[int, tuple[int, int]] = {}
        at = address + OBJECT.size
        while at + OBJECT.size <= end:
            number, _, _, size = OBJECT.unpack_from(self.data, at)
            if not number:
                break
            if at + OBJECT.size + size > end:
                raise Damaged("a text reaches beyond its heap")
            objects[number] = (at + OBJECT.size, size)
            at += OBJECT.size + (size + 7) // 8 * 8
        self.heaps[address] = objects
        return objects
