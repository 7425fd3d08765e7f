"""Small counts over arrays of payloads: set bits, bins, first steps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn2chip.ir.types import IntArray, PayloadType
from snn2chip.reports.reach import Flags

EXACT_VALUES = 1024
"""A payload range of at most so many values has one bin per value, a wider one a bin per sign and bit length."""


def set_bits(magnitude: NDArray[Any]) -> NDArray[np.uint8]:
    """Number of ones in the binary form of whole numbers below 2^31."""
    found = np.zeros(magnitude.shape, np.uint8)
    rest = magnitude.astype(np.uint32)
    while rest.any():
        found += (rest & 1).astype(np.uint8)
        rest >>= 1
    return found


def bin_edges(kind: PayloadType) -> list[tuple[int, int]]:
    """Inclusive `(lo, hi)` of the histogram's bins over the payload's range, in increasing order."""
    lo, hi = min(kind.lo, 0), max(kind.hi, 0)
    if hi - lo < EXACT_VALUES:
        return [(v, v) for v in range(lo, hi + 1)]
    up = [(1 << b, min((1 << (b + 1)) - 1, hi)) for b in range(hi.bit_length())]
    down = [(max(1 - (1 << (b + 1)), lo), -(1 << b)) for b in reversed(range((-lo).bit_length()))]
    return [*down, (0, 0), *up]


def first_steps(fired: Flags) -> IntArray:
    """How many trains `[T, B, ...]` begin at step t; the last entry: how many never do."""
    seen = np.zeros(fired.shape[1:], dtype=bool)
    begun = [0]
    for row in fired:
        seen |= row
        begun.append(int(np.count_nonzero(seen)))
    return np.append(np.diff(begun), seen.size - begun[-1])


def histogram(payload: NDArray[Any], bins: list[tuple[int, int]]) -> IntArray:
    """Payloads in every bin."""
    lo, hi = bins[0][0], bins[-1][1]
    if len(bins) == hi - lo + 1:
        return np.bincount((payload.ravel() - lo), minlength=len(bins)).astype(np.int64)
    starts = np.array([a for a, _ in bins])
    at = np.searchsorted(starts, payload.ravel(), side="right") - 1
    return np.bincount(at, minlength=len(bins)).astype(np.int64)


def delayed(flags: Flags, delay: int) -> Flags:
    """Flags `[T, ...]` so many steps later; what falls behind the last step is lost."""
    if delay == 0:
        return flags
    late = np.zeros_like(flags)
    late[delay:] = flags[: max(len(flags) - delay, 0)]
    return late
