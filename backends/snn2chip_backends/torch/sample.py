"""One soma over all steps of a sample, with the synapses that feed it alone, in slices of the batch.

Currents exist for one slice only: a synapse of a wide early layer sees a few samples at a time, one of a
narrow deep layer many, so that both stay in the caches and use the matrix units well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import attrs
import torch
from torch import Tensor

from snn2chip_backends.torch.fused import FusedSoma, new_payloads, new_potentials
from snn2chip_backends.torch.gpu_sample import run_kernel
from snn2chip_backends.torch.pass_run import run_pass
from snn2chip_backends.torch.somas import SomaKernel

CACHED = 1 << 16
"""Neurons stepped together on the CPU: a handful of int32 tensors of this size stay in the second-level cache."""


class Wants(NamedTuple):
    """What is wanted of a soma: potentials of all steps or of the last one, spikes or payloads added up per sample."""

    all: bool
    last: bool
    spikes: bool
    payloads: bool


@attrs.frozen
class Source:
    """A current `[T or 1, B, *shape]` that can be had for a slice of the batch; `length` is its first axis."""

    length: int
    part: Callable[[slice], Tensor]


@attrs.frozen(kw_only=True)
class SomaRun:
    """What one soma made of a block of samples.

    `payload` `[T or 1, B, *shape]` (1: the same at every step), `potentials` int32 `[T, B, *shape]` and `last`
    `[B, *shape]` where asked for, `saturated` a count on the device. The compiled pass counts too: `spikes` and
    `magnitude` (the same tensor for binary payloads) `[neurons]` over the steps of `payload`, in memory order;
    `counted` and `summed` int32 `[B, *shape]` per sample where asked for, over the same steps.
    """

    payload: Tensor
    potentials: Tensor | None
    last: Tensor | None
    saturated: Tensor
    spikes: Tensor | None = None
    magnitude: Tensor | None = None
    counted: Tensor | None = None
    summed: Tensor | None = None


def run_soma(kernel: SomaKernel, sources: list[Source], batch: int, steps: int, *, size: int, wants: Wants) -> SomaRun:
    """Run a soma outside any feedback loop, `size` samples at a time."""
    shape, device = kernel.soma.shape, kernel.device
    steady = max(source.length for source in sources) == 1 and kernel.soma.window is None
    spoken = 1 if kernel.silent or (kernel.stateless and steady and not kernel.per_step) else steps
    if kernel.fused is not None:
        return _compiled(kernel, kernel.fused, sources, batch, steps, spoken, size, wants)
    if kernel.gpu is not None:
        return run_kernel(kernel, kernel.gpu, sources, batch, steps, spoken, size, wants)
    out = SomaRun(
        payload=torch.zeros((spoken, batch, *shape), dtype=kernel.payload_type, device=device),
        potentials=torch.zeros((steps, batch, *shape), dtype=torch.int32, device=device) if wants.all else None,
        last=torch.zeros((batch, *shape), dtype=torch.int32, device=device) if wants.last else None,
        saturated=torch.zeros((), dtype=torch.int64, device=device),
    )
    for part in _slices(0, batch, size):
        currents = [source.part(part) for source in sources]
        cached = max(1, CACHED // kernel.soma.size) if device.type == "cpu" else size
        for piece in _slices(part.start, part.stop, cached):
            own = slice(piece.start - part.start, piece.stop - part.start)
            a = kernel.arriving([c[:, own] for c in currents])
            if kernel.stateless:
                a = a.expand(max(len(a), spoken), *a.shape[1:])
                out.payload[:, piece] = kernel.at_once(kernel.scaled(a, None), out.saturated)
            else:
                _steps(kernel, a, steps, piece, out)
    if kernel.stateless and spoken == 1:
        out.saturated.mul_(steps)
    return out


def _compiled(
    kernel: SomaKernel,
    fused: FusedSoma,
    sources: list[Source],
    batch: int,
    steps: int,
    spoken: int,
    size: int,
    wants: Wants,
) -> SomaRun:
    """The same in one pass over memory; potentials of somas without state are 0."""
    shape, keeps = kernel.soma.shape, not kernel.stateless
    out = empty_run(kernel, fused, batch, steps, spoken, wants if keeps else wants._replace(all=False, last=False))
    for part in _slices(0, batch, size):
        currents = [source.part(part) for source in sources]
        if kernel.soma.window is not None and not fused.mixes:
            currents = [kernel.arriving(currents)]
        run_pass(fused, currents, part, steps if keeps else spoken, out)
    if keeps:
        return out
    if spoken == 1:
        out.saturated.mul_(steps)
    if wants.all:
        out = attrs.evolve(out, potentials=torch.zeros((steps, batch, *shape), dtype=torch.int32, device="cpu"))
    return out  # nobody reads the potential of a soma that fires


def empty_run(kernel: SomaKernel, fused: FusedSoma, batch: int, steps: int, spoken: int, wants: Wants) -> SomaRun:
    """Room for what the compiled pass makes of a soma."""
    shape = kernel.soma.shape
    silent = torch.zeros((1, batch, *shape), dtype=kernel.payload_type, device="cpu") if kernel.silent else None
    counts = torch.zeros((1 if kernel.binary else 2, kernel.soma.size), dtype=torch.int64, device="cpu")
    spikes, fits = counts[0], steps * fused.highest < 1 << 31 and not kernel.silent
    return SomaRun(
        payload=new_payloads(shape, spoken, batch, kernel.payload_type) if silent is None else silent,
        potentials=new_potentials(shape, (steps, batch)) if wants.all else None,
        last=new_potentials(shape, (batch,)) if wants.last else None,
        saturated=torch.zeros((), dtype=torch.int64, device="cpu"),
        spikes=spikes,
        magnitude=spikes if kernel.binary else counts[1],
        counted=new_potentials(shape, (batch,)).zero_() if wants.spikes and fits else None,
        summed=new_potentials(shape, (batch,)).zero_() if wants.payloads and fits else None,
    )


def _slices(start: int, stop: int, size: int) -> Iterator[slice]:
    for first in range(start, stop, size):
        yield slice(first, min(first + size, stop))


def _steps(kernel: SomaKernel, a: Tensor, steps: int, part: slice, out: SomaRun) -> None:
    state = kernel.start(a.shape[1])
    x = None if len(a) > 1 or kernel.per_step else kernel.scaled(a[0], 0)
    for t in range(steps):
        scaled = kernel.scaled(a[t if len(a) > 1 else 0], t) if x is None else x
        payload = kernel.step(state, scaled, t)
        if not kernel.silent:
            out.payload[t, part] = payload
        if out.potentials is not None:
            out.potentials[t, part] = state.v
    if out.last is not None:
        out.last[part] = state.v
    out.saturated.add_(state.saturated)
