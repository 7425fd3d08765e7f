"""Convolutions that begin with a sum over squares, as a sum and a smaller convolution: f*f times fewer products.

The compiler composes an average pool and the convolution behind it into one map, whose kernel then repeats every weight
over f x f taps. With stride, padding and size divisible by f,

    sum over (i, j) of w[i // f, j // f] p[y*s + i - pad, x*s + j - pad]
        = sum over (k, l) of w[k, l] q[y*(s/f) + k - pad/f, x*(s/f) + l - pad/f],   q: sums of p over f x f

is the same sum of the same terms, so no bound changes; q <= f*f*p.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from snn2chip.ir.nodes import Synapse
from snn2chip.ir.types import PayloadType
from snn2chip_backends.torch import layout as at
from snn2chip_backends.torch.exact import float_type
from snn2chip_backends.torch.fused import compiled_pass
from snn2chip_backends.torch.somas import tensor_type

MOST = 8


def unpooled(synapse: Synapse, shape: tuple[int, ...]) -> tuple[int, Synapse] | None:
    """The largest f and the smaller convolution that does the same to sums over f x f of a payload, or None."""
    s = synapse
    if s.kind != "conv2d" or s.sparse or s.dilation != (1, 1):
        return None
    sizes = (*s.kernel_size, *s.stride, *s.padding, *shape[1:])
    out, inner, kh, kw = s.stored.shape
    for f in range(min(MOST, *s.stride), 1, -1):
        if any(size % f for size in sizes):
            continue
        blocks = s.stored.reshape(out, inner, kh // f, f, kw // f, f)
        if (blocks == blocks[:, :, :, :1, :, :1]).all():
            small = np.ascontiguousarray(s.stored[:, :, ::f, ::f])
            stride, padding = (s.stride[0] // f, s.stride[1] // f), (s.padding[0] // f, s.padding[1] // f)
            kernel = (kh // f, kw // f)
            return f, attrs.evolve(s, weight=small, kernel_size=kernel, stride=stride, padding=padding)
    return None


def pooled_payload(payload: PayloadType, f: int) -> PayloadType:
    """Range of sums over f x f payloads."""
    return PayloadType(payload.lo * f * f, payload.hi * f * f)


def pool(f: int, summed: PayloadType) -> Callable[[Tensor], Tensor]:
    """Sums over f x f of payloads `[N, C, H, W]` in the smallest integers that hold `summed`."""
    call, kind, exact = compiled_pass(), tensor_type(summed), float_type(summed.magnitude)

    def by_library(p: Tensor) -> Tensor:
        return functional.avg_pool2d(p.to(exact), f, f, divisor_override=1).to(kind)

    if call is None or kind != torch.int8:
        return by_library

    def by_bytes(p: Tensor) -> Tensor:
        if p.dtype != torch.int8:
            return by_library(p)
        p = p.contiguous(memory_format=torch.channels_last)
        n, c, h, w = p.shape
        out = torch.empty((n, h // f, w // f, c), dtype=torch.int8, device="cpu")
        tape = np.zeros((1, at.LENGTH), np.int64)
        tape[0, :7], tape[0, at.OP] = (p.data_ptr(), out.data_ptr(), n, h // f, w // f, c, f), at.POOL
        call(tape)
        return out.permute(0, 3, 1, 2)

    return by_bytes
