"""What a captured run is made of: payloads in buffers, moves of the library, results in the caller's order."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snn2chip.ir.types import IntArray
from snn2chip_backends.torch.fused import CODES, channels_last, in_memory_order
from snn2chip_backends.torch.linear import Source
from snn2chip_backends.torch.synapses import Current

Array = NDArray[Any]
ARRAYS: dict[torch.dtype, Any] = {torch.int8: np.int8, torch.int16: np.int16, torch.int32: np.int32}


class NotCaptured(Exception):
    """The program does something that captured runs are not made for."""


@attrs.frozen
class Sent:
    """Payloads of a source: an array `[B, T or 1, neurons]` in memory order, and the row that makes them."""

    array: Array
    row: Array
    view: Tensor

    @property
    def fields(self) -> Source:
        """As a soma reads them: address, type, distance between steps and samples, bytes of a value."""
        _, steps, n = self.array.shape
        code = CODES[self.view.dtype]
        return self.array.ctypes.data, code, n if steps > 1 else 0, steps * n, self.array.itemsize


class LibraryMove:
    """A synapse or product as the ordinary way computes it, on views that stay the same."""

    targets_wanted = 1

    def __init__(self, make: Current, views: list[Tensor]) -> None:
        self.make, self.views = make, views
        self.targets: list[Array] = []
        self.alive: Tensor | None = None

    def __call__(self) -> None:
        """Compute it and say where it lies."""
        self.alive = out = in_memory_order(self.make(*self.views))
        t, b = out.stride()[:2]
        self.targets[0][:] = out.data_ptr(), CODES[out.dtype], t if len(out) > 1 else 0, b, out.itemsize


def view_of(array: Array, shape: tuple[int, ...]) -> Tensor:
    """Payloads `[B, T, neurons]` in memory order as `[T, B, *shape]` (see `fused.new_payloads`)."""
    whole = torch.from_numpy(array)
    if channels_last(shape):
        c, h, w = shape
        return whole.view(*array.shape[:2], h, w, c).permute(1, 0, 4, 2, 3)
    return whole.view(*array.shape[:2], *shape).transpose(0, 1)


def logical(array: Array, shape: tuple[int, ...], repeat: int) -> IntArray:
    """Values `[B, neurons]` in memory order as int64 `[B, classes]`, a copy."""
    if channels_last(shape):
        c, h, w = shape
        array = array.reshape(-1, h, w, c).transpose(0, 3, 1, 2).reshape(len(array), -1)
    wide = array.astype(np.int64)
    return wide * repeat if repeat != 1 else wide
