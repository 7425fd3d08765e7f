"""One soma of a whole sample on a GPU by its kernel: what `sample.run_soma` returns, queued without waiting.

Payloads lie in memory as on the CPU (`[B, T, neurons]`, channels last), so that a synapse reads them as one batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs
import torch
from torch import Tensor

from snn2chip_backends.torch.fused import channels_last

if TYPE_CHECKING:
    from snn2chip_backends.torch.gpu_soma import GpuSoma
    from snn2chip_backends.torch.sample import SomaRun, Source, Wants
    from snn2chip_backends.torch.somas import SomaKernel


def run_kernel(
    kernel: SomaKernel,
    gpu: GpuSoma,
    sources: Sequence[Source],
    batch: int,
    steps: int,
    spoken: int,
    size: int,
    wants: Wants,
) -> SomaRun:
    """Run a soma outside any feedback loop, `size` samples at a time; `spoken`: steps of its payload."""
    from snn2chip_backends.torch.sample import SomaRun

    shape, keeps, device = kernel.soma.shape, not kernel.stateless, kernel.device
    counts = torch.zeros((1 if kernel.binary else 2, kernel.soma.size), dtype=torch.int64, device=device)
    spikes = counts[0]
    fits = steps * gpu.highest < 1 << 31 and not kernel.silent
    silent = torch.zeros((1, batch, *shape), dtype=kernel.payload_type, device=device) if kernel.silent else None
    out = SomaRun(
        payload=_payloads(shape, spoken, batch, kernel.payload_type, device) if silent is None else silent,
        potentials=_potentials(shape, (steps, batch), device) if wants.all and keeps else None,
        last=_potentials(shape, (batch,), device) if wants.last and keeps else None,
        saturated=torch.zeros((), dtype=torch.int64, device=device),
        spikes=spikes,
        magnitude=spikes if kernel.binary else counts[1],
        counted=_potentials(shape, (batch,), device) if wants.spikes and fits else None,
        summed=_potentials(shape, (batch,), device) if wants.payloads and fits else None,
    )
    for start in range(0, batch, size):
        part = slice(start, min(start + size, batch))
        gpu.run([source.part(part) for source in sources], part, steps if keeps else spoken, out)
    if keeps:
        return out
    if spoken == 1:
        out.saturated.mul_(steps)
    nothing = torch.zeros((steps if wants.all else 1, batch, *shape), dtype=torch.int32, device=device)
    return attrs.evolve(out, potentials=nothing if wants.all else None, last=nothing[0] if wants.last else None)


def _payloads(shape: tuple[int, ...], steps: int, batch: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """An empty tensor `[T, B, *shape]` that lies in memory as `[B, T, neurons]`."""
    if channels_last(shape):
        c, h, w = shape
        return torch.empty((batch, steps, h, w, c), dtype=dtype, device=device).permute(1, 0, 4, 2, 3)
    return torch.empty((batch, steps, *shape), dtype=dtype, device=device).transpose(0, 1)


def _potentials(shape: tuple[int, ...], lead: tuple[int, ...], device: torch.device) -> Tensor:
    """An empty int32 tensor `[*lead, *shape]` whose neurons lie in memory order."""
    if channels_last(shape):
        c, h, w = shape
        return torch.empty((*lead, h, w, c), dtype=torch.int32, device=device).movedim(-1, len(lead))
    return torch.empty((*lead, *shape), dtype=torch.int32, device=device)
