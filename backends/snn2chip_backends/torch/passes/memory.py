"""What every compiled pass is made of: machine addresses as arrays, and how parts of passes are compiled."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, attr-defined, call-arg"

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

njit: Any = numba.njit
inlined = njit(nogil=True, error_model="numpy")


@intrinsic
def pointer(typing_context, address):
    """A machine address as a pointer that `numba.carray` takes."""

    def build(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), build


@inlined
def i8(address, n):
    return numba.carray(pointer(address), (n,), dtype=np.int8)


@inlined
def i16(address, n):
    return numba.carray(pointer(address), (n,), dtype=np.int16)


@inlined
def i32(address, n):
    return numba.carray(pointer(address), (n,), dtype=np.int32)


@inlined
def i64(address, n):
    return numba.carray(pointer(address), (n,), dtype=np.int64)


@inlined
def f32(address, n):
    return numba.carray(pointer(address), (n,), dtype=np.float32)


@inlined
def f64(address, n):
    return numba.carray(pointer(address), (n,), dtype=np.float64)
