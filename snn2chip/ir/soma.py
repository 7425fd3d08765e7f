"""The one neuron population: every method of this project is a setting of `Soma`.

State: potential `v` (saturates at ±(2^23-1)), with `syn_leak` a current `u` (wraps at 24 bits), with
`reset="subtract-delayed"` the last spike, with `fire="delta"` the activation last sent. One logical step is
`snn2chip.ir.dynamics.soma_step`.

Stored form of every numeric parameter: `[T or 1, C or 1]` (C = first axis of the shape), per neuron
`[T or 1, *shape]`, a ladder `[levels, C or 1]`, a window `[T, T]`. Constructors accept a scalar, a 1-D
array (always per channel) or the stored form.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from snn2chip.errors import ParameterError
from snn2chip.ir.types import LEAK_ONE, NEVER, V_MAX, IntArray, PayloadType, as_int, whole

FIRES = ("levels", "excess", "relay", "table", "none", "delta")
RESETS = ("subtract", "zero", "value", "clamp", "drop", "subtract-delayed", "keep")
LEGAL_RESETS = {
    "levels": ("subtract", "zero", "value", "clamp", "drop", "subtract-delayed"),
    "excess": ("clamp", "zero", "drop"),
    "relay": ("drop",),
    "table": ("drop",),
    "none": RESETS,
    "delta": ("keep",),
}
PER_STEP = ("leak", "gain", "bias", "theta", "syn_leak", "v_min", "v_reset")
PER_CHANNEL = ("v_init", "levels", "gain_shift", "out_gain", "out_shift", "out_min", "out_max")
SIGNED = ("relay", "table", "delta")
"""Emission rules that send negative payloads too, unless out_min says otherwise."""
RANGES = {
    "v_init": (-V_MAX, V_MAX),
    "leak": (-(1 << 15), (1 << 15) - 1),
    "gain": (-(1 << 15), (1 << 15) - 1),
    "gain_shift": (0, 15),
    "bias": (-V_MAX - 1, V_MAX),
    "theta": (-V_MAX - 1, NEVER),
    "levels": (1, V_MAX),
    "syn_leak": (0, LEAK_ONE),
    "v_min": (-V_MAX, V_MAX),
    "v_reset": (-V_MAX, V_MAX),
    "out_gain": (1, 65535),
    "out_shift": (0, 30),
    "out_min": (-(1 << 23), 0),
    "out_max": (0, (1 << 24) - 1),
}


def _shape(value: Any) -> tuple[int, ...]:
    if isinstance(value, str):
        raise ParameterError(f"a shape is a tuple of whole numbers, got {value!r}")
    return tuple(whole(n) for n in (value if np.iterable(value) else (value,)))


def _raw(value: Any) -> Any:
    """Take any number or array; the stored form is made after construction."""
    return value


@attrs.frozen(eq=False)
class Soma:
    """A population of identical neurons; parameters are integers in the units of the potential.

    `name`, `shape` (without batch and time); the rest as in the table of the integer machine.
    `payload_bits` sets the default `out_max = 2^payload_bits - 1`; `ladder=None` reads a theta of
    `levels` rows with `fire="levels"`, `reset="drop"` as a ladder of thresholds (`False`: as per-step).
    `layer` is the user's own layer path, shown in every message.
    """

    name: str
    shape: tuple[int, ...] = attrs.field(converter=_shape)
    v_init: IntArray = attrs.field(default=0, converter=_raw, kw_only=True)
    leak: IntArray = attrs.field(default=LEAK_ONE, converter=_raw, kw_only=True)
    gain: IntArray = attrs.field(default=1, converter=_raw, kw_only=True)
    gain_shift: IntArray = attrs.field(default=0, converter=_raw, kw_only=True)
    bias: IntArray = attrs.field(default=0, converter=_raw, kw_only=True)
    theta: IntArray | None = attrs.field(default=None, converter=_raw, kw_only=True)
    levels: IntArray = attrs.field(default=1, converter=_raw, kw_only=True)
    syn_leak: IntArray | None = attrs.field(default=None, converter=_raw, kw_only=True)
    v_min: IntArray | None = attrs.field(default=None, converter=_raw, kw_only=True)
    fire: str = attrs.field(default="levels", kw_only=True)
    reset: str = attrs.field(default="subtract", kw_only=True)
    v_reset: IntArray = attrs.field(default=0, converter=_raw, kw_only=True)
    table: IntArray | None = attrs.field(default=None, converter=_raw, kw_only=True)
    table_offset: int = attrs.field(default=0, kw_only=True)
    table_shift: int = attrs.field(default=0, kw_only=True)
    out_gain: IntArray = attrs.field(default=1, converter=_raw, kw_only=True)
    out_shift: IntArray = attrs.field(default=0, converter=_raw, kw_only=True)
    out_min: IntArray = attrs.field(default=None, converter=_raw, kw_only=True)
    out_max: IntArray = attrs.field(default=None, converter=_raw, kw_only=True)
    payload_bits: int = attrs.field(default=23, kw_only=True)
    window: IntArray | None = attrs.field(default=None, converter=_raw, kw_only=True)
    window_shift: int = attrs.field(default=0, kw_only=True)
    delta_shift: int = attrs.field(default=0, kw_only=True)
    ladder: bool | None = attrs.field(default=None, kw_only=True)
    layer: str = attrs.field(default="", kw_only=True)

    def __attrs_post_init__(self) -> None:
        put = object.__setattr__
        self._whole_numbers()
        top = (1 << self.payload_bits) - 1 if 0 < self.payload_bits <= 24 else (1 << 23) - 1
        if self.out_max is None:
            put(self, "out_max", top)
        if self.out_min is None:
            signed = self.fire in SIGNED
            put(self, "out_min", np.maximum(-np.asarray(self.out_max), -(1 << 23)) if signed else 0)
        for field in (*PER_STEP, *PER_CHANNEL):
            value = getattr(self, field)
            if value is not None:
                put(self, field, self._stored(as_int(value)))
        if self.ladder is None:
            rows = 0 if self.theta is None else self.theta.shape[0]
            inferred = self.fire == "levels" and self.reset == "drop" and np.size(self.levels) == 1
            put(self, "ladder", bool(inferred and rows > 1 and (self.levels == rows)))

    def _whole_numbers(self) -> None:
        """Make integers of every numeric field; ParameterError lists the soma's fields that are none."""
        scalars = ("table_offset", "table_shift", "window_shift", "delta_shift", "payload_bits")
        bad = []
        for field in (*scalars, "table", "window", *PER_STEP, *PER_CHANNEL):
            value = getattr(self, field)
            if value is None and field not in scalars:
                continue
            try:
                object.__setattr__(self, field, whole(value) if field in scalars else as_int(value))
            except TypeError as error:
                bad.append(f"{self.name}: {field}: {error}")
        if bad:
            raise ParameterError(bad)

    def _stored(self, value: IntArray) -> IntArray:
        if value.ndim == 0:
            return value.reshape(1, 1)
        return value.reshape(1, -1) if value.ndim == 1 else value

    @property
    def channels(self) -> int:
        """Length of the first axis of the shape."""
        return self.shape[0] if self.shape else 1

    @property
    def size(self) -> int:
        """Number of neurons."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def delayed(self) -> bool:
        """Whether the spikes of one step are taken off the potential of the next."""
        return self.reset == "subtract-delayed" and self.fire != "none"

    @property
    def remembers(self) -> bool:
        """Whether something that was sent is kept: spikes (`delayed`) or an activation (`fire="delta"`)."""
        return self.delayed or self.fire == "delta"

    @property
    def stateful(self) -> bool:
        """Whether anything is carried from one step of a sample to the next."""
        return self.reset != "drop" or self.syn_leak is not None

    def at(self, field: str, t: int = 0) -> IntArray:
        """Value of `field` at logical step `t`, ready to broadcast against `[*shape]`.

        Per-channel values come as `[C, 1, ..]`, scalars as `[1, 1, ..]`, per-neuron values as `[*shape]`.
        """
        stored: IntArray = getattr(self, field)
        return self.spread(stored[t if stored.shape[0] > 1 else 0])

    def spread(self, row: IntArray) -> IntArray:
        """Reshape one stored row to broadcast against `[*shape]`."""
        if row.ndim == 1:
            return row.reshape((row.shape[0],) + (1,) * (len(self.shape) - 1))
        return row

    def payload_type(self) -> PayloadType:
        """The declared payload range `[out_min, out_max]`, tightened where the rule proves more.

        levels: s <= levels; excess: s >= 0; none: 0; table: its entries; delta: twice the register. The result never
        changes a value.
        """
        lo, hi = int(self.out_min.min()), int(self.out_max.max())
        if self.fire == "none":
            return PayloadType(0, 0)
        s_lo, s_hi = {"levels": (0, int(self.levels.max())), "excess": (0, 2 * NEVER)}.get(self.fire, (-V_MAX, V_MAX))
        if self.fire == "delta":
            s_lo, s_hi = -2 * V_MAX >> self.delta_shift, 2 * V_MAX >> self.delta_shift
        if self.fire == "table" and self.table is not None and self.table.size:
            s_lo, s_hi = int(self.table.min()), int(self.table.max())
        scaled = [
            (s * int(g) + ((1 << int(k)) >> 1)) >> int(k)
            for s in (s_lo, s_hi)
            for g in (self.out_gain.min(), self.out_gain.max())
            for k in (self.out_shift.min(), self.out_shift.max())
        ]
        return PayloadType(max(lo, min(0, *scaled)), min(hi, max(0, *scaled)))
