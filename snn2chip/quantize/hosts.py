"""The host prefix: what happens to a raw sample outside of the chip, in exact integers.

    event frames    p = sum over the frames of round(x/scale) - F*offset       one unit is worth scale/F
    convolution     a = W p + B,   W = round(w*unit/delta_c), 13 bits and a sign, B = round(b/delta_c)
    relu, pools     on the integers a
    next conv       p = clip( rshift(a*gain_c, shift), lo, hi ),  gain_c/2^shift = delta_c/unit', with 16 bits
    last            payload = the same with the bits of an input, lo = 0

unit' is the largest value seen on the calibration data over 2^bits - 1; twice as much fits, the rest is clipped there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from snn2chip.errors import UnsupportedError
from snn2chip.ir.channel_layers import MaxPoolLayer, SumPoolLayer
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.host_layer import HostLayer
from snn2chip.ir.layers import Layer, ReluLayer
from snn2chip.ir.linear_layers import AffineLayer, Conv2dLayer
from snn2chip.ir.nodes import Host, HostOp, Input
from snn2chip.quantize.spec import FloatArray, QuantRecord, half_up, record
from snn2chip.quantize.weights import array, rows

WEIGHT_TOP = (1 << 13) - 1
GAIN_TOP = 32767.0
INNER_BITS = 16
"""Bits of what one convolution of a stem hands to the next."""


def host_prefix(graph: LayerGraph, input: str) -> HostLayer | None:
    """Return the layers declared as host work behind an input, None without any."""
    return next((layer for layer in graph.users(input) if isinstance(layer, HostLayer)), None)


def host_node(
    given: Input, *, frames: int | None, layer: HostLayer | None, largest: Sequence[float], bits: int
) -> tuple[Host, FloatArray, list[QuantRecord]]:
    """Return the Host for an Input `given` (one frame) with its prefix, one payload unit's value, and the records.

    `largest` holds the largest magnitude behind each part of the prefix. Raises UnsupportedError for layers without an
    exact host form.
    """
    ops: list[HostOp] = []
    sample, lo, hi, unit, offset = given.shape, given.lo, given.hi, np.array([given.scale]), given.offset
    if frames is not None:
        sample, lo, hi, unit = (frames, *given.shape), lo * frames, hi * frames, unit / frames
        ops.append(HostOp(kind="sumframes"))
        if offset.any():  # per channel, which is no longer the first axis of the sample
            shift = np.broadcast_to(-offset * frames, given.shape[:1])
            ops.append(HostOp(kind="bias", weight=shift))
        offset = np.zeros((), dtype=np.int64)
    records: list[QuantRecord] = []
    shape = given.shape
    if layer is not None:
        shape = layer.out_shape([given.shape])[0]
        made, delta, records = _operations(layer, unit, largest, node=given.name)
        unit, hi = _grid(largest[-1], bits)
        lo = 0
        ops += [*made, _rescale(delta / unit, lo, hi)]
    node = Host(
        given.name,
        shape,
        lo,
        hi,
        sample_shape=sample,
        ops=tuple(ops),
        coding=given.coding,
        scale=given.scale,
        offset=offset,
        layer=given.layer if layer is None else layer.path,
    )
    return node, unit, records


def _operations(
    layer: HostLayer, unit: FloatArray, largest: Sequence[float], *, node: str
) -> tuple[list[HostOp], FloatArray, list[QuantRecord]]:
    """Integer operations of the prefix, and what one integer is worth behind them, `[C]` or one value."""
    ops: list[HostOp] = []
    records: list[QuantRecord] = []
    delta = unit
    for i, part in enumerate(layer.parts):
        if isinstance(part, AffineLayer):
            if any(op.kind in ("conv2d", "linear") for op in ops):  # its integers are wide, and in a unit per channel
                unit, hi = _grid(largest[i - 1], INNER_BITS)
                signed = not any(op.kind == "relu" for op in ops[_last_map(ops) :])
                ops.append(_rescale(delta / unit, -hi if signed else 0, hi))
                delta = unit
            made, delta = _affine(part, float(delta[0]))
            records.append(_weights(part, made[0], unit, delta, node))
            ops += made
        elif isinstance(part, ReluLayer) and part.top is None:
            ops.append(HostOp(kind="relu"))
        elif isinstance(part, SumPoolLayer):
            ops.append(_pool("sumpool", part))
            delta = delta * array(part.factor).ravel()
        elif isinstance(part, MaxPoolLayer):
            ops.append(_pool("maxpool", part))
        else:
            raise UnsupportedError(f"{part.label}: {part.kind} has no exact form on the host")
    return ops, delta, records


def _affine(part: AffineLayer, unit: float) -> tuple[list[HostOp], FloatArray]:
    w = array(part.weight) * unit
    delta = np.abs(w).reshape(len(w), -1).max(1) / WEIGHT_TOP
    delta = np.where(delta > 0, delta, unit)
    weight = half_up(w / rows(delta, w))
    op = HostOp(kind="linear", weight=weight)
    if isinstance(part, Conv2dLayer):
        if part.dilation != (1, 1):
            raise UnsupportedError(f"{part.label}: a dilated convolution has no host form")
        op = HostOp(kind="conv2d", weight=weight, stride=part.stride, padding=part.padding, groups=part.groups)
    bias = [] if part.bias is None else [HostOp(kind="bias", weight=half_up(array(part.bias) / delta))]
    return [op, *bias], delta


def _pool(kind: str, part: SumPoolLayer | MaxPoolLayer) -> HostOp:
    return HostOp(kind=kind, kernel_size=part.kernel, stride=part.stride, padding=part.padding)


def _last_map(ops: Sequence[HostOp]) -> int:
    return max(i for i, op in enumerate(ops) if op.kind in ("conv2d", "linear"))


def _grid(largest: float, bits: int) -> tuple[FloatArray, int]:
    """Value of one integer, and the largest integer: twice what was seen."""
    return np.array([(largest if largest > 0 else 1.0) / ((1 << bits) - 1)]), (1 << (bits + 1)) - 1


def _rescale(ratio: FloatArray, lo: int, hi: int) -> HostOp:
    shift = int(np.clip(np.floor(np.log2(GAIN_TOP / float(ratio.max()))), 0, 30))
    gain = np.maximum(half_up(ratio * 2.0**shift), 1)
    return HostOp(kind="rescale", gain=gain if gain.size > 1 else gain[0], shift=shift, lo=lo, hi=hi)


def _weights(part: Layer, op: HostOp, unit: FloatArray, delta: FloatArray, node: str) -> QuantRecord:
    assert isinstance(part, AffineLayer)
    assert op.weight is not None
    w = array(part.weight) * unit
    return record(
        node,
        part.path,
        "host weight (14 bits)",
        unit="delta",
        source=w,
        integer=op.weight,
        lsb=rows(delta, w),
        floor=float(np.abs(w).max()),
    )
