"""Channel attention in integers: units of what is multiplied, and the sigmoid as a table.

    payload p of the attended current    unit[c] = delta[c] * 2^k, 15 bits and less, its sum over space in 24 bits
    mean                                 one unit for all channels, so that a band of 8-bit weights fits 24 bits
    score q                              table[i] = round(2^12 * sigmoid(z_i)),  z_i the middle of cell i
    product                              rshift(p*q, k),  one unit = unit[c] * 2^(k-12)

The 256 cells of the table share the range of z seen on calibration data, a quarter of it added at both ends and no
more than +-8; beyond it the last entry counts. mu = cell / 2^8 is one LSB of the potential, for all channels.
"""

from __future__ import annotations

import attrs
import numpy as np

from snn2chip.ir.attention_layers import BandLayer
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import V_MAX
from snn2chip.quantize.relays import RELAY_BITS
from snn2chip.quantize.spec import FloatArray, half_up, record
from snn2chip.quantize.units import LoweredSoma

SCORE_BITS = 12
CELLS, CELL_SHIFT = 256, 8
MARGIN, SATURATED, NARROW = 0.25, 8.0, 2.0**-4
"""Room beyond the seen range as a share of it, |z| beyond which a sigmoid hardly moves, the narrowest range."""


def attended_unit(delta: FloatArray, current: FloatArray, sums: FloatArray, *, spare_bits: int) -> FloatArray:
    """Payload unit `[C]` of a current that is multiplied: delta times a power of two.

    `current`: largest magnitudes, `sums`: those of its sums over space, float `[C]`.
    """
    limit = float(V_MAX) / 2 ** (spare_bits + 1)
    needed = np.maximum(current / 2.0**RELAY_BITS, sums / limit) / delta
    unit: FloatArray = delta * 2.0 ** np.ceil(np.log2(np.maximum(needed, 1.0)))
    return unit


def mean_unit(band: BandLayer, current: FloatArray) -> FloatArray:
    """One payload unit of the means for all channels: the band's integer sums leave one bit of 24 free."""
    bits = min(RELAY_BITS, int(np.floor(np.log2(V_MAX / 2 / (127 * band.taps)))))
    return np.array([max(float(current.max()), 1e-30) / 2.0**bits])


def product_shift(unit: FloatArray, reach: FloatArray, limit: float) -> int:
    """Fewest bits to drop so that products of unit `unit [C]` and largest magnitude `reach [C]` stay in `limit`."""
    largest = float((reach / unit).max())
    return max(0, int(np.ceil(np.log2(max(largest, 1.0) / limit))))


def table_range(span: tuple[float, float]) -> tuple[float, float]:
    """The range of z that the cells cover, for the smallest and largest z seen."""
    lo, hi = (float(np.clip(z, -SATURATED, SATURATED)) for z in span)
    width = max(hi - lo, NARROW)
    middle = (lo + hi) / 2
    reach = width * (0.5 + MARGIN)
    return max(middle - reach, -SATURATED - NARROW), min(middle + reach, SATURATED + NARROW)


def lower_score(
    *, name: str, path: str, shape: tuple[int, ...], delta: FloatArray, bias: FloatArray, span: tuple[float, float]
) -> LoweredSoma:
    """The table soma of a sigmoid whose current has the unit `delta [C]` and the bias `bias [C]`."""
    lo, hi = table_range(span)
    mu = (hi - lo) / (CELLS << CELL_SHIFT)
    top = float(delta.max())
    mu = max(mu, top / 32767.0)  # a gain has 16 bits
    shift = int(np.clip(np.floor(np.log2(32767.0 * mu / top)), 0, 15))
    gain, ints = half_up(delta / mu * 2.0**shift), half_up(bias / mu)
    offset = int(half_up(-lo / mu))
    cells = max(0, int(np.ceil(np.log2((hi - lo) / mu / CELLS))))
    first = (np.arange(CELLS) << cells) - offset
    middle = (first + ((1 << cells) - 1) / 2) * mu
    entries = np.clip(half_up(2.0**SCORE_BITS / (1.0 + np.exp(-middle))), 0, (1 << SCORE_BITS) - 1)
    soma = Soma(
        name,
        shape,
        fire="table",
        reset="drop",
        gain=gain,
        gain_shift=shift,
        bias=ints,
        table=entries,
        table_offset=offset,
        table_shift=cells,
        out_min=0,
        out_max=(1 << SCORE_BITS) - 1,
        layer=path,
    )
    records = (
        record(name, path, "gain", unit=f"delta/mu/2^{shift}", source=delta / mu, integer=gain, lsb=2.0**-shift),
        record(name, path, "bias", unit="mu", source=bias, integer=ints, lsb=mu, floor=(hi - lo) / 64),
        attrs.evolve(
            record(name, path, "table", unit=f"2^-{SCORE_BITS}", source=[lo, hi], integer=entries[[0, -1]], lsb=1.0),
            error=float(mu * 2**cells / 8 + 2.0 ** -(SCORE_BITS + 1)),
        ),
    )
    unit = np.array([2.0**-SCORE_BITS])
    return LoweredSoma(soma=soma, unit=unit, mu=np.full(delta.shape, mu), records=records)
