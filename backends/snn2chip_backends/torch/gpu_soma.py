"""The soma of a whole sample as one kernel on a GPU, with the interface and the order of memory of `fused.FusedSoma`.

Parameters go to the device once, as one array that `triton_soma` describes. A call writes payloads (and potentials)
and, per group of samples, counts of every neuron, which are then added up in 64 bits. Nothing waits for the device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snn2chip.ir.soma import Soma
from snn2chip.ir.types import LEAK_ONE, IntArray
from snn2chip_backends.torch.arithmetic import few
from snn2chip_backends.torch.bounds import SomaBounds
from snn2chip_backends.torch.fused import FusedSoma, channels_last, in_memory_order

if TYPE_CHECKING:
    from snn2chip_backends.torch.sample import SomaRun

BLOCK, SAMPLES, WARPS = 1024, 16, 4
"""Neurons of one program (fewer in small layers), most samples that it takes one after the other."""
PROGRAMS = 512
"""Programs that fill a GPU: with fewer of them, each takes fewer samples."""
ALIGNED = 16
"""Values of every parameter begin at multiples of this."""
RESETS = {"subtract": "SUBTRACT", "zero": "VALUE", "value": "VALUE", "clamp": "CLAMP", "drop": "DROP"}
FIRES = {"excess": "EXCESS", "table": "LOOKUP", "relay": "RELAY", "none": "SILENT"}


class GpuSoma:
    """One soma ready for the kernel in `kernels`; `fits` says for which somas there is one."""

    mixes = True  # windows of any width, in int64

    def __init__(self, soma: Soma, bounds: SomaBounds, highest: int, device: torch.device, kernels: Any) -> None:
        self.soma, self.bounds, self.highest, self.device, self.kernels = soma, bounds, highest, device, kernels
        self.size = soma.size
        self._rows: dict[int, tuple[NDArray[np.int32], int, str]] = {}  # values, distance of steps, kind
        self._fire, self._reset, self._levels = self._rule()
        self._describe()
        self._build()

    @staticmethod
    def fits(soma: Soma, bounds: SomaBounds) -> bool:
        """Whether 32 bits hold everything on the way (products and mixed currents are int64)."""
        return FusedSoma.fits(soma, bounds)

    def _number(self, name: str) -> int:
        """A constant of the kernels' module."""
        constant = getattr(self.kernels, name)
        return int(getattr(constant, "value", constant))

    def _rule(self) -> tuple[int, int, int]:
        soma = self.soma
        if soma.fire != "levels":
            fire, levels = FIRES[soma.fire], 0
        else:
            assert soma.theta is not None
            levels = len(soma.theta)
            one, positive = bool((soma.levels == 1).all()), bool((soma.theta > 0).all())
            fire = "LADDER" if soma.ladder else "ONCE" if one else "DIVIDE" if positive else "SIGNED"
        if soma.fire == "none":
            reset = "KEEP"
        else:
            reset = "DELAYED" if soma.reset == "subtract-delayed" else RESETS[soma.reset]
        return self._number(fire), self._number(reset), levels

    def _describe(self) -> None:
        soma, bounds = self.soma, self.bounds
        self._put("V_INIT", soma.v_init)
        if (soma.gain != 1).any():
            self._put("GAIN", soma.gain)
        if (soma.gain_shift != 0).any():
            self._put("SHIFT", soma.gain_shift)
        if soma.syn_leak is not None:
            self._put("SYN_LEAK", soma.syn_leak)
        if (soma.leak != LEAK_ONE).any() and not (soma.reset == "drop" and soma.fire != "none"):
            self._put("LEAK", soma.leak)
        if (soma.bias != 0).any():
            self._put("BIAS", soma.bias)
        if soma.v_min is not None:
            self._put("V_MIN", soma.v_min)
        if soma.theta is not None:
            self._put("THETA", soma.theta)
        if soma.fire == "levels":
            self._put("TOP", soma.levels)
        if self._reset == self._number("VALUE"):
            self._put("V_RESET", soma.v_reset if soma.reset == "value" else np.zeros((1, 1), np.int64))
        if soma.table is not None:
            self._keep("TABLE", soma.table)
        if soma.window is not None:
            self._keep("WINDOW", soma.window)
        if soma.fire == "none":
            return
        if (soma.out_gain != 1).any():
            self._put("OUT_GAIN", soma.out_gain)
        if (soma.out_shift != 0).any():
            self._put("OUT_SHIFT", soma.out_shift)
        most = bounds.emitted >> int(soma.out_shift.min())
        signed = soma.fire == "relay" or (soma.table is not None and bool((soma.table < 0).any()))
        if most > int(soma.out_max.min()):
            self._put("OUT_MAX", soma.out_max)
        if signed and -most < int(soma.out_min.max()):
            self._put("OUT_MIN", soma.out_min)

    def _keep(self, name: str, values: IntArray) -> None:
        """Values that the kernel finds on its own."""
        self._rows[self._number(name)] = np.ascontiguousarray(values).reshape(-1).astype(np.int32), 0, "ONE"

    def _put(self, name: str, stored: IntArray, more: int = 0) -> None:
        """One parameter `[T or 1, C or 1]` or `[T or 1, *shape]`, in memory order."""
        rows, shape = len(stored), self.soma.shape
        flat, kind = stored.reshape(rows, -1), "NEURON"
        if (flat == flat[:, :1]).all():
            flat, kind = flat[:, :1], "ONE"
        elif stored.ndim > 2 and channels_last(shape):
            flat = np.moveaxis(stored, 1, -1).reshape(rows, -1)
        elif stored.ndim == 2 and channels_last(shape):
            kind = "CHANNEL"
        elif stored.ndim == 2:
            flat = np.repeat(flat, self.size // self.soma.channels, axis=1)
        same = bool((flat == flat[:1]).all()) and name != "THETA"  # a ladder has its rungs there
        flat = flat[:1] if same else flat
        step = flat.shape[1] if len(flat) > 1 else 0
        self._rows[self._number(name) + more] = np.ascontiguousarray(flat).reshape(-1).astype(np.int32), step, kind

    def _build(self) -> None:
        """The array of all parameters on the device."""
        head = np.zeros((self.kernels.PARAMETERS, 2), np.int32)
        parts, end, self._kinds = [], -(-head.size // ALIGNED) * ALIGNED, 0
        for i, (values, step, kind) in sorted(self._rows.items()):
            head[i] = end, step
            self._kinds |= self._number(kind) << (2 * i)
            parts.append((end, values))
            end += -(-values.size // ALIGNED) * ALIGNED
        packed = np.zeros(end, np.int32)
        packed[: head.size] = head.reshape(-1)
        for first, values in parts:
            packed[first : first + values.size] = values
        self._packed = torch.from_numpy(packed).to(self.device)

    def take_payload(self, source: int, factor: IntArray) -> None:
        """Let the current number `source` be payloads times `factor` (scalar, `[C]` or `[*shape]`) from now on."""
        self._put("FACTOR", factor.reshape(1, -1) if factor.ndim <= 1 else factor[None], source)
        self._build()

    @property
    def most_sources(self) -> int:
        """Currents that one call adds up on its own."""
        return int(self.kernels.SOURCES)

    def run(self, currents: list[Tensor], part: slice, steps: int, out: SomaRun) -> None:
        """All steps of the samples `part`, whose currents are given, into `out`."""
        soma, batch = self.soma, part.stop - part.start
        sources = [in_memory_order(x) for x in few(currents, self.most_sources)]
        strides = [(0 if len(x) == 1 else x.stride(0), x.stride(1)) for x in sources]
        count = len(sources)
        sources += [sources[0]] * (self.most_sources - count)
        strides += [(0, 0)] * (self.most_sources - count)
        block = min(BLOCK, max(128, 1 << (self.size - 1).bit_length()))
        samples = _power_below(batch * -(-self.size // block) // PROGRAMS)
        groups = -(-batch // samples)
        silent, binary = soma.fire == "none", out.magnitude is out.spikes
        wide = samples * steps * self.highest >= 1 << 31
        counts = self._empty((1 if binary else 2, groups, self.size), torch.int64 if wide else torch.int32)
        saturates = self.bounds.saturates
        hits = self._empty((groups, self.size), torch.int64) if saturates else self._packed
        payload = _rows(out.payload[:, part])
        potentials = out.potentials[:, part] if out.potentials is not None else None
        read = [None if x is None else x[part] for x in (out.last, out.counted, out.summed)]
        last, counted, summed = (self._packed if x is None else x for x in read)
        self.kernels.soma[(-(-self.size // block), groups)](
            self._packed,
            *sources,
            payload,
            self._packed if potentials is None else potentials,
            last,
            counts[0],
            counts[-1],
            counted,
            summed,
            hits,
            *(n for pair in strides for n in pair),
            payload.stride(0),
            payload.stride(1),
            0 if potentials is None else potentials.stride(0),
            self.size,
            soma.channels,
            batch,
            steps,
            soma.window_shift,
            self._levels,
            soma.table_offset,
            soma.table_shift,
            CURRENTS=count,
            KINDS=self._kinds,
            FIRE=self._fire,
            RESET=self._reset,
            MIX=self._mix(),
            SATURATES=saturates,
            POTENTIALS=potentials is not None,
            LAST=read[0] is not None,
            MEASURE=not (binary or silent),
            COUNT=read[1] is not None,
            SUM=read[2] is not None,
            WIDE=wide,
            BLOCK=block,
            SAMPLES=samples,
            num_warps=WARPS,
        )
        if not silent:
            assert out.spikes is not None
            assert out.magnitude is not None
            out.spikes.add_(counts[0].sum(0))
            if not binary:
                out.magnitude.add_(counts[1].sum(0))
        if saturates:
            out.saturated.add_(hits.sum())

    def _mix(self) -> int:
        window = self.soma.window
        if window is None:
            return self._number("NO_WINDOW")
        return self._number("SAME_ROWS" if (window == window[:1]).all() else "MIXED")

    def _empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=self.device)


def _power_below(most: int) -> int:
    """Largest power of two up to `most` and `SAMPLES`, at least 1: few values, as each is compiled on its own."""
    return 1 << (max(1, min(SAMPLES, most)).bit_length() - 1)


def _rows(payload: Tensor) -> Tensor:
    """Payloads `[T, B, *shape]` seen with neurons in memory order."""
    return payload.permute(0, 1, 3, 4, 2) if payload.ndim == 5 else payload
