"""Linear and convolution layers with signed integer weights of 2..8 bits, straight-through.

    q_max = 2^(bits-1) - 1
    scale_o = min( max|w_o| / q_max,  step_bits * rms(w_o) )
    q = clip( floor(w/scale_o + 1/2), -q_max, q_max ),     dL/dw = dL/d(scale*q)

`step_bits` is the step of a symmetric uniform quantiser with 2*q_max + 1 levels that has the least mean
squared error on a standard normal variable (Max 1960); a channel without outliers uses its largest weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from snn2chip.errors import InputError
from snn2chip.nn.quantized import QuantizedConv2d, QuantizedLinear, QuantizedWeight

GAUSSIAN_STEP: Mapping[int, float] = MappingProxyType(
    {2: 1.2240, 3: 0.6508, 4: 0.3534, 5: 0.1932, 6: 0.1055, 7: 0.0573, 8: 0.0309}
)


def check_bits(bits: int, *, owner: str) -> int:
    """Return `bits`; raise InputError unless it is an integer from 2 to 8."""
    if bits not in GAUSSIAN_STEP:
        raise InputError(f"{owner}: bits={bits!r}; integer weights have 2 to 8 bits, one bit is a binary layer")
    return bits


def integer_parts(w: Tensor, *, bits: int) -> tuple[Tensor, Tensor]:
    """Return (scale `[O]` > 0, integers in [-q_max, q_max] like w) of weights `[O,...]`."""
    top = 2 ** (bits - 1) - 1
    rows = w.flatten(1)
    scale = torch.minimum(rows.abs().amax(1) / top, GAUSSIAN_STEP[bits] * rows.square().mean(1).sqrt())
    scale = scale.clamp(min=torch.finfo(w.dtype).tiny)
    ratio = w / scale.view(-1, *[1] * (w.dim() - 1))
    return scale, torch.floor(ratio + 0.5).clamp(-top, top)


class _Integer(QuantizedWeight):
    def _parts(self, w: Tensor) -> tuple[Tensor, Tensor]:
        return integer_parts(w, bits=self.weight_bits)

    def _passing(self, w: Tensor) -> Tensor:
        return torch.ones_like(w)


class IntLinear(_Integer, QuantizedLinear):
    """Linear layer with `bits`-bit weights; other arguments as `nn.Linear`."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True, *, bits: int, **kwargs: Any) -> None:
        super().__init__(in_features, out_features, bias=bias, **kwargs)
        self.weight_bits = check_bits(bits, owner="IntLinear")


class IntConv2d(_Integer, QuantizedConv2d):
    """Convolution with `bits`-bit weights; other arguments as `nn.Conv2d`."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any, *, bits: int, **kwargs: Any) -> None:
        super().__init__(in_channels, out_channels, kernel_size, **kwargs)
        self.weight_bits = check_bits(bits, owner="IntConv2d")
