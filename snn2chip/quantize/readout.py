"""The read-out: a non-firing soma whose potential is in ONE unit for all classes, so that argmax compares.

gain[c] / 2^gain_shift = delta[c] / mu,   v(t) = v(t-1) + rshift(a * gain, gain_shift) + round(b/mu)
"""

from __future__ import annotations

import numpy as np

from snn2chip.ir.soma import Soma
from snn2chip.ir.types import V_MAX
from snn2chip.quantize.spec import FloatArray, half_up, record
from snn2chip.quantize.units import MAX_FRACTION, LoweredSoma


def lower_readout(
    *,
    name: str,
    path: str,
    shape: tuple[int, ...],
    delta: FloatArray,
    bias: FloatArray,
    reach: FloatArray,
    last: bool,
    spare: int = 0,
    whole: int = 0,
) -> LoweredSoma:
    """The non-firing soma that sums (or with `last` only keeps) the output's current in ONE unit for all classes.

    `spare`: bits left free besides the usual one; `whole`: the whole gain to take (the unit is then delta/gain), 0 to
    choose one.
    """
    limit = float(V_MAX) / 2 ** (1 + spare) * (1 - 2.0**-8)  # room for the rounding of every step
    top = max(float(reach.max()), float(np.abs(bias).max())) or 1.0  # a bias may be larger than what it leaves
    mu = max(top / limit, float(delta.max()) * 2.0**-MAX_FRACTION)
    least = float(delta.min())
    if mu <= least and (np.abs(delta / least - np.rint(delta / least)) < 2.0**-40).all():  # whole multiples stay exact
        mu = least * 2.0 ** -np.floor(np.log2(least / mu))
    shift = int(np.clip(np.floor(np.log2(32767.0 * mu / float(delta.max()))), 0, 15))
    if whole:
        mu, shift = float(delta[0]) / whole, 0
    gain = half_up(delta / mu * 2.0**shift)
    ints = half_up(bias / mu)
    soma = Soma(name, shape, fire="none", gain=gain, gain_shift=shift, bias=ints, leak=0 if last else 4096, layer=path)
    records = (
        record(name, path, "gain", unit=f"delta/mu/2^{shift}", source=delta / mu, integer=gain, lsb=2.0**-shift),
        record(name, path, "bias", unit="mu", source=bias, integer=ints, lsb=mu, floor=top / 64),
    )
    return LoweredSoma(soma=soma, unit=np.array([mu]), mu=np.full(delta.shape, mu), records=records)
