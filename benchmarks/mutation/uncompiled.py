"""Run numba's kernels as the Python that they are, so that their lines are seen and a change of them acts at once."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np


def uncompile() -> None:
    """Put plain Python in the place of numba's compiler, its intrinsics and its arrays at an address."""
    import numba
    import numba.extending

    def same(*given: Any, **_: Any) -> Any:
        return given[0] if given and callable(given[0]) and not _signature(given[0]) else lambda function: function

    def intrinsic(*given: Any, **_: Any) -> Any:
        return _address if given else lambda function: _address

    numba.njit = same
    numba.carray = _array
    numba.prange = range
    numba.extending.intrinsic = intrinsic


def _signature(value: Any) -> bool:
    from numba.core.typing import Signature

    return isinstance(value, Signature)


_address: Callable[[int], int] = int


def _array(address: int, shape: tuple[int, ...] | int, dtype: Any) -> Any:
    sizes = shape if isinstance(shape, tuple) else (shape,)
    wide = np.dtype(dtype)
    raw = (ctypes.c_char * (int(np.prod(sizes)) * wide.itemsize)).from_address(int(address))
    return np.frombuffer(raw, dtype=wide).reshape(sizes)
