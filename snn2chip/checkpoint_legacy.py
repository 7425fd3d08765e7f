"""What a PyTorch file of the form before zip archives claims to hold, read off its pickles without running them.

Such a file is pickles (magic number, version, machine, object, keys), then the numbers. A tensor is mentioned as

    ('storage', type, key, location, numbers, None) persistent id, offset, (size, ..), (stride, ..)

and the library takes memory for so many numbers before it looks whether the file has them. Layout: torch.serialization,
legacy format.
"""

from __future__ import annotations

import pickletools
from typing import Any

NUMBERS = ("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "INT", "LONG")
NAMED = ("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE", "MARK")
TUPLES = ("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3")
PICKLES = 5
"""How many pickles stand before the numbers."""
STRANGE = "mentions its numbers in a way that PyTorch has not written for years; save it again"
Opcode = tuple[str, Any]


def overclaimed(data: bytes) -> str:
    """Why a file of these bytes, no zip archive, cannot hold the numbers it mentions; empty if it may."""
    claimed, start = 0, 0
    for _ in range(PICKLES):
        try:
            ops = [(op.name, argument, at or 0) for op, argument, at in pickletools.genops(data[start:])]
        except Exception:  # no pickle: the library says what is wrong
            break
        kept = [(name, argument) for name, argument, _ in ops if name not in NAMED]
        for index in (i for i, (name, _) in enumerate(kept) if name in ("BINPERSID", "PERSID")):
            found = _stored(kept[max(index - 3, 0) : index]), _reached(kept[index + 1 :])
            if None in found:
                return STRANGE
            claimed += found[0] or 0
            if max(claimed, found[1] or 0) > len(data):
                return f"mentions {max(claimed, found[1] or 0)} numbers in {len(data)} bytes"
        start += ops[-1][2] + 1
    return ""


def _stored(before: list[Opcode]) -> int | None:
    """How many numbers a storage has by its persistent id; None if they stand elsewhere."""
    names = [name for name, _ in before]
    fits = names[1:] == ["NONE", "TUPLE"] and names[0] in NUMBERS and before[0][1] >= 0
    return int(before[0][1]) if fits else None


def _reached(behind: list[Opcode]) -> int | None:
    """The number of the last element that a tensor reaches in its storage; None for what is no tensor."""
    if not behind or behind[0][0] not in NUMBERS:
        return None
    rows: list[list[int]] = [[]]
    for name, argument in behind[1:]:
        if name in NUMBERS:
            rows[-1].append(int(argument))
        elif name in TUPLES:
            rows.append([])
        else:
            return None
        if len(rows) == 3:
            break
    sizes, strides = rows[0], rows[1] if len(rows) == 3 else [-1]
    if len(sizes) != len(strides) or min([behind[0][1], *sizes, *strides]) < 0:
        return None
    return int(behind[0][1]) + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True) if size) + 1
