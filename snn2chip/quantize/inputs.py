"""The input node: the range and grid of raw values, with room for more than the calibration samples showed.

    whole numbers   payload = x - offset; 0/1 are spikes, up to 255 bytes, else up to the next 2^b - 1 >= 1.5 * largest
    real values     payload = floor(x/scale + 1/2), scale = largest / (2^bits - 1) (a bit less when signed)
                    range: twice what was seen, unless the largest is exactly 1
    `input_range`   what the user says instead: range and, for real values, the grid

The room costs payload bits, not resolution. What lies outside of the range is refused when the program runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from snn2chip.errors import InputError
from snn2chip.ir.coded_input import CodedInputLayer
from snn2chip.ir.layers import InputLayer
from snn2chip.ir.nodes import Input
from snn2chip.ir.types import PAYLOAD_BITS
from snn2chip.quantize.calibrate import Ranges
from snn2chip.quantize.spec import half_up
from snn2chip.quantize.weights import array

if TYPE_CHECKING:
    from snn2chip.ir.graph import LayerGraph

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
    whole, raw = ranges.whole[layer.name], ranges.raw[layer.name]
    if not whole and layer.offset is not None:
        raise InputError(
            f"{layer.label}: with `normalise` raw values are whole numbers, such as pixels 0..255, but the calibration "
            f"samples hold fractions ({raw[0]:g}..{raw[1]:g}); give the raw integers, or normalised "
            "samples and no `normalise`"
        )
    said = ranges.input_range.get(layer.name)
    lo, hi = raw if said is None else _declared(layer, said, raw)
    low, high, scale = _whole(lo, hi, fixed=said is not None) if whole else _real(lo, hi, bits, fixed=said is not None)
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


def declared_ranges(graph: LayerGraph, value: Any) -> dict[str, tuple[float, float]]:
    """`input_range` by input name: a pair for the only input, or pairs by name; raises InputError for anything else."""
    names = [layer.name for layer in graph.input_layers]
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        if len(names) > 1:
            raise InputError(f"input_range={value!r}: the network has several inputs, say of which: {', '.join(names)}")
        value = {names[0]: value}
    if unknown := [str(name) for name in value if name not in names]:
        raise InputError(f"input_range of {', '.join(unknown)}: the inputs are {', '.join(names)}")
    return {name: pair for name in value if (pair := declared(value[name])) is not None}


def _whole(lo: float, hi: float, *, fixed: bool) -> tuple[int, int, float]:
    if not fixed:
        reach = max(-lo, hi)
        if lo >= 0 and BYTES[0] <= hi <= BYTES[1]:
            hi = BYTES[1]
        elif reach > 1:
            room = (1 << int(np.ceil(WHOLE_ROOM * reach)).bit_length()) - 1
            room = max(int(reach), min(room, (1 << (PAYLOAD_BITS - (lo < 0))) - 1))
            lo, hi = (-room if lo < 0 else 0), room
    return int(np.floor(min(lo, 0.0))), int(np.ceil(max(hi, 0.0))), 1.0


def _real(lo: float, hi: float, bits: int, *, fixed: bool) -> tuple[int, int, float]:
    signed = lo < 0
    reach = max(abs(lo), abs(hi), 1e-30)
    scale = reach / ((1 << (bits - signed)) - 1)
    room = 1.0 if fixed or reach == 1.0 else ROOM
    low, high = (int(half_up(room * edge / scale)) for edge in (min(lo, 0.0), max(hi, 0.0)))
    return low, high, scale


def _declared(layer: InputLayer, said: tuple[float, float], seen: tuple[float, float]) -> tuple[float, float]:
    (lo, hi), (seen_lo, seen_hi) = said, seen
    if seen_lo < lo or seen_hi > hi:
        raise InputError(
            f"{layer.label}: calibration samples reach from {seen_lo:g} to {seen_hi:g}, outside of "
            f"input_range=({lo:g}, {hi:g})"
        )
    return lo, hi
