"""Tensors `[T,B,...]` as matrices `[T,N]` over the memory they already have, whatever order that is in.

A step whose elements lie side by side (channels last included) is N elements in the order of memory: what is done
element by element needs no other order, and results get the same one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

_WORDS = {torch.float32: np.float32, torch.bfloat16: np.uint16}
DTYPES = tuple(_WORDS)


def packed(x: Tensor) -> Tensor:
    """Return x, or a copy where a step's elements are not side by side or steps do not follow each other."""
    return x if _is_packed(x) else x.contiguous()


def like(x: Tensor, *, steps: int, dtype: torch.dtype | None = None) -> Tensor:
    """Return an empty tensor of `steps` steps, each with the layout of one step of the packed x."""
    shape, strides = (steps, *x.shape[1:]), (x[0].numel(), *x.stride()[1:])
    return torch.empty_strided(shape, strides, dtype=dtype or x.dtype, device=x.device)


def as_like(g: Tensor, x: Tensor) -> Tensor:
    """Return g `[T,B,...]` with the layout that the steps of the packed x have, g itself where it has it."""
    if g.stride()[1:] == x.stride()[1:] and _is_packed(g):
        return g
    return like(x, steps=g.shape[0], dtype=g.dtype).copy_(g)


def matrix(x: Tensor) -> Any:
    """Return the packed x as an array `[T,N]` on the same memory: float32, or uint16 with the bits of bfloat16."""
    flat = x.detach().as_strided((x.shape[0], x[0].numel()), (x[0].numel(), 1))
    return flat.numpy() if x.dtype == torch.float32 else flat.view(torch.int16).numpy().view(np.uint16)


def begins(v: Tensor | None, x: Tensor, v0: float) -> Any:
    """Return the potentials a call begins with: `[1]` of v0, or `[N]` of v `[1,B,...]` in the order of x."""
    return np.full(1, v0, np.float32) if v is None or v.dim() == 1 else matrix(as_like(v, x)).reshape(-1)


def ends(v: Tensor | None) -> Any:
    """Return where the last potentials go as an array `[N]`, empty where nobody asks for them."""
    return np.empty(0, np.float32) if v is None else matrix(v).reshape(-1)


def _is_packed(x: Tensor) -> bool:
    if x.shape[0] > 1 and x.stride(0) != x[0].numel():
        return False
    expected = 1
    for stride, size in sorted((s, n) for s, n in zip(x.stride()[1:], x.shape[1:], strict=True) if n > 1):
        if stride != expected:
            return False
        expected *= size
    return True
