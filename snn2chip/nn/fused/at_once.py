"""The parallel neuron on the CPU: where its kernel applies, and how constants lie beside the sums."""

from __future__ import annotations

import torch
from torch import Tensor

from snn2chip.nn.fused import _watched, installed
from snn2chip.nn.fused.layout import as_like, like, matrix, packed
from snn2chip.nn.fused.work import spread


def spikes_at_once(x: Tensor, *, theta: Tensor, psi: Tensor, unit: Tensor, last: bool) -> Tensor | None:
    """Return payloads `[T,B,...]` of float32 currents, bit by bit those of the torch code, or None where it is to run.

    theta, psi and unit broadcast against one step of x. The sum over the steps is torch's own, in its order.
    """
    if x.device.type != "cpu" or type(x) is not Tensor or x.layout != torch.strided or not x.numel():
        return None
    if any(value.dtype != torch.float32 for value in (x, theta, psi, unit)) or not installed() or _watched():
        return None
    from snn2chip.nn.fused import at_once_kernels

    total = packed((x.sum(0) + psi).unsqueeze(0))
    out = like(total, steps=len(x))
    target, sent = matrix(total)[0], matrix(out)
    bound, value = (
        matrix(as_like(given.expand(total.shape), total))[0] if given.dim() else given.reshape(1).numpy()
        for given in ((theta, unit) if theta.dim() == unit.dim() == 0 else (_each(theta), _each(unit)))
    )

    def work(first: int, stop: int) -> None:
        at_once_kernels.forward(target, bound, value, last, sent, first, stop)

    spread(work, len(target))
    return out


def _each(value: Tensor) -> Tensor:
    """A constant that is written once per neuron, with the others."""
    return value.reshape(1) if value.dim() == 0 else value
