"""One soma over all steps of a sample: in slices of the batch that fit the cache, or all at once without state."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import torch
from torch import Tensor

from snn2chip_backends.torch.somas import SomaKernel

CACHED = 1 << 16
"""Neurons of one slice on the CPU: a handful of int32 tensors of this size stay in the second-level cache."""


@attrs.frozen(kw_only=True)
class SomaRun:
    """What one soma made of a block of samples.

    `payload` `[T or 1, B, *shape]` (1: the same at every step), `potentials` int32 `[T, B, *shape]` and `last`
    `[B, *shape]` where asked for, `saturated` a count on the device.
    """

    payload: Tensor
    potentials: Tensor | None
    last: Tensor | None
    saturated: Tensor


def run_soma(kernel: SomaKernel, currents: list[Tensor], steps: int, *, potentials: bool, last: bool) -> SomaRun:
    """Run a soma outside any feedback loop on its currents `[T or 1, B, *shape]`."""
    batch, shape, device = currents[0].shape[1], kernel.soma.shape, kernel.device
    silent = kernel.soma.fire == "none"
    steady = max(len(c) for c in currents) == 1 and kernel.soma.window is None
    spoken = 1 if silent or (kernel.stateless and steady and not kernel.per_step) else steps
    out = SomaRun(
        payload=torch.zeros((spoken, batch, *shape), dtype=kernel.payload_type, device=device),
        potentials=torch.zeros((steps, batch, *shape), dtype=torch.int32, device=device) if potentials else None,
        last=torch.zeros((batch, *shape), dtype=torch.int32, device=device) if last else None,
        saturated=torch.zeros((), dtype=torch.int64, device=device),
    )
    for part in _slices(kernel, batch):
        a = kernel.arriving([c[:, part] for c in currents])
        if kernel.stateless:
            a = a.expand(max(len(a), spoken), *a.shape[1:])
            out.payload[:, part] = kernel.at_once(kernel.scaled(a, None), out.saturated)
        else:
            _steps(kernel, a, steps, part, out)
    if kernel.stateless:
        out.saturated.mul_(steps if spoken == 1 else 1)
    return out


def _slices(kernel: SomaKernel, batch: int) -> Iterator[slice]:
    size = max(1, CACHED // kernel.soma.size) if kernel.device.type == "cpu" else batch
    for start in range(0, batch, size):
        yield slice(start, start + size)


def _steps(kernel: SomaKernel, a: Tensor, steps: int, part: slice, out: SomaRun) -> None:
    state = kernel.start(a.shape[1])
    for t in range(steps):
        payload = kernel.step(state, kernel.scaled(a[t if len(a) > 1 else 0], t), t)
        if len(out.payload) == steps:
            out.payload[t, part] = payload
        if out.potentials is not None:
            out.potentials[t, part] = state.v
    if out.last is not None:
        out.last[part] = state.v
    out.saturated.add_(state.saturated)
