"""What every kernel is made of: compilation, blocks that stay in the cache, and half precision as bits.

Kernels read and write matrices `[T,N]` of float32, or of uint16 that hold the bits of bfloat16. Nothing here is
compiled before the first call. There is no fast-math in what a neuron sends or keeps: products and sums are rounded
one by one, in the order of the torch code. Only `dot` and `total`, the sums over neurons that parameter gradients are
made of, may be reordered; they work on one block, and blocks are added in float64 in their own order.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import extending

from snn2chip.machine_code import kept

njit: Any = numba.njit

BLOCK = 1024  # neurons of one block: a few rows of it fit the first cache


def compiled(function: Callable[..., Any]) -> Any:
    """Return `function` compiled on its first call, kept on disk where a folder for it can be written."""
    return kept(function, sources=(str(Path(__file__).parent),))


def _inlined(function: Callable[..., Any], **options: Any) -> Any:
    return njit(nogil=True, error_model="numpy", **options)(function)


def intrinsic(function: Callable[..., Any]) -> Any:
    """Return numba's intrinsic of `function`."""
    made: Any = extending.intrinsic
    return made(function)


def overload(replaced: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Return the decorator that says by type what compiled code does where it calls `replaced`."""
    made: Any = extending.overload
    return made(replaced, jit_options={"error_model": "numpy"})


@intrinsic
def float_of(typing: Any, bits: Any) -> Any:
    """Float32 whose bits are those of a uint32."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return numba.types.float32(numba.types.uint32), build


@intrinsic
def bits_of(typing: Any, value: Any) -> Any:
    """Bits of a float32 as uint32."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(32))

    return numba.types.uint32(numba.types.float32), build


def widen(value: Any) -> Any:
    """Return float32 of an element: itself, or the bfloat16 whose bits it holds."""
    raise NotImplementedError  # compiled code only


@overload(widen)
def _widen(value: Any) -> Any:
    def same(value: Any) -> Any:
        return value

    def wider(value: Any) -> Any:
        return float_of(np.uint32(value) << np.uint32(16))

    return same if value == numba.types.float32 else wider


def narrow(value: Any, row: Any) -> Any:
    """Return a float32 as an element of `row`: itself, or the bits of the nearest bfloat16, ties to even."""
    raise NotImplementedError  # compiled code only


@overload(narrow)
def _narrow(value: Any, row: Any) -> Any:
    def same(value: Any, row: Any) -> Any:
        return value

    def rounded(value: Any, row: Any) -> Any:
        bits = bits_of(value)
        even = np.uint32(bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
        return np.uint16(even) if value == value else np.uint16(0x7FC0)

    return same if row.dtype == numba.types.float32 else rounded


@compiled
def begin(v0: Any, start: int, n: int, v: Any) -> None:
    """Write the potentials that neurons start .. start+n begin with: one for all `[1]`, or each its own `[N]`."""
    if v0.shape[0] == 1:
        for i in range(n):
            v[i] = v0[0]
    else:
        for i in range(n):
            v[i] = v0[start + i]


def _dot(a: Any, b: Any, n: int) -> Any:
    """Return sum a[i]*b[i] of the first n elements, in any order."""
    found = np.float32(0.0)
    for i in range(n):
        found += a[i] * b[i]
    return found


def _total(a: Any, n: int) -> Any:
    """Return the sum of the first n elements, in any order."""
    found = np.float32(0.0)
    for i in range(n):
        found += a[i]
    return found


dot = _inlined(_dot, fastmath={"reassoc", "nsz"})
total = _inlined(_total, fastmath={"reassoc", "nsz"})
