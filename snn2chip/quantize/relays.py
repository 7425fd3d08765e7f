"""Relays: somas that only pass a current on, as payloads in a unit that somebody else wants.

    v = a * 2^n + round(b / mu),   mu = delta / 2^n,  payload = rshift(v * out_gain[c], out_shift[c]) ~ v * mu / unit[c]

Without a wanted unit a relay of a current without bias is exact: n = 0, one payload unit is worth delta. With a bias
the unit is delta / 2^k, so that the bias keeps its fraction bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from snn2chip.errors import QuantizeError
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import V_MAX
from snn2chip.quantize.spec import FloatArray, QuantRecord, half_up, record
from snn2chip.quantize.units import LoweredSoma

RELAY_BITS = 15
"""Magnitude bits of a relayed payload when one unit serves all channels."""


def lower_relay(
    *,
    name: str,
    label: str,
    path: str,
    shape: tuple[int, ...],
    delta: FloatArray,
    bias: FloatArray,
    current: FloatArray,
    unit: FloatArray | None,
    spare_bits: int = 1,
) -> LoweredSoma:
    """A relay of a current with unit `delta [C]`, largest magnitudes `current [C]` and the linear maps' `bias [C]`.

    `unit`: float value of one payload unit, scalar or `[C]`; None keeps the current's own (exact).
    Raises QuantizeError when the payload does not fit 24 bits.
    """
    limit = float(V_MAX) / 2**spare_bits
    if (current / delta).max() > limit:
        raise QuantizeError(f"{label}: the relayed current does not fit 24 bits")
    fine = _fraction(delta, bias, current, limit)
    if unit is None:
        if not bias.any():
            fine = np.zeros(delta.shape, dtype=np.int64)  # nothing to round: the integers pass as they are
        unit = own_unit(delta, bias, current, spare_bits=spare_bits)
        unit = unit if not (unit == unit[0]).all() else unit[:1]
    mu = delta / 2.0**fine
    fields: dict[str, Any] = {"gain": 1 << fine, "bias": half_up(bias / mu)}
    ratio = np.broadcast_to(mu / unit, delta.shape)
    if (ratio != 1.0).any():
        shift = np.clip(np.floor(np.log2(65535.0 / ratio)), 0, 30).astype(np.int64)
        fields |= {"out_gain": np.clip(half_up(ratio * 2.0**shift), 1, 65535), "out_shift": shift}
    largest = float((current / np.broadcast_to(unit, current.shape)).max())
    top = (1 << max(int(np.ceil(np.log2(max(largest * 2**spare_bits, 2.0)))), 1)) - 1
    if top > V_MAX:
        raise QuantizeError(f"{label}: the relayed payload needs {top.bit_length() + 1} bits, 24 are the most")
    soma = Soma(name, shape, fire="relay", reset="drop", out_max=top, layer=path, **fields)
    notes: tuple[QuantRecord, ...] = (
        record(
            name, path, "bias", unit="mu", source=bias, integer=fields["bias"], lsb=mu, floor=float(current.max()) / 64
        ),
    )
    if "out_gain" in fields:
        got = fields["out_gain"] / 2.0 ** fields["out_shift"]
        notes += (record(name, path, "out_gain", unit="mu per payload unit", source=ratio, integer=got, lsb=1.0),)
    return LoweredSoma(soma=soma, unit=unit, mu=mu, records=notes)


def own_unit(delta: FloatArray, bias: FloatArray, current: FloatArray, *, spare_bits: int) -> FloatArray:
    """The payload unit `[C]` that a relay has of its own: delta, or with a bias delta over a power of two."""
    if not bias.any():
        return delta
    fine = _fraction(delta, bias, current, float(V_MAX) / 2**spare_bits)
    extra = np.clip(np.floor(np.log2(2.0**RELAY_BITS / np.maximum(current / delta, 1e-12))), 0, fine)
    unit: FloatArray = delta / 2.0**extra
    return unit


def _fraction(delta: FloatArray, bias: FloatArray, current: FloatArray, limit: float) -> Any:
    """Fraction bits `[C]` under one unit of the current that leave the potential inside `limit`."""
    reach = np.maximum(current, np.abs(bias)) / delta  # the bias alone may be larger than what it leaves of the current
    return np.clip(np.floor(np.log2(limit / np.maximum(reach, 1e-12))), 0, 14).astype(np.int64)


def common_unit(current: FloatArray) -> FloatArray:
    """One payload unit for all channels: the largest current has `RELAY_BITS` bits."""
    return np.array([max(float(current.max()), 1e-30) / 2.0**RELAY_BITS])
