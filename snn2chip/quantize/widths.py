"""How many bytes the weights of a program take at their declared widths, packed."""

from __future__ import annotations

import numpy as np
from scipy.sparse import issparse

from snn2chip.ir.program import Program

TERNARY_BITS = 2


def weight_bytes(program: Program) -> int:
    """Return the bytes of all synapses' weights: stored values times bits (ternary: 2), rounded up once."""
    bits = 0
    for synapse in program.synapses:
        stored = synapse.weight.nnz if issparse(synapse.weight) else np.asarray(synapse.weight).size
        bits += stored * (TERNARY_BITS if synapse.bits == "ternary" else int(synapse.bits))
    return -(-bits // 8)
