"""Records of a block on a GPU: sums over neurons and synapses are made there, and one small tensor comes back.

Counts per neuron of a large network are megabytes, their sums a few hundred numbers:

    spikes = sum of n, payload sum = sum of m, events = sum of n * fan-out, weighted = sum of m * fan-out,
    effective = sum of n * fan-out without zeros            n, m: `reports.counts.Reduce` of the source
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from snn2chip.ir.program import Program
from snn2chip.ir.types import IntArray, PayloadType
from snn2chip.reports.counts import Counts, counts_of, fan_outs, nonzero_fan_outs
from snn2chip_backends.torch.records import Records

Fan = int | Tensor
"""Synapses per neuron: one number for all, or one for each."""
_FANS: WeakKeyDictionary[Program, dict[torch.device, dict[str, tuple[Fan, Fan]]]] = WeakKeyDictionary()


def fans_on(program: Program, device: torch.device) -> dict[str, tuple[Fan, Fan]]:
    """Stored synapses and those whose weight is not 0, per neuron of the source, by synapse; placed once."""
    known = _FANS.setdefault(program, {})
    if device not in known:
        every, busy = fan_outs(program), nonzero_fan_outs(program)
        placed: dict[str, tuple[Fan, Fan]] = {}
        for name, fan in every.items():
            stored = _placed(fan, device)
            placed[name] = stored, stored if busy[name] is fan else _placed(busy[name], device)
        known[device] = placed
    return known[device]


def _placed(fan: IntArray, device: torch.device) -> Fan:
    if not fan.size or (fan == fan.flat[0]).all():
        return int(fan.flat[0]) if fan.size else 0
    return torch.as_tensor(fan, dtype=torch.int64, device=device)


class GpuRecords(Records):
    """Collects one block; `finish` queues all sums, nothing waits before `trace`."""

    def __init__(
        self,
        program: Program,
        kinds: dict[str, PayloadType],
        batch: int,
        device: torch.device,
        *,
        everything: bool,
    ) -> None:
        super().__init__(program, kinds, batch, everything=everything)
        self.fans = fans_on(program, device)
        self._totals = torch.zeros(0, dtype=torch.int64, device=device)

    def finish(self) -> None:
        """All sums in one tensor on the device, in the order in which `counts` reads them."""
        program, sums = self.program, self._sums
        found: list[Tensor] = []
        for node in (*program.inputs, *program.somas):
            spikes, magnitude = sums[node.name, program.steps]
            found += self._twice(spikes, magnitude, 1)
        for synapse in program.synapses:
            (edge,) = program.into[synapse.name]
            spikes, magnitude = sums[edge.src, max(program.steps - edge.delay, 0)]
            stored, used = self.fans[synapse.name]
            found += self._twice(spikes, magnitude, stored)
            found.append(found[-2] if used is stored else _reached(spikes, used))
        found += [self._saturated[soma.name].to(torch.int64) for soma in program.somas]
        self._totals = torch.stack(found)

    def counts(self) -> Counts:
        """The counts of the block; waits for the device."""
        program, numbers = self.program, iter(self._totals.tolist())
        sources = {node.name: (next(numbers), next(numbers)) for node in (*program.inputs, *program.somas)}
        synapses = {s.name: (next(numbers), next(numbers), next(numbers)) for s in program.synapses}
        saturated = {soma.name: next(numbers) for soma in program.somas}
        return counts_of(program, sources, synapses, samples=self.batch, saturations=saturated)

    def _twice(self, spikes: Tensor, magnitude: Tensor, fan: Fan) -> list[Tensor]:
        first = _reached(spikes, fan)
        return [first, first if magnitude is spikes else _reached(magnitude, fan)]


def _reached(terms: Tensor, fan: Fan) -> Tensor:
    """Sum of terms, each times its fan-out."""
    return (terms * fan.view(terms.shape)).sum() if isinstance(fan, Tensor) else terms.sum() * fan


def records_for(
    program: Program, kinds: dict[str, PayloadType], batch: int, device: torch.device, *, everything: bool
) -> Records:
    """Records of one block on `device`."""
    if device.type == "cpu":
        return Records(program, kinds, batch, everything=everything)
    return GpuRecords(program, kinds, batch, device, everything=everything)
