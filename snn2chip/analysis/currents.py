"""Ranges of the currents that synapses and products make of payloads in given ranges.

linear, conv2d   a_o in [ sum_i min(w*lo_i, w*hi_i), sum_i max(w*lo_i, w*hi_i) ] * 2^exponent
product          the corners of p*q, shifted
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from snn2chip.analysis.spans import Span
from snn2chip.ir.dynamics import rshift
from snn2chip.ir.geometry import channel_weight
from snn2chip.ir.nodes import Product, Synapse
from snn2chip.ir.types import IntArray

Shape = tuple[int, ...]
ROWS = 64
"""Rows of a dense matrix taken at a time, so that its copies stay small."""


def synapse_span(synapse: Synapse, payload: Span, in_shape: Shape, out_shape: Shape) -> Span:
    """Range of the current of a synapse; per output channel, or per neuron (linear, identity)."""
    s = synapse
    if any(s.padding):  # taps on padding see 0
        payload = payload.with_zero()
    factor = np.array(1 << s.exponent)
    if s.kind == "identity":
        return payload.times(channel_weight(s, in_shape) * factor)
    per_channel = payload.per_channel(in_shape[0])
    if s.kind == "sumpool":
        taps = s.kernel_size[0] * s.kernel_size[1]
        return per_channel.times(np.broadcast_to(s.weight.reshape(-1), in_shape[:1]) * factor * taps).spread(3)
    if s.kind == "conv2d":
        return _conv(s.weight, s.groups, per_channel).times(factor).spread(len(out_shape))
    found = _linear(s.weight, payload, in_shape).times(factor)
    return Span(found.lo.reshape(out_shape), found.hi.reshape(out_shape))


def _conv(weight: IntArray, groups: int, payload: Span) -> Span:
    """`[O]` from `[Cout, Cin/groups, kh, kw]` and payloads `[Cin]`."""
    parts = []
    for g, rows in enumerate(np.split(weight, groups)):
        taps = rows.reshape(*rows.shape[:2], -1)
        plus = np.maximum(taps, 0).sum(-1)
        own = slice(g * rows.shape[1], (g + 1) * rows.shape[1])
        parts.append(_ends(plus, taps.sum(-1) - plus, payload.lo[own], payload.hi[own]))
    return _joined(parts)


def _linear(weight: Any, payload: Span, in_shape: Shape) -> Span:
    """`[M]` from `[M, N]` (dense or sparse) and payloads that broadcast to N."""
    lo, hi = (np.broadcast_to(v, in_shape).reshape(-1) for v in (payload.lo, payload.hi))
    if sparse.issparse(weight):
        return _ends(weight.maximum(0), weight.minimum(0), lo, hi)
    parts = []
    for start in range(0, len(weight), ROWS):
        rows = weight[start : start + ROWS]
        plus = np.maximum(rows, 0)
        parts.append(_ends(plus, rows - plus, lo, hi))
    return _joined(parts)


def _ends(plus: Any, minus: Any, lo: IntArray, hi: IntArray) -> Span:
    """Range of `W p` for the positive and negative weights `[M, N]` and payloads `[N]`."""
    return Span(np.asarray(plus @ lo + minus @ hi), np.asarray(plus @ hi + minus @ lo))


def _joined(parts: list[Span]) -> Span:
    return Span(np.concatenate([p.lo for p in parts]), np.concatenate([p.hi for p in parts]))


def product_span(product: Product, payloads: list[Span], shapes: list[Shape]) -> Span:
    """Range of `rshift(p * q, shift)`, per channel."""
    axes = max(len(shape) for shape in shapes)
    p, q = (pl.per_channel(shape[0]).spread(axes) for pl, shape in zip(payloads, shapes, strict=True))
    corners = [rshift(a * b, product.shift) for a in (p.lo, p.hi) for b in (q.lo, q.hi)]
    return Span(np.minimum.reduce(corners), np.maximum.reduce(corners))
