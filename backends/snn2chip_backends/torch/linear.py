"""Linear synapses of captured runs: by events in 32-bit integers, or by the library, whichever costs less.

A row of payloads with E events costs about `N * SCAN + E * (EVENT + M * ADD)` by events, and the library
`CALL + N * M * PRODUCT`, whatever the payloads are: measured, in nanoseconds, on one core with AVX-512 and AMX. The
choice falls before every product, by the number of payloads other than 0 that the pass before has counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snn2chip.ir.nodes import Synapse
from snn2chip.ir.types import IntArray, PayloadType
from snn2chip_backends.torch import int8
from snn2chip_backends.torch import layout as at
from snn2chip_backends.torch.bounds import partial_bound
from snn2chip_backends.torch.fused import CODES, Pass
from snn2chip_backends.torch.somas import BINARY
from snn2chip_backends.torch.sparse import runs_sparse
from snn2chip_backends.torch.synapses import SMALL, as_stored

SCAN, EVENT, ADD = 0.1, 5.0, 0.055
CALL, PRODUCT = 20_000.0, 0.0012
FLOAT_CALL, FLOAT_PRODUCT = 8_000.0, 0.015
Array = NDArray[Any]
Source = tuple[int, int, int, int, int]
"""A current as the soma's row takes it: address, type, distance between steps and samples, bytes of a value."""


@attrs.frozen
class Columns:
    """Weights of a linear synapse for products by events: `[N, M]` int8 or int16, shifted by `exponent` afterwards."""

    weights: Array
    exponent: int
    binary: bool

    @staticmethod
    def of(synapse: Synapse, payload: PayloadType, shape: tuple[int, ...]) -> Columns | None:
        """Those of a synapse whose sums 32 bits provably hold, or None."""
        bound = partial_bound(synapse, payload.magnitude) << synapse.exponent
        if not by_columns(synapse) or bound >= 1 << 31:
            return None
        weights = as_stored(synapse.dense(), shape)
        reach = int(np.abs(weights).max(initial=0))
        if reach >= 1 << 15:
            return None
        kind = np.int8 if reach < 128 else np.int16
        return Columns(np.ascontiguousarray(weights.T.astype(kind)), synapse.exponent, payload in BINARY)

    def describe(self, d: IntArray, payloads: Array, code: int) -> Array:
        """Write the product with payloads `[B, T, N]` into a row; return its currents int32 `[B, T, M]`."""
        length, width = self.weights.shape
        out = np.zeros((*payloads.shape[:2], width), np.int32)
        d[at.OP], d[at.ROWS] = at.FEW_ROWS, out.shape[0] * out.shape[1]
        d[at.ROW_LENGTH], d[at.WIDTH], d[at.ROW_STEP] = length, width, length * payloads.itemsize
        d[at.PAYLOAD], d[at.PAYLOAD_CODE], d[at.BINARY] = payloads.ctypes.data, code, self.binary
        d[at.WEIGHT], d[at.WEIGHT_CODE] = self.weights.ctypes.data, at.INT8 if self.weights.itemsize == 1 else at.INT16
        d[at.EXPONENT], d[at.CURRENT] = self.exponent, out.ctypes.data
        return out

    def cost(self, rows: int, events: int) -> float:
        """Nanoseconds of rows that hold so many events together."""
        length, width = self.weights.shape
        return rows * length * SCAN + events * (EVENT + width * ADD)


def by_columns(synapse: Synapse) -> bool:
    """Whether its columns can be added up one by one: dense and linear, and not too many weights to hold them twice."""
    return synapse.kind == "linear" and not runs_sparse(synapse) and bool(synapse.stored.size <= SMALL)


def library_cost(columns: Columns, rows: int, digits: int) -> float:
    """Nanoseconds of the library for so many rows: in bytes, or in floats where there are no digits."""
    if not digits:
        return FLOAT_CALL + rows * columns.weights.size * FLOAT_PRODUCT
    return digits * (CALL + rows * columns.weights.size * PRODUCT)


def in_bytes(synapse: Synapse, payload: PayloadType, shape: tuple[int, ...]) -> list[Callable[[Tensor], Tensor]]:
    """Library products of bytes, one per digit of the payload; none where they are not exact or not there."""
    count = int8.digits(synapse, payload, partial_bound(synapse, 1))
    if not count or int8.products_of_bytes() is None:
        return []
    return int8.linear(as_stored(synapse.dense(), shape), 1 << synapse.exponent, count)


def from_rows(out: Array | Tensor, steps: int) -> Source:
    """Currents in rows `[B * T, M]` or `[B, T, M]`."""
    width = out.shape[-1]
    between = width if steps > 1 else 0
    if isinstance(out, Tensor):
        return out.data_ptr(), CODES[out.dtype], between, steps * width, out.itemsize
    return out.ctypes.data, at.INT32, between, steps * width, 4


class LinearMove:
    """One product before its soma: by events, or digit by digit in the library; writes where the currents lie."""

    def __init__(
        self,
        play: Pass,
        columns: Columns,
        payloads: Array,
        code: int,
        fired: Callable[[], int],
        products: list[tuple[Callable[[Tensor], Tensor], Tensor]],
    ) -> None:
        self.play, self.columns, self.fired, self.products = play, columns, fired, products
        self.tape = np.zeros((1, at.LENGTH), np.int64)
        self.by_events = columns.describe(self.tape[0], payloads, code)
        self.rows, self.steps = int(self.tape[0, at.ROWS]), payloads.shape[1]
        self.nothing = np.zeros(self.by_events.shape[-1], np.float32)
        self.alive: list[Tensor] = []
        self.targets: list[IntArray] = []
        self.library = library_cost(columns, self.rows, len(products))

    @property
    def targets_wanted(self) -> int:
        """Currents that the soma adds up."""
        return len(self.products)

    def __call__(self) -> None:
        """Whichever costs less for as many events as there are."""
        if self.columns.cost(self.rows, self.fired()) < self.library:
            self.play(self.tape)
            self.targets[0][:] = from_rows(self.by_events, self.steps)
            for target in self.targets[1:]:
                target[:] = (self.nothing.ctypes.data, at.FLOAT32, 0, 0, 4)
            return
        self.alive = [product(rows) for product, rows in self.products]
        for target, out in zip(self.targets, self.alive, strict=True):
            target[:] = from_rows(out, self.steps)


def in_rows(payloads: Array) -> Tensor:
    """Payload bytes `[..., N]` as rows of unsigned bytes."""
    return torch.from_numpy(payloads.view(np.uint8).reshape(-1, payloads.shape[-1]))
