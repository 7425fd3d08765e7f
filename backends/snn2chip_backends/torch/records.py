"""What is kept of a run: outputs and counts always, payloads and potentials on request; reduced on the device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from snn2chip.ir.program import Program
from snn2chip.ir.types import IntArray, PayloadType
from snn2chip.reports.counts import Counts, count
from snn2chip.trace import IntTensor, Trace
from snn2chip_backends.torch.fused import channels_last
from snn2chip_backends.torch.sample import SomaRun, Wants
from snn2chip_backends.torch.somas import BINARY

INT8_ROWS = 127
"""So many zeros and ones add up in int8, which is several times faster than in wider types."""


class Records:
    """Collects one block; nothing here waits for the device before `trace`, unless everything is recorded."""

    def __init__(self, program: Program, kinds: dict[str, PayloadType], batch: int, *, everything: bool) -> None:
        self.kinds = kinds
        self.program, self.batch, self.everything = program, batch, everything
        self._outputs: dict[str, Tensor] = {}
        self._sums: dict[tuple[str, int], tuple[Tensor, Tensor]] = {}
        self._saturated: dict[str, Tensor] = {}
        self._payloads: dict[str, IntTensor] = {}
        self._potentials: dict[str, IntTensor] = {}
        self._live = {n.name: {program.steps} for n in (*program.inputs, *program.somas)}
        for synapse in program.synapses:
            (edge,) = program.into[synapse.name]
            self._live[edge.src].add(max(program.steps - edge.delay, 0))
        self._reads = {output.name: (program.into[output.name][0].src, output.read) for output in program.outputs}

    def wants(self, name: str) -> Wants:
        """What is wanted of soma `name`."""
        reads = {read for source, read in self._reads.values() if source == name}
        return Wants(self.everything, "potential" in reads, "count" in reads, "payload" in reads)

    def source(self, name: str, payload: Tensor, run: SomaRun | None = None) -> None:
        """Take the payloads `[T or 1, B, *shape]` of an input or soma, counted already if `run` says so."""
        for steps in self._live[name]:
            total = self.program.steps
            counted = _counted(run, total) if steps == total else None
            self._sums[name, steps] = counted or _sums(payload, steps, total, self.kinds[name])
        if self.everything:
            full = payload.to("cpu", torch.int32).expand(self.program.steps, *payload.shape[1:])
            self._payloads[name] = full.contiguous().numpy()

    def soma(self, name: str, run: SomaRun) -> None:
        """Take everything wanted of a soma."""
        self.source(name, run.payload, run)
        self._saturated[name] = run.saturated
        if run.potentials is not None:
            self._potentials[name] = run.potentials.cpu().contiguous().numpy()
        for output, (source, read) in self._reads.items():
            if source != name:
                continue
            if read == "potential":
                assert run.last is not None
                self._outputs[output] = run.last
            else:
                repeat = self.program.steps // len(run.payload)
                value = run.counted if read == "count" else run.summed
                if value is None:
                    steps = (run.payload != 0) if read == "count" else run.payload
                    value = steps.sum(0, dtype=torch.int64)
                self._outputs[output] = value.to(torch.int64) * repeat

    def trace(self, backend: str) -> Trace:
        """Everything collected, as a Trace."""
        program = self.program
        outputs = {
            o.name: self._outputs[o.name].cpu().numpy().astype(np.int64).reshape(self.batch, -1)
            for o in program.outputs
        }
        sources = {n.name for n in program.inputs}
        first = outputs[program.outputs[0].name] if program.outputs else np.zeros((self.batch, 0), np.int64)
        return Trace(
            backend=backend,
            steps=program.steps,
            samples=self.batch,
            outputs=first,
            all_outputs=outputs,
            payloads={k: v for k, v in self._payloads.items() if k not in sources},
            potentials=self._potentials,
            inputs={k: v for k, v in self._payloads.items() if k in sources},
            counts=self.counts(),
        )

    def finish(self) -> None:
        """Everything of the block is in; what can still be made of it on the device."""

    def counts(self) -> Counts:
        """Spikes, events and updates of the block."""
        sums = {key: _as_arrays(a, b) for key, (a, b) in self._sums.items()}
        saturated = {name: int(n) for name, n in self._saturated.items()}

        def reduce(name: str, steps: int) -> tuple[IntArray, IntArray]:
            return sums[name, steps]

        return count(self.program, reduce, samples=self.batch, saturations=saturated)


def _as_arrays(spikes: Tensor, magnitude: Tensor) -> tuple[IntArray, IntArray]:
    """Both as arrays, the same one where they are the same tensor."""
    first = spikes.cpu().contiguous().numpy()
    return first, first if magnitude is spikes else magnitude.cpu().contiguous().numpy()


def _counted(run: SomaRun | None, steps: int) -> tuple[Tensor, Tensor] | None:
    """What the compiled pass counted, `[*shape]` over `steps` steps, or None where it did not run."""
    if run is None or run.spikes is None or run.magnitude is None:
        return None
    shape, repeat = run.payload.shape[2:], steps // len(run.payload)
    binary, sums = run.magnitude is run.spikes, []
    for flat in (run.spikes,) if binary else (run.spikes, run.magnitude):
        c = shape[0]
        ordered = flat.view(*shape[1:], c).movedim(-1, 0) if channels_last(shape) else flat.view(shape)
        sums.append(ordered * repeat if repeat > 1 else ordered)
    return sums[0], sums[-1]


def _sums(payload: Tensor, steps: int, total: int, kind: PayloadType) -> tuple[Tensor, Tensor]:
    """Per neuron over the first `steps` of `total` steps and all samples: payloads other than 0, sum of magnitudes."""
    repeat = steps if len(payload) < total else 1
    rows = payload[: 1 if repeat > 1 else steps].flatten(0, 1)
    rows = rows[:0] if steps == 0 else rows
    binary = kind in BINARY
    if len(rows) == 1:
        magnitude = rows[0].to(torch.int64).abs_().mul_(repeat)
        return (magnitude, magnitude) if binary else ((rows[0] != 0).to(torch.int64).mul_(repeat), magnitude)
    spikes = torch.zeros(rows.shape[1:], dtype=torch.int64, device=rows.device)
    magnitude = spikes if binary else torch.zeros_like(spikes)
    for start in range(0, len(rows), INT8_ROWS):
        piece = rows[start : start + INT8_ROWS]
        flags = piece if binary else piece.to(torch.bool).view(torch.int8)
        spikes += flags.sum(0, dtype=torch.int8)
        if not binary:
            piece = piece.to(torch.int32)  # 127 payloads of 24 bits fit 31
            magnitude += (piece if kind.lo >= 0 else piece.abs()).sum(0, dtype=torch.int32)
    return spikes.mul_(repeat), magnitude if binary else magnitude.mul_(repeat)
