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

from snn2chip.ir.geometry import channel_weight, out_shape
from snn2chip.ir.nodes import Product, Synapse
from snn2chip.ir.types import IntArray, PayloadType
from snn2chip_backends.torch import int8
from snn2chip_backends.torch.arithmetic import rshift
from snn2chip_backends.torch.bounds import partial_bound
from snn2chip_backends.torch.columns import column_convolution
from snn2chip_backends.torch.constants import on_device
from snn2chip_backends.torch.exact import float_type, int_type
from snn2chip_backends.torch.fused import channels_last
from snn2chip_backends.torch.pooled import pool, pooled_payload, unpooled
from snn2chip_backends.torch.sparse import runs_sparse, sparse_matrix
from snn2chip_backends.torch.tensor_cores import choose_unit, sound_units, synapse_on_unit
from snn2chip_backends.torch.winograd import applies, winograd, worth

Shape = tuple[int, ...]
FEW, SMALL = 8, 1 << 20
"""Fewer rows than this are as fast in floats, for which matrices of up to so many weights are kept too."""
Current = Callable[..., Tensor]
"""`current(payload)` of a synapse, `current(p, q)` of a product."""


def synapse_kernel(synapse: Synapse, payload: PayloadType, shape: Shape, device: torch.device) -> Current:
    """The linear map of `synapse` for payloads of a declared range and shape."""
    bound = partial_bound(synapse, payload.magnitude)
    if synapse.kind == "identity":
        return _identity(synapse, bound, shape, device)
    if (on_unit := _on_matrix_unit(synapse, payload, bound, shape, device)) is not None:
        return on_unit
    if device.type == "cpu" and (smaller := unpooled(synapse, shape)) is not None:
        return _after_pool(*smaller, payload, shape, device)
    dtype = float_type(max(bound, payload.magnitude))
    if device.type == "cpu" and (fast := _in_bytes(synapse, payload, bound, shape)) is not None:
        return fast
    if synapse.kind == "linear":
        return _linear(synapse, dtype, shape, device)
    if synapse.kind == "sumpool":
        return _sumpool(synapse, dtype, shape, device)
    if device.type == "cpu" and dtype == torch.float32 and not runs_sparse(synapse):
        if worth(synapse) and applies(synapse, payload.magnitude):
            return _folded(winograd(synapse, shape), dtype)
        return _convolution(synapse, dtype, device)
    return _folded(column_convolution(synapse, dtype, shape, device))


def _folded(current: Callable[[Tensor], Tensor], dtype: torch.dtype | None = None) -> Current:
    """Fold time into the batch around a map of `[N, *shape]`, converting to `dtype` first.

    Samples come first in memory (see `fused.new_payloads`), so that folding a slice of them moves nothing.
    """

    def fold(payload: Tensor) -> Tensor:
        steps, batch = payload.shape[:2]
        out = current(payload.transpose(0, 1).flatten(0, 1).to(dtype or payload.dtype))
        return out.view(batch, steps, *out.shape[1:]).transpose(0, 1)

    return fold


def _on_matrix_unit(
    synapse: Synapse, payload: PayloadType, bound: int, shape: Shape, device: torch.device
) -> Current | None:
    """The synapse on a matrix unit of a GPU, where one is exact for it."""
    units = sound_units(device)
    if not units or synapse.kind not in ("linear", "conv2d") or runs_sparse(synapse) or not synapse.values().size:
        return None
    values = synapse.values()
    weights = PayloadType(min(int(values.min()), 0), max(int(values.max()), 0))
    unit = choose_unit(payload, weights, bound, units)
    return None if unit is None else _folded(synapse_on_unit(synapse, unit, bound, shape, device))


def _after_pool(f: int, small: Synapse, payload: PayloadType, shape: Shape, device: torch.device) -> Current:
    """A convolution of sums over f x f."""
    summed = pooled_payload(payload, f)
    convolve = synapse_kernel(small, summed, (shape[0], shape[1] // f, shape[2] // f), device)
    sums = _folded(pool(f, summed))
    return lambda p: convolve(sums(p))


def _in_bytes(synapse: Synapse, payload: PayloadType, bound: int, shape: Shape) -> Current | None:
    """The synapse in products of bytes, where those are exact, there, and worth it."""
    if synapse.kind not in ("linear", "conv2d") or runs_sparse(synapse):
        return None
    positions = int(np.prod(out_shape(synapse, shape)[0][1:])) if synapse.kind == "conv2d" else 1
    if synapse.stored.size * positions < int8.LARGE:
        return None
    count = int8.digits(synapse, payload, partial_bound(synapse, 1))
    if not count or int8.products_of_bytes() is None:
        return None
    if synapse.kind == "conv2d":
        return _folded(int8.in_digits(int8.convolution(synapse, shape, _scale(synapse), count), bound))
    multiply = int8.in_digits(int8.linear(as_stored(synapse.dense(), shape), _scale(synapse), count), bound)
    out, dtype = synapse.shape or (-1,), float_type(max(bound, payload.magnitude))
    if synapse.stored.size > SMALL:
        return _folded(lambda p: multiply(_flat(p)).view(len(p), *out))
    weight = on_device(as_stored(synapse.dense(), shape) * _scale(synapse), dtype, torch.device("cpu")).t()

    def few_or_many(p: Tensor) -> Tensor:
        rows = _flat(p)
        return (rows.to(dtype) @ weight if len(rows) < FEW else multiply(rows)).view(len(p), *out)

    return _folded(few_or_many)


def as_stored(weight: IntArray, shape: Shape) -> IntArray:
    """Columns in the order in which payloads of `shape` lie in memory (see `fused`)."""
    if not channels_last(shape):
        return weight
    return np.moveaxis(weight.reshape(len(weight), *shape), 1, -1).reshape(len(weight), -1)


def _flat(payload: Tensor) -> Tensor:
    """Payloads `[N, *shape]` as rows in that order; nothing moves if they lie so."""
    return (payload.permute(0, 2, 3, 1) if payload.ndim == 4 else payload).flatten(1)


def _scale(synapse: Synapse) -> int:
    return 1 << synapse.exponent


def _identity(synapse: Synapse, bound: int, shape: Shape, device: torch.device) -> Current:
    values = channel_weight(synapse, shape) * _scale(synapse)
    if (values == 1).all():
        return lambda payload: payload
    dtype = int_type(bound * _scale(synapse))
    weight = on_device(np.asarray(values), dtype, device)
    return lambda payload: payload.to(dtype) * weight


def _linear(synapse: Synapse, dtype: torch.dtype, source: Shape, device: torch.device) -> Current:
    scale, shape = _scale(synapse), synapse.shape or (-1,)
    if runs_sparse(synapse):
        matrix = sparse_matrix(sparse.csr_matrix(synapse.weight) * scale, dtype, device)
        return _folded(lambda p: (matrix @ p.flatten(1).t().contiguous()).t().reshape(len(p), *shape), dtype)
    weight = on_device(as_stored(synapse.dense(), source) * scale, dtype, device)
    return _folded(lambda p: (_flat(p) @ weight.t()).view(len(p), *shape), dtype)


def _convolution(synapse: Synapse, dtype: torch.dtype, device: torch.device) -> Current:
    s = synapse
    weight = on_device(s.weight * _scale(s), dtype, device).contiguous(memory_format=torch.channels_last)
    return _folded(
        lambda p: functional.conv2d(
            p.contiguous(memory_format=torch.channels_last),
            weight,
            stride=s.stride,
            padding=s.padding,
            dilation=s.dilation,
            groups=s.groups,
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
