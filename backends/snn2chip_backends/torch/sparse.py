"""Pruned synapses as sparse matrices; a matrix that is not very sparse is faster dense."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from snn2chip.ir.nodes import Synapse

DENSITY = 0.1
"""Sparse products were faster below this density (512 x 2304 and 64 x 576, one core and AVX-512)."""
DENSE_ENTRIES = 1 << 26
"""A matrix with more entries than this is never made dense."""


def runs_sparse(synapse: Synapse) -> bool:
    """Whether `synapse` is stored sparse and sparse enough to run so."""
    if not synapse.sparse:
        return False
    entries = int(np.prod(synapse.stored.shape, dtype=np.int64))
    return len(synapse.values()) < DENSITY * entries or entries > DENSE_ENTRIES


def sparse_matrix(matrix: sparse.csr_matrix, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A SciPy matrix as a sparse tensor that can be multiplied by dense ones on `device`.

    CSR where a library for it is at hand (MKL on CPU, cuSPARSE on CUDA), else COO, which PyTorch does itself.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support", category=UserWarning)
        out = torch.sparse_csr_tensor(
            torch.from_numpy(matrix.indptr.astype(np.int32)),
            torch.from_numpy(matrix.indices.astype(np.int32)),
            torch.from_numpy(matrix.data).to(dtype),
            size=matrix.shape,
            device="cpu",
            check_invariants=True,
        )
    if device.type == "cpu" and not torch._C.has_mkl:
        return out.to_sparse(layout=torch.sparse_coo).coalesce()
    return out.to(device)
