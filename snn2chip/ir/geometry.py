"""Shapes, fan-out and current bounds of synapses; nothing here runs a network.

conv2d: `H' = floor((H + 2*padding - dilation*(k-1) - 1)/stride) + 1`, as in PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import sparse

from snn2chip.ir.nodes import Synapse
from snn2chip.ir.types import IntArray, PayloadType

Shape = tuple[int, ...]
BLOCK = 1 << 18


def conv_size(size: int, k: int, stride: int, padding: int, dilation: int) -> int:
    """Output length of one spatial axis."""
    return (size + 2 * padding - dilation * (k - 1) - 1) // stride + 1


def out_shape(synapse: Synapse, in_shape: Shape) -> tuple[Shape, list[str]]:
    """Shape of the current that `synapse` makes of a payload `in_shape`, and what does not fit."""
    s, w = synapse, synapse.stored
    if s.kind == "identity":
        return in_shape, _channel_breaches(s, in_shape)
    if w is None:
        return (), [f"a {s.kind} synapse needs a weight"]
    if s.kind == "linear":
        n = int(np.prod(in_shape, dtype=np.int64))
        if w.ndim != 2:
            return (), [f"a linear weight is [M, N], got shape {w.shape}"]
        bad = [] if w.shape[1] == n else [f"weight {w.shape} takes {w.shape[1]} inputs, source has {n} {in_shape}"]
        if s.shape is not None and int(np.prod(s.shape, dtype=np.int64)) != w.shape[0]:
            bad.append(f"weight {w.shape} gives {w.shape[0]} currents, not the declared shape {s.shape}")
        return s.shape or (int(w.shape[0]),), bad
    if len(in_shape) != 3:
        return (), [f"a {s.kind} synapse needs a source of shape [C, H, W], got {in_shape}"]
    c, h, wd = in_shape
    bad = []
    if s.kind == "conv2d":
        if w.ndim != 4:
            return (), [f"a conv2d weight is [Cout, Cin/groups, kh, kw], got shape {w.shape}"]
        if c != w.shape[1] * s.groups or w.shape[0] % s.groups:
            bad.append(f"weight {w.shape} with groups={s.groups} does not fit {c} source channels")
        channels = int(w.shape[0])
    else:
        bad, channels = _channel_breaches(s, in_shape), c
    size = [conv_size(n, s.kernel_size[i], s.stride[i], s.padding[i], s.dilation[i]) for i, n in enumerate((h, wd))]
    if min(size) < 1:
        bad.append(f"kernel {s.kernel_size} is larger than the padded source {in_shape}")
    return (channels, *size), bad


def _channel_breaches(s: Synapse, in_shape: Shape) -> list[str]:
    c = in_shape[0] if in_shape else 1
    ok = s.stored.ndim == 0 or s.stored.shape in ((1,), (c,), in_shape if s.kind == "identity" else (c,))
    return [] if ok else [f"a {s.kind} weight is a scalar or per channel [{c}], got shape {s.stored.shape}"]


def channel_weight(synapse: Synapse, in_shape: Shape) -> IntArray:
    """Weight of an identity or sum-pool synapse, ready to broadcast against `in_shape`."""
    w: IntArray = synapse.weight
    return w.reshape(w.shape + (1,) * (len(in_shape) - 1)) if w.ndim == 1 else w


def _taps(synapse: Synapse, in_shape: Shape) -> IntArray:
    """How many output positions use source position (h, w), for every kernel tap: `[kh, kw, H, W]`."""
    s = synapse
    used = []
    for axis, n in enumerate(in_shape[1:]):
        k, stride, pad, dil = s.kernel_size[axis], s.stride[axis], s.padding[axis], s.dilation[axis]
        count = conv_size(n, k, stride, pad, dil)
        hit = np.zeros((k, n), dtype=np.int64)
        for tap in range(k):
            at = np.arange(count) * stride - pad + tap * dil
            np.add.at(hit[tap], at[(at >= 0) & (at < n)], 1)
        used.append(hit)
    out: IntArray = np.einsum("ah,bw->abhw", used[0], used[1])
    return out


def fan_out(synapse: Synapse, in_shape: Shape) -> IntArray:
    """Number of stored synapses that leave each source neuron, `[*in_shape]`.

    A spike costs this many synaptic events. Dense formats store zeros too; sparse ones do not; taps
    that fall on padding do not exist.
    """
    s = synapse
    if s.kind == "identity":
        return np.broadcast_to((channel_weight(s, in_shape) != 0) if s.sparse else 1, in_shape).astype(np.int64)
    if s.kind == "linear":
        if sparse.issparse(s.stored):
            return np.bincount(s.stored.indices, minlength=s.stored.shape[1]).reshape(in_shape).astype(np.int64)
        return np.full(in_shape, s.stored.shape[0], dtype=np.int64)
    taps = _taps(s, in_shape)
    if s.kind == "sumpool":
        return np.broadcast_to(taps.sum((0, 1)), in_shape).astype(np.int64)
    w = s.stored.reshape(s.groups, s.stored.shape[0] // s.groups, *s.stored.shape[1:])
    stored = (w != 0).sum(1) if s.sparse else np.full((s.groups, *w.shape[2:]), w.shape[1])
    per_tap = stored.reshape(in_shape[0], *w.shape[3:]).astype(np.int64)
    out: IntArray = np.einsum("cab,abhw->chw", per_tap, taps)
    return out


def row_blocks(matrix: Any) -> Iterator[Any]:
    """The rows of a matrix in blocks of about a quarter of a million numbers: what widens them stays small."""
    rows = max(1, BLOCK // max(1, matrix.shape[1]))
    for start in range(0, len(matrix), rows):
        yield matrix[start : start + rows]


def _signed_sums(rows: Any) -> IntArray:
    """Sums of the positive and of the negative numbers of each row."""
    plus = np.maximum(rows, 0).sum(1, dtype=np.int64)
    return np.stack([plus, rows.sum(1, dtype=np.int64) - plus], axis=1)


def current_range(synapse: Synapse, payload: PayloadType) -> tuple[int, int]:
    """Static bounds `(lo, hi)` of any current that `synapse` can make of payloads in `payload`."""
    w = synapse.stored
    if synapse.kind in ("identity", "sumpool"):
        n = 1 if synapse.kind == "identity" else synapse.kernel_size[0] * synapse.kernel_size[1]
        flat = synapse.weight.ravel()
        rows = np.stack([np.maximum(flat, 0) * n, np.minimum(flat, 0) * n], axis=1)
    elif sparse.issparse(w):
        plus, minus = w.maximum(0).sum(1), w.minimum(0).sum(1)
        rows = np.concatenate([np.asarray(plus), np.asarray(minus)], axis=1).astype(np.int64)
    else:
        rows = np.concatenate([_signed_sums(part) for part in row_blocks(w.reshape(w.shape[0], -1))])
    hi = rows[:, 0] * payload.hi + rows[:, 1] * payload.lo
    lo = rows[:, 0] * payload.lo + rows[:, 1] * payload.hi
    return int(lo.min()) << synapse.exponent, int(hi.max()) << synapse.exponent
