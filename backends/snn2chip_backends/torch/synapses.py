"""Synapses and products on tensors: payloads `[T, B, *shape]` in, exact currents `[T, B, *shape]` out.

Every synapse works in the narrowest type that its proven bound allows (float32, else float64; identity and
products in integers); the exponent only scales a float or shifts an integer. Time is folded into the batch.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.nn import functional

from snn2chip.ir.geometry import channel_weight
from snn2chip.ir.nodes import Product, Synapse
from snn2chip.ir.types import PayloadType
from snn2chip_backends.torch.arithmetic import rshift
from snn2chip_backends.torch.bounds import partial_bound
from snn2chip_backends.torch.columns import column_convolution
from snn2chip_backends.torch.constants import on_device
from snn2chip_backends.torch.exact import float_type, int_type
from snn2chip_backends.torch.sparse import runs_sparse, sparse_matrix

Shape = tuple[int, ...]
Current = Callable[..., Tensor]
"""`current(payload)` of a synapse, `current(p, q)` of a product."""


def synapse_kernel(synapse: Synapse, payload: PayloadType, shape: Shape, device: torch.device) -> Current:
    """The linear map of `synapse` for payloads of a declared range and shape."""
    bound = partial_bound(synapse, payload.magnitude)
    if synapse.kind == "identity":
        return _identity(synapse, bound, shape, device)
    dtype = float_type(max(bound, payload.magnitude))
    if synapse.kind == "linear":
        return _linear(synapse, dtype, device)
    if synapse.kind == "sumpool":
        return _sumpool(synapse, dtype, shape, device)
    if device.type == "cpu" and dtype == torch.float32 and not runs_sparse(synapse):
        return _convolution(synapse, dtype, device)
    return _folded(column_convolution(synapse, dtype, shape, device))


def _folded(current: Callable[[Tensor], Tensor], dtype: torch.dtype | None = None) -> Current:
    """Fold time into the batch around a map of `[N, *shape]`, converting to `dtype` first."""

    def fold(payload: Tensor) -> Tensor:
        out = current(payload.to(dtype or payload.dtype).flatten(0, 1))
        return out.view(*payload.shape[:2], *out.shape[1:])

    return fold


def _scale(synapse: Synapse) -> int:
    return 1 << synapse.exponent


def _identity(synapse: Synapse, bound: int, shape: Shape, device: torch.device) -> Current:
    values = channel_weight(synapse, shape) * _scale(synapse)
    if (values == 1).all():
        return lambda payload: payload
    dtype = int_type(bound * _scale(synapse))
    weight = on_device(np.asarray(values), dtype, device)
    return lambda payload: payload.to(dtype) * weight


def _linear(synapse: Synapse, dtype: torch.dtype, device: torch.device) -> Current:
    scale, shape = _scale(synapse), synapse.shape or (-1,)
    if runs_sparse(synapse):
        matrix = sparse_matrix(sparse.csr_matrix(synapse.weight) * scale, dtype, device)
        return _folded(lambda p: (matrix @ p.flatten(1).t().contiguous()).t().reshape(len(p), *shape), dtype)
    weight = on_device(synapse.dense() * scale, dtype, device)
    return _folded(lambda p: (p.flatten(1) @ weight.t()).view(len(p), *shape), dtype)


def _convolution(synapse: Synapse, dtype: torch.dtype, device: torch.device) -> Current:
    s = synapse
    weight = on_device(s.weight * _scale(s), dtype, device)
    return _folded(
        lambda p: functional.conv2d(
            p, weight, stride=s.stride, padding=s.padding, dilation=s.dilation, groups=s.groups
        ),
        dtype,
    )


def _sumpool(synapse: Synapse, dtype: torch.dtype, shape: Shape, device: torch.device) -> Current:
    s = synapse
    values = channel_weight(s, shape) * _scale(s)
    weight = None if (values == 1).all() else on_device(np.asarray(values), dtype, device)
    ph, pw = s.padding

    def pool(p: Tensor) -> Tensor:
        padded = functional.pad(p, (pw, pw, ph, ph)) if ph or pw else p
        total = functional.avg_pool2d(padded, s.kernel_size, s.stride, divisor_override=1)
        return total if weight is None else total.mul_(weight)

    return _folded(pool, dtype)


def product_kernel(product: Product, payloads: list[PayloadType], shapes: list[Shape], device: torch.device) -> Current:
    """Current `rshift(p * q, shift)`; the smaller payload is per channel and broadcast over space."""
    swap = np.prod(shapes[0]) < np.prod(shapes[1])
    shape, gate = (shapes[1], shapes[0]) if swap else (shapes[0], shapes[1])
    view = gate if gate == shape else (gate[0], *(1,) * (len(shape) - 1))
    half = (1 << product.shift) >> 1
    dtype = int_type(payloads[0].magnitude * payloads[1].magnitude + half)

    def multiply(p: Tensor, q: Tensor) -> Tensor:
        if swap:
            p, q = q, p
        out = p.to(dtype) * q.to(dtype).reshape(*q.shape[:2], *view)
        return rshift(out, product.shift, half) if product.shift else out

    return multiply
