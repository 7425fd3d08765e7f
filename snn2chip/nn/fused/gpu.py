"""Neurons on CUDA tensors by Triton kernels: where they apply, and what every launch needs."""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from snn2chip.nn.fused.layout import as_like
from snn2chip.triton_here import why_no_triton

BLOCK, WARPS = 1024, 4
"""Neurons of one program and its warps."""
ROUNDED: dict[str, Any] = {"num_warps": WARPS, "enable_fp_fusion": False}
"""How every kernel is launched: each product and each sum rounded on its own."""


@lru_cache(maxsize=8)
def kernels(device: torch.device) -> ModuleType | None:
    """Return the module of kernels for tensors on `device`, or None where there are none."""
    if why_no_triton(device):
        return None
    from snn2chip.nn.fused import triton_kernels

    return triton_kernels


def on_gpu(x: Tensor) -> bool:
    """Return whether the kernels of a GPU take x, which the kernels of the CPU cannot."""
    return kernels(x.device) is not None


def constant(module: ModuleType, name: str) -> int:
    """Return the number behind a constant of the kernels."""
    value = getattr(module, name)
    return int(getattr(value, "value", value))


def programs(count: int) -> int:
    """Return how many programs take `count` neurons."""
    return -(-count // BLOCK)


def begins(v: Tensor, x: Tensor) -> tuple[Tensor, bool]:
    """Return the potentials a call begins with, one or `[N]` in the order of x, and whether each neuron has its own."""
    if v.dim() < 2:
        return v.detach(), False
    return as_like(v.detach(), x), True


def room(x: Tensor, *shape: int) -> Tensor:
    """Return an empty float32 tensor on the device of x."""
    return torch.empty(shape, dtype=torch.float32, device=x.device)


def added(parts: Tensor, like: Tensor) -> Tensor:
    """Return the sum over programs (the first axis) in float64, as `like` is shaped and typed."""
    return parts.sum(0, dtype=torch.float64).to(like.dtype).view(like.shape)
