"""Arrays of few values in few bits: how binary weights and spikes lie in a file.

    value = lo + step * code,   code in 0..2^bits - 1,   bits = 1, 2 or 4,   the first code in the lowest bits

Signed ones (-1, +1) take one bit each, ternary weights and payloads 0..2 two. Arrays of fewer than 1,024 numbers, and
those with more values, stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

LEAST = 1024
BLOCK = 1 << 16
WIDTHS = (1, 2, 4)
KINDS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))


def narrowed(arrays: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arrays as they are stored, and for each packed one `{bits, lo, step, dtype, shape}`."""
    stored, how = dict(arrays), {}
    for name, array in arrays.items():
        if array.size >= LEAST and (found := _width(array)) is not None:
            bits, lo, step = found
            stored[name] = _packed(array.ravel(), lo, step, bits)
            how[name] = {"bits": bits, "lo": lo, "step": step, "dtype": str(array.dtype), "shape": list(array.shape)}
    return stored, how


def widened(stored: Mapping[str, Any], how: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arrays of stored ones; ValueError where a declaration and its bytes do not fit."""
    arrays = dict(stored)
    for name, said in how.items():
        bits, lo, step = (int(said[key]) for key in ("bits", "lo", "step"))
        if said["dtype"] not in KINDS:
            raise ValueError(f"array {name!r} is packed from numbers of {said['dtype']!r:.80}")
        shape, kind = [int(n) for n in said["shape"]], np.dtype(said["dtype"])
        size = math.prod(shape)
        if bits not in WIDTHS or step not in (1, 2) or min(shape, default=1) < 0:
            raise ValueError(f"array {name!r} is packed in a way that is not known: {said!r:.80}")
        if stored[name].dtype != np.uint8 or stored[name].shape != (-(-size * bits // 8),):
            raise ValueError(f"array {name!r} declares {shape} numbers of {bits} bits, the file holds others")
        arrays[name] = np.empty(size, kind)
        for at in range(0, size, BLOCK):
            packed = stored[name][at * bits // 8 : (at + BLOCK) * bits // 8]
            values = lo + step * _codes(packed, bits)[: size - at].astype(np.int64)
            if values.min() < np.iinfo(kind).min or values.max() > np.iinfo(kind).max:
                raise ValueError(f"array {name!r} holds numbers that are no {kind}")
            arrays[name][at : at + BLOCK] = values
        arrays[name] = arrays[name].reshape(shape)
    return arrays


def _width(array: Any) -> tuple[int, int, int] | None:
    """Bits, lowest value and step of an array that takes less room packed."""
    lo, hi = int(array.min()), int(array.max())
    if hi - lo > 2 * (1 << WIDTHS[-1]):
        return None
    flat = array.ravel()
    parts = (flat[at : at + BLOCK] for at in range(0, flat.size, BLOCK))
    even = hi - lo > 1 and all(bool(((part & 1) == (lo & 1)).all()) for part in parts)
    step = 2 if even else 1
    return next(((bits, lo, step) for bits in WIDTHS if (hi - lo) // step < 1 << bits), None)


def _packed(flat: Any, lo: int, step: int, bits: int) -> Any:
    per, out = 8 // bits, np.empty(-(-len(flat) * bits // 8), np.uint8)
    for at in range(0, len(flat), BLOCK):
        codes = ((flat[at : at + BLOCK].astype(np.int64) - lo) // step).astype(np.uint8)
        rows = np.pad(codes, (0, -len(codes) % per)).reshape(-1, per) << (bits * np.arange(per, dtype=np.uint8))
        out[at * bits // 8 : (at + BLOCK) * bits // 8] = np.bitwise_or.reduce(rows, axis=1)
    return out


def _codes(packed: Any, bits: int) -> Any:
    per = 8 // bits
    return ((packed[:, None] >> (bits * np.arange(per, dtype=np.uint8))) & ((1 << bits) - 1)).ravel()
