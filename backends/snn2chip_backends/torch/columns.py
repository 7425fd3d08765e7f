"""Convolution as a copy into columns and one matrix product: no library algorithm to choose, exact anywhere.

    columns[n, (c, i, j), (y, x)] = padded[n, c, y*stride + i*dilation, x*stride + j*dilation]
    current[n, o, (y, x)] = sum over (c, i, j) of w[o, c, i, j] * columns[n, (c, i, j), (y, x)]

Used on CUDA, for float64, and for sparse convolutions. Works through the batch in parts so that the columns
stay small.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from scipy import sparse
from torch import Tensor
from torch.nn import functional

from snn2chip.ir.geometry import conv_size
from snn2chip.ir.nodes import Synapse
from snn2chip.ir.types import IntArray
from snn2chip_backends.torch.constants import on_device
from snn2chip_backends.torch.sparse import runs_sparse, sparse_matrix

COLUMN_BYTES = {"cpu": 4 << 20, "cuda": 256 << 20}


def column_convolution(
    synapse: Synapse, dtype: torch.dtype, shape: tuple[int, ...], device: torch.device
) -> Callable[[Tensor], Tensor]:
    """Map of payloads `[N, C, H, W]` to currents `[N, C', H', W']` in `dtype`."""
    s = synapse
    height, width = (
        conv_size(n, s.kernel_size[i], s.stride[i], s.padding[i], s.dilation[i]) for i, n in enumerate(shape[1:])
    )
    outs, fan_in = int(s.weight.shape[0]), int(s.weight[0].size)
    per_sample = shape[0] * s.kernel_size[0] * s.kernel_size[1] * height * width * dtype.itemsize
    part = max(1, COLUMN_BYTES[device.type] // per_sample)
    grouped = (s.weight << s.exponent).reshape(s.groups, outs // s.groups, fan_in)
    multiply = _sparse(grouped, dtype, device) if runs_sparse(s) else _dense(grouped, dtype, device)

    def convolve(payload: Tensor) -> Tensor:
        out = torch.empty((len(payload), outs, height, width), dtype=dtype, device=device)
        for start in range(0, len(payload), part):
            columns = _columns(s, payload[start : start + part], dtype, height, width)
            multiply(columns, out[start : start + part].view(len(columns), s.groups, -1, height * width))
        return out

    return convolve


def _columns(s: Synapse, payload: Tensor, dtype: torch.dtype, height: int, width: int) -> Tensor:
    """Columns `[N, groups, C/groups*kh*kw, H'*W']`, converted to `dtype` in the same copy."""
    ph, pw = s.padding
    padded = functional.pad(payload, (pw, pw, ph, ph)) if ph or pw else payload.contiguous()
    n, c, (kh, kw) = len(payload), payload.shape[1], s.kernel_size
    batch, channel, row, col = padded.stride()
    windows = padded.as_strided(
        (n, c, kh, kw, height, width),
        (batch, channel, row * s.dilation[0], col * s.dilation[1], row * s.stride[0], col * s.stride[1]),
    )
    copied = torch.empty(windows.shape, dtype=dtype, device=payload.device).copy_(windows)
    return copied.view(n, s.groups, -1, height * width)


def _dense(grouped: IntArray, dtype: torch.dtype, device: torch.device) -> Callable[[Tensor, Tensor], None]:
    weight = on_device(grouped, dtype, device)

    def multiply(columns: Tensor, out: Tensor) -> None:
        n = len(columns)
        batched = weight.expand(n, *weight.shape).reshape(-1, *weight.shape[1:])
        torch.bmm(batched, columns.flatten(0, 1), out=out.flatten(0, 1))

    return multiply


def _sparse(grouped: IntArray, dtype: torch.dtype, device: torch.device) -> Callable[[Tensor, Tensor], None]:
    matrix = sparse_matrix(sparse.csr_matrix(sparse.block_diag(list(grouped))), dtype, device)

    def multiply(columns: Tensor, out: Tensor) -> None:
        n, positions = len(columns), columns.shape[-1]
        flat = columns.flatten(1, 2).movedim(0, 1).reshape(-1, n * positions)
        out.flatten(1, 2).copy_((matrix @ flat).view(-1, n, positions).movedim(1, 0))

    return multiply
