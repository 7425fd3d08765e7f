"""Gradients that are differentiated once more: through the torch code, which the kernels stand in for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def plain_gradients(
    value: Tensor, inputs: Sequence[Tensor | None], needed: Sequence[bool], grad: Tensor
) -> tuple[Tensor | None, ...]:
    """Return the gradient of `value` by every needed input, in the order of `inputs`, with a graph of its own."""
    wanted = [tensor is not None and need for tensor, need in zip(inputs, needed, strict=True)]
    chosen = [tensor for tensor, want in zip(inputs, wanted, strict=True) if tensor is not None and want]
    found = iter(torch.autograd.grad(value, chosen, grad, create_graph=True))
    return tuple(next(found) if want else None for want in wanted)
