"""Which matrix unit of a GPU computes a synapse exactly, by proven bounds, and the synapse on it.

    unit        payloads and weights       sums                          from capability
    int8        -128 .. 127                |sum| < 2^31, in int32        8.0
    bfloat16    |integer| <= 2^8           |sum| < 2^24, in float32      8.0
    float16     |integer| <= 2^11          |sum| < 2^24, in float32      8.0

The significands of bfloat16 and float16 have 8 and 11 bits, so these integers are exact in them, and their products
in the unit. It adds products aligned to the largest of them and may cut off what lies behind 24 bits: below 2^24 no
integer has anything there, whatever the order; at 2^24 itself it could. So the limit is strict here, while
IEEE additions (`exact`) also allow 2^24. Sums are handed on as integers, never in the type of the operands. Everything
beyond, and GPUs for which Triton has no units, take float32 (TF32 off) or float64 through columns.

Each unit computes extreme products once per device before it is used (`sound_units`), so that one which adds in
another way than the one relied on is left alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from functools import lru_cache

import attrs
import numpy as np
import torch
from torch import Tensor

from snn2chip.errors import MachineWarning
from snn2chip.ir.geometry import conv_size
from snn2chip.ir.nodes import Synapse
from snn2chip.ir.types import IntArray, PayloadType
from snn2chip_backends.torch.constants import on_device
from snn2chip_backends.torch.triton_here import product_kernels

Capability = tuple[int, int]
LEAST_ROWS = 32
"""Rows from which cuBLASLt multiplies bytes (`torch._int_mm` wants more than 16, fan-ins divisible by 8)."""
BYTES_ON = ("cuda",)
SMALL_SUM, MIDDLE_SUM = 1 << 15, 1 << 31
"""Currents below these magnitudes leave as int16 and int32."""


@attrs.frozen(kw_only=True)
class Unit:
    """A kind of product: its operands `lo..hi`, its sums below `sums`, its number in the kernels, where it exists."""

    name: str
    dtype: torch.dtype
    lo: int
    hi: int
    sums: int
    capability: Capability
    number: str

    def exact(self, payload: PayloadType, weights: PayloadType, bound: int) -> bool:
        """Whether operands fit, and partial sums, in any order, up to `bound` in magnitude."""
        fits = all(self.lo <= operand.lo and operand.hi <= self.hi for operand in (payload, weights))
        return fits and bound < self.sums


def _unit(name: str, largest: int, sums: int, capability: Capability) -> Unit:
    low = -largest - 1 if name == "int8" else -largest
    return Unit(
        name=name,
        dtype=getattr(torch, name),
        lo=low,
        hi=largest,
        sums=sums,
        capability=capability,
        number=name.upper(),
    )


UNITS = (
    _unit("int8", 127, 1 << 31, (8, 0)),
    _unit("bfloat16", 1 << 8, 1 << 24, (8, 0)),
    _unit("float16", 1 << 11, 1 << 24, (8, 0)),
)
"""The fastest first."""


def units_of(capability: Capability) -> tuple[Unit, ...]:
    """The units of a GPU of this compute capability."""
    return tuple(unit for unit in UNITS if capability >= unit.capability)


def choose_unit(payload: PayloadType, weights: PayloadType, bound: int, units: Iterable[Unit]) -> Unit | None:
    """The first of `units` that is exact for these operands and sums, or None.

    `bound`: largest magnitude of any partial sum, without the exponent.
    """
    return next((unit for unit in units if unit.exact(payload, weights, bound)), None)


@lru_cache(maxsize=8)
def sound_units(device: torch.device) -> tuple[Unit, ...]:
    """The units of `device` that compute extreme products rightly; none where there are no kernels."""
    if product_kernels(device) is None:
        return ()
    return tuple(u for u in units_of(torch.cuda.get_device_capability(device)) if is_sound(u, device))


def is_sound(unit: Unit, device: torch.device) -> bool:
    """Whether extreme products come out exactly, wherever the unit's own limit holds for them."""
    weights, payloads = extreme_operands(unit)
    try:
        product = Product(unit, weights[None], 0, device)
        got = product.linear(on_device(payloads, torch.int16, device)).cpu().numpy()
    except Exception as error:  # Triton's errors have no common root; there are other ways to compute
        warnings.warn(f"{unit.name} products are not used on {device}: {error}", MachineWarning, stacklevel=2)
        return False
    within = np.abs(payloads) @ np.abs(weights).T < unit.sums
    return bool((got == payloads @ weights.T)[within].all())


def extreme_operands(unit: Unit) -> tuple[IntArray, IntArray]:
    """Weights `[outputs, terms]` and payloads `[samples, terms]`; the first sum is `unit.sums - 1` or near it.

    That sum has as many of the largest products as fit and the rest in products with 1. The others vary its signs and
    its order, and there are small steps next to large sums.
    """
    largest, rng = unit.hi, np.random.default_rng(0)
    full = min(256, (unit.sums - 1) // largest**2)
    rest = unit.sums - 1 - full * largest**2
    ones = min(-(-rest // largest), 2048)
    terms = -(-(full + ones) // 64) * 64
    weight, payload = np.zeros(terms, np.int64), np.ones(terms, np.int64)
    weight[: full + ones] = largest
    weight[full + ones - 1] = rest - (ones - 1) * largest if rest <= ones * largest else largest
    payload[:full] = largest
    turned = np.where(np.arange(terms) % 2, 1, -1)
    small = rng.integers(-1, 2, terms)
    mixed = rng.permutation(terms)
    weights = np.stack([weight, -weight, weight * turned, small, turned, weight[::-1], weight[mixed]])
    payloads = np.stack([payload, -payload, payload * turned, payload[::-1], payload[mixed], small, turned * largest])
    return np.concatenate([weights, np.full((1, terms), unit.lo)]), np.concatenate(
        [payloads, np.full((1, terms), unit.lo)]
    )


def synapse_on_unit(
    synapse: Synapse, unit: Unit, bound: int, shape: tuple[int, ...], device: torch.device
) -> Callable[[Tensor], Tensor]:
    """Map of payloads `[N, *shape]` to integer currents; a convolution's `[N, C', H', W']` are channels last."""
    s = synapse
    if s.kind == "linear":
        weight = s.dense()
        if len(shape) == 3:  # payloads lie channels last
            weight = np.moveaxis(weight.reshape(len(weight), *shape), 1, -1).reshape(len(weight), -1)
        flat = Product(unit, weight[None], s.exponent, device, bound=bound)
        out = s.shape or (-1,)
        return lambda p: flat.linear(_as_rows(p)).reshape(len(p), *out)
    taps = np.moveaxis(s.dense(), 1, -1)  # [outputs, kh, kw, channels of the group]
    grouped = taps.reshape(s.groups, len(taps) // s.groups, -1)
    return Product(unit, grouped, s.exponent, device, bound=bound).convolution(s, shape)


def _as_rows(payload: Tensor) -> Tensor:
    return (payload.permute(0, 2, 3, 1) if payload.ndim == 4 else payload).flatten(1)


class Product:
    """Weights `[groups, outputs, terms]` on the device in the type of a unit, and the launches that use them."""

    def __init__(
        self, unit: Unit, weights: IntArray, exponent: int, device: torch.device, *, bound: int | None = None
    ) -> None:
        kernels = product_kernels(device)
        assert kernels is not None
        self.unit, self.exponent, self.kernels, self.device = unit, exponent, kernels, device
        self.groups, self.outputs, self.terms = weights.shape
        self.tile_n = min(128, max(16, 1 << (self.outputs - 1).bit_length()))
        outputs = -(-self.outputs // self.tile_n) * self.tile_n
        terms = -(-self.terms // 64) * 64  # whole tiles of every size
        padded = np.zeros((self.groups, outputs, terms), np.int16)
        padded[:, : self.outputs, : self.terms] = weights
        self.weights = torch.from_numpy(padded).to(device=device, dtype=unit.dtype)
        self.largest = (unit.sums - 1 if bound is None else bound) << exponent
        bytes_fit = unit.name == "int8" and self.terms % 8 == 0 and self.largest < MIDDLE_SUM
        self._by_library = bytes_fit and device.type in BYTES_ON
        self.number = getattr(kernels, unit.number)
        self.number = getattr(self.number, "value", self.number)

    def linear(self, rows: Tensor) -> Tensor:
        """Currents `[N, outputs]` of payloads `[N, terms]`."""
        n = len(rows)
        if self._by_library and n >= LEAST_ROWS and rows.dtype == torch.int8 and rows.is_contiguous():
            sums: Tensor = torch._int_mm(rows, self.weights[0, :, : self.terms].t())[:, : self.outputs]
            return sums.bitwise_left_shift_(self.exponent) if self.exponent else sums
        strides = (rows.stride(0), rows.stride(1), 0, 0)
        return self._launch(rows, strides, n, (1, 1), (1, 1), ((1, 1), (0, 0), (1, 1), (1, 1)), self.terms)

    def convolution(self, s: Synapse, shape: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
        """Map of payloads `[N, C, H, W]` to currents `[N, C', H', W']`, channels last."""
        size = shape[1], shape[2]
        height, width = (
            conv_size(n, s.kernel_size[i], s.stride[i], s.padding[i], s.dilation[i]) for i, n in enumerate(size)
        )
        geometry = (s.stride, s.padding, s.dilation, s.kernel_size)

        def convolve(payload: Tensor) -> Tensor:
            n = len(payload)
            channels = shape[0] // self.groups
            flat = self._launch(
                payload, payload.stride(), n * height * width, size, (height, width), geometry, channels
            )
            return flat.view(n, height, width, -1).permute(0, 3, 1, 2)

        return convolve

    def _launch(
        self,
        payload: Tensor,
        strides: tuple[int, ...],
        positions: int,
        size: tuple[int, int],
        out_size: tuple[int, int],
        geometry: tuple[tuple[int, int], ...],
        channels: int,
    ) -> Tensor:
        dtype = torch.int16 if self.largest < SMALL_SUM else torch.int32 if self.largest < MIDDLE_SUM else torch.int64
        out = torch.empty((positions, self.groups * self.outputs), dtype=dtype, device=self.device)
        if not positions:
            return out
        tile_m, tile_k = (128 if positions >= 4096 else 32), (64 if channels % 64 == 0 else 32)
        grid = (-(-positions // tile_m) * -(-self.outputs // self.tile_n), self.groups)
        (stride, padding, dilation, kernel) = geometry
        self.kernels.convolve[grid](
            payload,
            self.weights,
            out,
            positions,
            *size,
            *out_size,
            *strides,
            self.weights.stride(0),
            self.weights.stride(1),
            out.stride(0),
            self.outputs,
            self.exponent,
            STRIDE_Y=stride[0],
            STRIDE_X=stride[1],
            PAD_Y=padding[0],
            PAD_X=padding[1],
            DILATION_Y=dilation[0],
            DILATION_X=dilation[1],
            KERNEL_Y=kernel[0],
            KERNEL_X=kernel[1],
            CHANNELS=channels,
            TERMS=self.weights.shape[2],
            UNIT=self.number,
            WIDE=dtype == torch.int64,
            BLOCK_M=tile_m,
            BLOCK_N=self.tile_n,
            BLOCK_K=tile_k,
            num_warps=8 if tile_m * self.tile_n >= 128 * 128 else 4,
            num_stages=3,
        )
        return out
