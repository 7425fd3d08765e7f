"""Products of bytes with 32-bit sums: several times faster than float32 where the processor has instructions for them.

oneDNN multiplies unsigned bytes by signed bytes, adds up in int32 and hands the sum out as float32. That is exact when

    0 <= payload digit <= 127      two neighbouring products fit 16 bits, 2 * 127 * 128 < 2^15, so that even processors
                                   without VNNI, which add pairs in 16 bits with saturation, do not clip
    -128 <= weight <= 127
    sum |w| * max digit <= 2^24    the int32 sum is a float32 integer; the exponent only scales it

Payloads of more than 7 bits are split into digits, p = d0 + 128 d1, and the two currents added up.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snn2chip.ir.nodes import Synapse
from snn2chip.ir.types import IntArray, PayloadType
from snn2chip_backends.torch.exact import FLOAT32_EXACT

DIGIT = 7
MOST_DIGITS = 2
LARGE = 1 << 12
"""Multiplications per sample and step from which products of bytes save more than their calls cost."""


@lru_cache(maxsize=1)
def products_of_bytes() -> Any:
    """oneDNN's operators on quantized tensors, or None where this PyTorch or processor is no good for them.

    They are tried once with the largest digits and weights of both signs, so that a build that computes them in another
    way than the one shown to be exact is not used.
    """
    library: Any = torch
    probe = library.cpu
    supported = getattr(probe, "_is_vnni_supported", None) or getattr(probe, "_is_cpu_support_vnni", None)
    if supported is None or not supported():
        return None
    try:
        library = library.ops.onednn
        sound = _tried(library)
    except (AttributeError, RuntimeError, TypeError, NotImplementedError):
        return None
    return library if sound else None


def _tried(library: Any) -> bool:
    rows = torch.tensor([[127] * 128, [-128] * 128, [127, -128] * 64], dtype=torch.int8, device="cpu")
    full = torch.full((2, 128), 127, dtype=torch.uint8, device="cpu")
    expected = full.to(torch.float64) @ rows.to(torch.float64).t()
    flat = _Linear(library, rows, 1.0)(full)
    conv = _Convolution(library, rows.view(3, 128, 1, 1), 1.0, ((1, 1), (0, 0), (1, 1)), 1, (2, 128, 1, 1))
    square = conv(full.view(2, 128, 1, 1)).view(2, 3)
    return flat.dtype == torch.float32 and bool((flat == expected).all() and (square == expected).all())


def digits(synapse: Synapse, payload: PayloadType, largest_row: int) -> int:
    """How many 7-bit digits of the payload give exact products of bytes with the synapse's weights; 0: none do."""
    weights = synapse.values()
    if payload.lo < 0 or not weights.size or not -128 <= int(weights.min()) <= int(weights.max()) <= 127:
        return 0
    count = max(1, -(-payload.hi.bit_length() // DIGIT))
    largest = min(payload.hi, (1 << DIGIT) - 1)
    return count if count <= MOST_DIGITS and largest_row * largest <= FLOAT32_EXACT else 0


def in_digits(product: list[Callable[[Tensor], Tensor]], bound: int) -> Callable[[Tensor], Tensor]:
    """Current of payloads by one product per digit, the lowest one first; `bound` that of the whole current."""
    if len(product) == 1:
        return lambda p: product[0](_bytes(p))
    low, high = product
    wide = bound > FLOAT32_EXACT

    def current(p: Tensor) -> Tensor:
        first, second = low(_bytes(p & 127)), high(_bytes(p >> DIGIT))
        return first.to(torch.float64).add_(second) if wide else first.add_(second)

    return current


def _bytes(p: Tensor) -> Tensor:
    """Payloads 0..127 as unsigned bytes; nothing moves if they are bytes already."""
    return p.view(torch.uint8) if p.dtype == torch.int8 else p.to(torch.uint8)


def linear(weight: IntArray, scale: int, count: int) -> list[Callable[[Tensor], Tensor]]:
    """Products `[N, fan-in] -> [N, M]` of one digit each, times `scale`."""
    packed = torch.from_numpy(np.array(weight, dtype=np.int8))
    return [_Linear(products_of_bytes(), packed, float(scale << (DIGIT * i))) for i in range(count)]


def convolution(synapse: Synapse, shape: tuple[int, ...], scale: int, count: int) -> list[Callable[[Tensor], Tensor]]:
    """Products `[N, C, H, W] -> [N, C', H', W']` (channels last) of one digit each, times `scale`."""
    s, packed = synapse, torch.from_numpy(np.array(synapse.weight, dtype=np.int8))
    geometry = (s.stride, s.padding, s.dilation)
    return [
        _Convolution(products_of_bytes(), packed, float(scale << (DIGIT * i)), geometry, s.groups, (32, *shape))
        for i in range(count)
    ]


class _Linear:
    def __init__(self, library: Any, weight: Tensor, scale: float) -> None:
        self.multiply = library.qlinear_pointwise
        self.packed = library.qlinear_prepack(weight, None)
        self.scales = torch.full((len(weight),), scale, dtype=torch.float32, device="cpu")
        self.zeros = torch.zeros(len(weight), dtype=torch.int32, device="cpu")

    def __call__(self, p: Tensor) -> Tensor:
        return self.multiply(
            p, 1.0, 0, self.packed, self.scales, self.zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )


Geometry = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


class _Convolution:
    def __init__(
        self, library: Any, weight: Tensor, scale: float, geometry: Geometry, groups: int, shape: tuple[int, ...]
    ) -> None:
        self.multiply = library.qconv2d_pointwise
        self.scales = torch.full((len(weight),), scale, dtype=torch.float32, device="cpu")
        self.zeros = torch.zeros(len(weight), dtype=torch.int32, device="cpu")
        self.geometry = ([*geometry[0]], [*geometry[1]], [*geometry[2]], groups)
        self.packed = library.qconv_prepack(weight, self.scales, 1.0, 0, *self.geometry, [*shape])

    def __call__(self, p: Tensor) -> Tensor:
        p = p.contiguous(memory_format=torch.channels_last)
        return self.multiply(
            p, 1.0, 0, self.packed, self.scales, self.zeros, None, *self.geometry, 1.0, 0, torch.float32, "none", [], ""
        )
