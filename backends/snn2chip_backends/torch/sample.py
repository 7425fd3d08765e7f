"""One soma over all steps of a sample, with the synapses that feed it alone, in slices of the batch.

Currents exist for one slice only: a synapse of a wide early layer sees a few samples at a time, one of a
narrow deep layer many, so that both stay in the caches and use the matrix units well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs
import torch
from torch import Tensor

from snn2chip_backends.torch.somas import SomaKernel

CACHED = 1 << 16
"""Neurons stepped together on the CPU: a handful of int32 tensors of this size stay in the second-level cache."""


@attrs.frozen
class Source:
    """A current `[T or 1, B, *shape]` that can be had for a slice of the batch; `length` is its first axis."""

    length: int
    part: Callable[[slice], Tensor]


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


def run_soma(
    kernel: SomaKernel, sources: list[Source], batch: int, steps: int, *, size: int, potentials: bool, last: bool
) -> SomaRun:
    """Run a soma outside any feedback loop, `size` samples at a time."""
    shape, device = kernel.soma.shape, kernel.device
    steady = max(source.length for source in sources) == 1 and kernel.soma.window is None
    spoken = 1 if kernel.silent or (kernel.stateless and steady and not kernel.per_step) else steps
    out = SomaRun(
        payload=torch.zeros((spoken, batch, *shape), dtype=kernel.payload_type, device=device),
        potentials=torch.zeros((steps, batch, *shape), dtype=torch.int32, device=device) if potentials else None,
        last=torch.zeros((batch, *shape), dtype=torch.int32, device=device) if last else None,
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
