"""Integer types as objects: widths and ranges of weights, payloads and registers.

Ranges are inclusive. Register constants follow the integer machine: potentials saturate at
±(2^23 - 1), currents with a synaptic leak wrap at 24 bits, a threshold of 2^23 means "never".
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from snn2chip.errors import ParameterError

IntArray = NDArray[np.int64]

V_MAX = (1 << 23) - 1
"""Largest potential; the smallest is -V_MAX (sat24)."""

NEVER = 1 << 23
"""A threshold that no potential reaches."""

LEAK_ONE = 4096
"""Leak factors are in units of 1/4096."""

PAYLOAD_BITS = 24
"""Widest payload, sign included."""

SIGNS = ("mixed", "excitatory", "inhibitory")
WEIGHT_BITS = (1, "ternary", 2, 3, 4, 5, 6, 7, 8)


@attrs.frozen(kw_only=True)
class IntType:
    """A plain integer type: `bits` wide, two's complement when `signed`."""

    bits: int
    signed: bool = True

    @property
    def lo(self) -> int:
        """Smallest value."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def hi(self) -> int:
        """Largest value."""
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1


@attrs.frozen
class PayloadType:
    """The inclusive range `[lo, hi]` of a payload; 0 is always inside and means "no spike"."""

    lo: int
    hi: int

    @property
    def kind(self) -> str:
        """`binary`, `ternary`, `graded` (unsigned) or `signed`."""
        if self.lo == 0:
            return "binary" if self.hi <= 1 else "graded"
        return "ternary" if (self.lo, self.hi) == (-1, 1) else "signed"

    @property
    def magnitude(self) -> int:
        """Largest absolute value."""
        return max(abs(self.lo), abs(self.hi))

    @property
    def bits(self) -> int:
        """Bits of the smallest integer type that holds the range."""
        if self.lo >= 0:
            return max(1, self.hi.bit_length())
        return max(self.hi.bit_length(), (-self.lo - 1).bit_length()) + 1

    def dtype(self) -> type[np.signedinteger[Any]]:
        """Smallest signed NumPy type that holds the range."""
        return smallest_int(self.lo, self.hi)


@attrs.frozen
class WeightType:
    """Legal weight values of a declared width: 1 bit, ternary `{-1,0,+1}`, or 2..8 bits.

    `sign` follows the chips' own modes: `mixed` is two's complement (with 1 bit `{-1,+1}`), `excitatory` is
    `0..2^b-1`, `inhibitory` is `-(2^b-1)..0`.
    """

    bits: int | str
    sign: str = "mixed"

    @property
    def lo(self) -> int:
        """Smallest legal weight."""
        if self.bits == "ternary" or (self.bits == 1 and self.sign == "mixed"):
            return -1
        if self.sign == "excitatory":
            return 0
        return 1 - (1 << int(self.bits)) if self.sign == "inhibitory" else -(1 << (int(self.bits) - 1))

    @property
    def hi(self) -> int:
        """Largest legal weight."""
        if self.bits == "ternary" or (self.bits == 1 and self.sign == "mixed"):
            return 1
        if self.sign == "inhibitory":
            return 0
        return (1 << int(self.bits)) - 1 if self.sign == "excitatory" else (1 << (int(self.bits) - 1)) - 1

    def breaches(self, weight: IntArray, *, stored_only: bool = False) -> list[str]:
        """Say what is wrong with `weight`; `stored_only` lets a sparse ±1 matrix have absent entries."""
        if weight.size == 0:
            return ["has no weights"]
        lo, hi = int(weight.min()), int(weight.max())
        if lo < self.lo or hi > self.hi:
            return [f"weights {lo}..{hi} do not fit {self} ({self.lo}..{self.hi})"]
        if self.bits == 1 and self.sign == "mixed" and not stored_only and (weight == 0).any():
            return ["1-bit weights are -1 or +1, but some are 0; declare bits='ternary' or store them sparse"]
        return []

    def __str__(self) -> str:
        return f"{self.bits} bits {self.sign}" if self.bits != "ternary" else "ternary"


def smallest_int(lo: int, hi: int) -> type[np.signedinteger[Any]]:
    """Smallest signed NumPy integer type that holds `lo..hi`."""
    for dtype in (np.int8, np.int16, np.int32):
        if np.iinfo(dtype).min <= lo and hi <= np.iinfo(dtype).max:
            return dtype
    return np.int64


def as_int(value: object) -> IntArray:
    """Return `value` as a new read-only int64 array; floats must be whole numbers.

    Raises TypeError for anything that is not a whole number.
    """
    array = np.asarray(value)
    if array.dtype == np.bool_:
        array = array.astype(np.int64)
    if array.dtype.kind == "f" and (np.abs(array) < 2.0**63).all() and (array == np.rint(array)).all():
        array = array.astype(np.int64)
    if array.dtype.kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise ParameterError("values do not fit 64-bit integers")
    if array.dtype.kind not in "iu":
        raise ParameterError(f"expected whole numbers, got {array.dtype}")
    out: IntArray = np.array(array, dtype=np.int64)
    out.setflags(write=False)
    return out


def whole(value: object) -> int:
    """Return one whole number; raises TypeError for anything else, arrays of one entry and text too."""
    array = as_int(value)
    if array.ndim:
        raise ParameterError(f"expected one whole number, got {value!r}")
    return int(array)
