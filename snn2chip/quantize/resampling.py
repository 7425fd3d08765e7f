"""Resampling as a sparse linear synapse: one fixed integer map for the plane of every channel.

W[(c, i, j), (c, u, v)] = w[c] * rows[i, u] * cols[j, v]
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from snn2chip.errors import QuantizeError
from snn2chip.ir.nodes import Synapse
from snn2chip.ir.space_layers import ResampleLayer
from snn2chip.quantize.weights import IntWeights

MAX_STORED = 1 << 24
"""Stored weights of one synapse."""
MAX_WEIGHT = 127


def resampling(name: str, layer: ResampleLayer, weights: IntWeights, *, shape: tuple[int, ...]) -> Synapse:
    """The synapse of a resampling layer with channel weights `[C]`, whose currents have the shape `[C, H', W']`.

    Raises QuantizeError for a map that is too large to store, or whose entries need more than eight bits.
    """
    rows, cols = (sparse.csr_matrix(m.cpu().numpy().astype(np.int64)) for m in (layer.rows, layer.cols))
    stored = shape[0] * rows.nnz * cols.nnz
    largest = int(np.abs(weights.values).max(initial=0)) * layer.largest
    bad = []
    if stored > MAX_STORED:
        bad.append(f"{layer.label}: the map of {list(shape)} has {stored:,} weights, {MAX_STORED:,} are the most")
    if largest > MAX_WEIGHT:
        bad.append(f"{layer.label}: the map needs weights up to {largest}, {MAX_WEIGHT} fit eight bits")
    if bad:
        raise QuantizeError([f"{text}; pool or upsample by sizes that divide, or in smaller planes" for text in bad])
    plane = sparse.kron(rows, cols, format="csr")
    matrix = sparse.kron(sparse.diags(np.asarray(weights.values), dtype=np.int64), plane, format="csr")
    return Synapse(name, "linear", matrix, exponent=weights.exponent, layer=layer.path, shape=shape)
