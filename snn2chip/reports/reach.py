"""Which neurons spikes reach, and how many reach each: what makes an update an active one, and a core a busy one.

A neuron receives input in a step when a stored synapse (zeros included where they are stored) hands a payload other
than 0 on to it; a product hands on when either factor is other than 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch.nn import functional as F

from snn2chip.ir.geometry import channel_weight
from snn2chip.ir.nodes import Synapse
from snn2chip.ir.types import IntArray

Flags = NDArray[np.bool_]


def reached(synapse: Synapse, flags: Flags, out_shape: tuple[int, ...]) -> Flags:
    """Neurons `[N, *out_shape]` that a stored synapse from a set flag `[N, *in_shape]` enters."""
    s, n = synapse, len(flags)
    if s.kind == "identity":
        return flags & (channel_weight(s, flags.shape[1:]) != 0) if s.sparse else flags
    if s.kind == "linear":
        flat = flags.reshape(n, -1)
        if not sparse.issparse(s.weight):
            any_source = flat.any(1).reshape(n, *(1,) * len(out_shape))
            return np.broadcast_to(any_source, (n, *out_shape))
        mask = sparse.csr_matrix((np.ones(s.weight.nnz, np.float32), s.weight.indices, s.weight.indptr), s.weight.shape)
        hits = mask @ flat.T.astype(np.float32)
        return np.asarray(hits.T > 0).reshape(n, *out_shape)
    return _windows(s, flags).reshape(n, *out_shape)


def _windows(s: Synapse, flags: Flags) -> Flags:
    """Convolutions and pools: any flag under the kernel; stored zeros count, so channels of a group are one."""
    kh, kw = s.padding
    x = F.pad(torch.from_numpy(np.ascontiguousarray(flags)).float(), (kw, kw, kh, kh))
    if s.kind == "conv2d" and s.sparse:
        mask = torch.from_numpy((s.weight != 0).astype(np.float32))
        hits = F.conv2d(x, mask, stride=s.stride, dilation=s.dilation, groups=s.groups)
        return np.asarray((hits > 0.5).numpy())
    if s.kind == "conv2d":
        x = x.reshape(len(x), s.groups, -1, *x.shape[2:]).amax(2)
    found: Any = F.max_pool2d(x, s.kernel_size, stride=s.stride, dilation=s.dilation) > 0
    if s.kind == "conv2d":
        found = found.repeat_interleave(s.weight.shape[0] // s.groups, dim=1)
    return np.asarray(found.numpy())


def arrived(synapse: Synapse, spikes: IntArray, out_shape: tuple[int, ...]) -> IntArray:
    """Synaptic events at every neuron `[*out_shape]` that `spikes [*in_shape]` of the source cause, zeros included."""
    s = synapse
    if s.kind == "identity":
        return spikes * (channel_weight(s, spikes.shape) != 0) if s.sparse else spikes
    if s.kind == "linear":
        if not sparse.issparse(s.weight):
            return np.full(out_shape, int(spikes.sum()), dtype=np.int64)
        mask = sparse.csr_matrix((np.ones(s.weight.nnz, np.int64), s.weight.indices, s.weight.indptr), s.weight.shape)
        found: IntArray = np.asarray(mask @ spikes.ravel()).reshape(out_shape)
        return found
    groups = s.groups if s.kind == "conv2d" else spikes.shape[0]
    shape = s.weight.shape if s.kind == "conv2d" else (spikes.shape[0], 1, *s.kernel_size)
    mask = (s.weight != 0) if s.kind == "conv2d" and s.sparse else np.ones(shape)
    x = torch.from_numpy(np.ascontiguousarray(spikes, dtype=np.float64))[None]
    kernel = torch.from_numpy(mask.astype(np.float64))
    made = F.conv2d(x, kernel, stride=s.stride, padding=s.padding, dilation=s.dilation, groups=groups)
    return made[0].round().to(torch.int64).numpy()


def product_reached(flags: list[Flags], out_shape: tuple[int, ...]) -> Flags:
    """Neurons `[N, *out_shape]` that either factor of a product reaches; one factor may be per channel."""
    found: Flags = np.zeros((len(flags[0]), *out_shape), dtype=bool)
    for given in flags:
        found |= given.reshape(given.shape + (1,) * (found.ndim - given.ndim))
    return found
