"""The input node: the range and grid of raw values, with room for more than the calibration samples showed.

    whole numbers   payload = x - offset; 0/1 are spikes, up to 255 bytes, else up to the next 2^b - 1 >= 1.5 * largest
    real values     payload = floor(x/scale + 1/2), scale = largest / (2^bits - 1) (a bit less when signed)
                    range: twice what was seen, unless the largest is exactly 1
    `input_range`   what the user says instead: range and, for real values, the grid

The room costs payload bits, not resolution. What lies outside of the range is refused when the program runs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from snn2chip.errors import InputError
from snn2chip.ir.coded_input import CodedInputLayer
from snn2chip.ir.layers import InputLayer
from snn2chip.ir.nodes import Input
from snn2chip.ir.types import PAYLOAD_BITS
from snn2chip.quantize.calibrate import Ranges
from snn2chip.quantize.spec import half_up
from snn2chip.quantize.weights import array

ROOM, WHOLE_ROOM = 2.0, 1.5
BYTES = (128, 255)


def input_node(layer: InputLayer, ranges: Ranges, *, name: str, coding: str, bits: int) -> Input:
    """The Input of a program for the raw values seen in calibration, or declared by `ranges.input_range`.

    Raises InputError for samples outside of a declared range, and for fractions where raw integers are normalised.
    """
    if isinstance(layer, CodedInputLayer):
        return Input(
            name,
            layer.shape,
            0,
            1,
            coding=layer.coding,
            scale=layer.spike,
            sample_shape=layer.sample_shape,
            layer=layer.path,
        )
    offset = half_up(np.zeros(1) if layer.offset is None else array(layer.offset).ravel())
    if not ranges.whole and layer.offset is not None:
        raise InputError(
            f"{layer.label}: with `normalise` raw values are whole numbers, such as pixels 0..255, but the calibration "
            f"samples hold fractions ({ranges.raw[0]:g}..{ranges.raw[1]:g}); give the raw integers, or normalised "
            "samples and no `normalise`"
        )
    low, high, scale = _whole(ranges) if ranges.whole else _real(ranges, bits)
    return Input(
        name,
        layer.shape,
        min(low - int(offset.max()), 0),
        max(high - int(offset.min()), 1),
        coding=coding,
        scale=scale,
        offset=offset if offset.size > 1 else int(offset[0]),
        sample_shape=layer.sample_shape,
        layer=layer.path,
    )


def declared(value: Any) -> tuple[float, float] | None:
    """`input_range` as two finite numbers lo < hi, or None; raises InputError for anything else."""
    if value is None:
        return None
    try:
        lo, hi = (float(v) for v in value)
    except (TypeError, ValueError):
        raise InputError(f"input_range is a pair of raw values (lo, hi), got {value!r}") from None
    if not (np.isfinite(lo) and np.isfinite(hi) and lo < hi):
        raise InputError(f"input_range=({lo:g}, {hi:g}): expected finite numbers with lo < hi")
    return lo, hi


def _whole(ranges: Ranges) -> tuple[int, int, float]:
    lo, hi = _seen_or_declared(ranges)
    if ranges.input_range is None:
        reach = max(-lo, hi)
        if lo >= 0 and BYTES[0] <= hi <= BYTES[1]:
            hi = BYTES[1]
        elif reach > 1:
            room = (1 << int(np.ceil(WHOLE_ROOM * reach)).bit_length()) - 1
            room = max(int(reach), min(room, (1 << (PAYLOAD_BITS - (lo < 0))) - 1))
            lo, hi = (-room if lo < 0 else 0), room
    return int(np.floor(min(lo, 0.0))), int(np.ceil(max(hi, 0.0))), 1.0


def _real(ranges: Ranges, bits: int) -> tuple[int, int, float]:
    lo, hi = _seen_or_declared(ranges)
    signed = lo < 0
    reach = max(abs(lo), abs(hi), 1e-30)
    scale = reach / ((1 << (bits - signed)) - 1)
    room = 1.0 if ranges.input_range is not None or reach == 1.0 else ROOM
    low, high = (int(half_up(room * edge / scale)) for edge in (min(lo, 0.0), max(hi, 0.0)))
    return low, high, scale


def _seen_or_declared(ranges: Ranges) -> tuple[float, float]:
    if ranges.input_range is None:
        return ranges.raw
    (lo, hi), (seen_lo, seen_hi) = ranges.input_range, ranges.raw
    if seen_lo < lo or seen_hi > hi:
        raise InputError(
            f"calibration samples reach from {seen_lo:g} to {seen_hi:g}, outside of input_range=({lo:g}, {hi:g})"
        )
    return lo, hi
