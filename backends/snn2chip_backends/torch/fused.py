"""The soma of a whole sample in one compiled pass over memory, where numba is installed and 32 bits are proven enough.

`passes` reads what `layout` describes. Neurons lie in memory as oneDNN's convolutions write them: channels last
for shapes `[C, H, W]`, row by row otherwise; payloads and potentials are made in that order, seen as `[T, B, *shape]`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snn2chip.ir.soma import Soma
from snn2chip.ir.types import LEAK_ONE, IntArray
from snn2chip_backends.torch import layout as at
from snn2chip_backends.torch.bounds import SomaBounds

RUN = 2048
"""Neurons that go through all steps together: a handful of int32 rows of them stay in the first-level cache."""
ALONE = 1 << 18
"""Neuron updates from which threads share a pass."""
COUNTED = (1 << 31) - 1
"""What 32-bit counts may reach before they go to 64 bits."""
CODES = {
    torch.float32: at.FLOAT32,
    torch.float64: at.FLOAT64,
    torch.int8: at.INT8,
    torch.int16: at.INT16,
    torch.int32: at.INT32,
    torch.int64: at.INT64,
}
RESETS = {
    "subtract": at.SUBTRACT,
    "zero": at.VALUE,
    "value": at.VALUE,
    "clamp": at.CLAMP,
    "drop": at.DROP,
    "subtract-delayed": at.DELAYED,
}
FIRES = {"excess": at.EXCESS, "table": at.TABLE, "relay": at.RELAY, "none": at.SILENT}
Pass = Callable[[NDArray[np.int64]], None]
"""`play(rows)`: one compiled pass after the other, each described by a row of int64."""


@lru_cache(maxsize=1)
def compiled_pass() -> Pass | None:
    """What plays a tape of compiled passes, or None where numba is missing or switched off."""
    try:
        import numba

        if getattr(numba.config, "DISABLE_JIT", 0):
            return None
        from snn2chip_backends.torch.passes.entries import tape
    except ImportError:
        return None
    return tape


def channels_last(shape: tuple[int, ...]) -> bool:
    """Whether neurons of `shape` lie channels last in memory."""
    return len(shape) == 3


def new_payloads(shape: tuple[int, ...], steps: int, batch: int, dtype: torch.dtype) -> Tensor:
    """An empty tensor `[T, B, *shape]` that lies in memory as `[B, T, neurons]`."""
    if channels_last(shape):
        c, h, w = shape
        return torch.empty((batch, steps, h, w, c), dtype=dtype, device="cpu").permute(1, 0, 4, 2, 3)
    return torch.empty((batch, steps, *shape), dtype=dtype, device="cpu").transpose(0, 1)


def new_potentials(shape: tuple[int, ...], lead: tuple[int, ...]) -> Tensor:
    """An empty int32 tensor `[*lead, *shape]` whose neurons lie in memory order."""
    if channels_last(shape):
        c, h, w = shape
        return torch.empty((*lead, h, w, c), dtype=torch.int32, device="cpu").movedim(-1, len(lead))
    return torch.empty((*lead, *shape), dtype=torch.int32, device="cpu")


def in_memory_order(current: Tensor) -> Tensor:
    """The current `[T, B, *shape]` with every `[T, B]` row contiguous in memory order; copied only if it is not."""
    flat = current.permute(0, 1, 3, 4, 2) if current.ndim == 5 else current
    expected = 1
    for length, stride in zip(flat.shape[:1:-1], flat.stride()[:1:-1], strict=True):
        if length != 1 and stride != expected:
            return flat.contiguous()
        expected *= length
    return flat


class FusedSoma:
    """One soma ready for the compiled pass; `fits` says for which somas there is one."""

    most_sources = at.MOST_SOURCES

    def __init__(self, soma: Soma, bounds: SomaBounds, highest: int, call: Pass) -> None:
        self.soma, self.bounds, self.highest, self.call = soma, bounds, highest, call
        c, self.size = soma.channels, soma.size
        self.tiled = channels_last(soma.shape) and c <= RUN
        self.run_length = min(soma.size, c * (RUN // c) if self.tiled else RUN)
        self.described = np.zeros(at.LENGTH, np.int64)
        self._kept: list[NDArray[Any]] = []
        self._describe()

    @staticmethod
    def fits(soma: Soma, bounds: SomaBounds) -> bool:
        """Whether 32 bits hold everything on the way (products go through float64); changes go step by step."""
        if soma.fire == "delta":
            return False
        room = bounds.driven + (1 << 24 if soma.syn_leak is not None else 0)
        arriving = bounds.current if soma.window is None else bounds.mixing >> soma.window_shift
        sizes = (arriving, room, bounds.total, bounds.spike, bounds.emitted >> int(soma.out_shift.min()))
        return max(sizes) < 1 << 31 and soma.size > 0

    def _describe(self) -> None:
        soma, d = self.soma, self.described
        d[at.NEURONS], d[at.RUN], d[at.SATURATES] = soma.size, self.run_length, self.bounds.saturates
        d[at.FLUSH] = max(1, COUNTED // self.highest)
        reach = max(self.bounds.current, self.bounds.mixing + (1 << soma.window_shift))
        self.mixes = soma.window is not None and reach < 1 << 31
        if soma.window is not None and self.mixes:
            d[at.WINDOW], d[at.WINDOW_SHIFT] = self._keep(soma.window.astype(np.int32)), soma.window_shift
        self._put(at.V_INIT, soma.v_init)
        if not (soma.gain_shift != 0).any() and self.bounds.scaled < 1 << 31:
            if (soma.gain != 1).any():
                self._put(at.TIMES, soma.gain)
        elif (soma.gain != 1).any() or (soma.gain_shift != 0).any():
            self._shifted(at.GAIN, soma.gain, soma.gain_shift)
        if soma.syn_leak is not None:
            self._put(at.SYN_LEAK, soma.syn_leak / LEAK_ONE)
        if (soma.leak != LEAK_ONE).any() and not (soma.reset == "drop" and soma.fire != "none"):
            self._put(at.LEAK, soma.leak / LEAK_ONE)
        if (soma.bias != 0).any():
            self._put(at.BIAS, soma.bias)
        if soma.v_min is not None:
            self._put(at.V_MIN, soma.v_min)
        d[at.FIRE], d[at.RESET] = self._fire(), at.KEEP if soma.fire == "none" else RESETS[soma.reset]
        if soma.theta is not None:
            self._put(at.THETA, soma.theta)
        if d[at.RESET] == at.VALUE:
            self._put(at.V_RESET, soma.v_reset if soma.reset == "value" else np.zeros((1, 1), np.int64))
        if soma.fire != "none":
            self._payload()
        self._plain()

    def _plain(self) -> None:
        """Whether nothing happens but adding up, firing once and subtracting."""
        d, extras = self.described, (at.TIMES, at.GAIN, at.SYN_LEAK, at.LEAK, at.V_MIN, at.OUT_GAIN, at.OUT_MIN)
        once = d[at.FIRE] == at.ONCE and d[at.RESET] == at.SUBTRACT and self.soma.window is None
        if once and not any(d[e] for e in (*extras, at.OUT_MAX)):
            d[at.PLAIN] = 1
            self._put(at.BIAS, self.soma.bias)

    def _fire(self) -> int:
        soma, d = self.soma, self.described
        if soma.fire == "table":
            assert soma.table is not None
            d[at.ENTRIES] = self._keep(soma.table.astype(np.int32))
            d[at.OFFSET], d[at.SHIFT] = soma.table_offset, soma.table_shift
        if soma.fire != "levels":
            return FIRES[soma.fire]
        assert soma.theta is not None
        d[at.LEVELS] = len(soma.theta)
        if soma.ladder:
            return at.LADDER
        if (soma.levels == 1).all():
            return at.ONCE
        self._put(at.TOP, soma.levels)
        return at.DIVIDE if (soma.theta > 0).all() else at.SIGNED

    def _payload(self) -> None:
        soma, most = self.soma, self.bounds.emitted >> int(self.soma.out_shift.min())
        if (soma.out_gain != 1).any() or (soma.out_shift != 0).any():
            self._shifted(at.OUT_GAIN, soma.out_gain, soma.out_shift)
        signed = soma.fire == "relay" or (soma.table is not None and bool((soma.table < 0).any()))
        if most > int(soma.out_max.min()):
            self._put(at.OUT_MAX, soma.out_max)
        if signed and -most < int(soma.out_min.max()):
            self._put(at.OUT_MIN, soma.out_min)

    def _shifted(self, field: int, gain: IntArray, shift: IntArray) -> None:
        """A gain and the shift behind it: gain, half a unit, 2^-shift, in float64."""
        half = (np.int64(1) << shift) >> 1
        for i, values in enumerate((gain.astype(np.float64), half.astype(np.float64), 1.0 / (np.int64(1) << shift))):
            self._put(field + 3 * i, values)

    def _keep(self, array: NDArray[Any]) -> int:
        """Address of a contiguous array that lives as long as this object."""
        self._kept.append(np.ascontiguousarray(array))
        return self._kept[-1].ctypes.data

    def _put(self, field: int, stored: NDArray[Any]) -> None:
        self.described[field : field + 3] = self._rows(stored)

    def _rows(self, stored: NDArray[Any]) -> tuple[int, int, bool]:
        """One parameter `[T or 1, C or 1]` or `[T or 1, *shape]` in memory order, as `layout` describes it."""
        rows, shape, c = len(stored), self.soma.shape, self.soma.channels
        flat, apart = stored.reshape(rows, -1), True
        if (flat == flat[:, :1]).all():
            flat, apart = np.repeat(flat[:, :1], self.run_length, axis=1), False
        elif stored.ndim > 2 and channels_last(shape):
            flat = np.moveaxis(stored, 1, -1).reshape(rows, -1)
        elif stored.ndim == 2 and channels_last(shape):
            flat, apart = np.tile(flat, (1, (self.run_length if self.tiled else self.soma.size) // c)), not self.tiled
        elif stored.ndim == 2:
            flat = np.repeat(flat, self.soma.size // c, axis=1)
        kept = flat.astype(np.float64 if stored.dtype.kind == "f" else np.int32)
        return self._keep(kept), kept.shape[1] if rows > 1 else 0, apart

    def take_payload(self, source: int, factor: IntArray) -> None:
        """Let the current number `source` be payloads times `factor` (scalar, `[C]` or `[*shape]`) from now on."""
        address, _, apart = self._rows(factor.reshape(1, -1) if factor.ndim <= 1 else factor[None])
        first = at.SOURCE + at.FIELDS * source + 5
        self.described[first : first + 2] = address, apart
