"""Runs of a compiled pass: a soma over all steps of some samples at once, or step by step inside a feedback loop."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snn2chip_backends.torch import fused as passes
from snn2chip_backends.torch import layout as at
from snn2chip_backends.torch.arithmetic import few
from snn2chip_backends.torch.fused import CODES, FusedSoma, in_memory_order

if TYPE_CHECKING:
    from snn2chip_backends.torch.sample import SomaRun

Tape = NDArray[np.int64]


@lru_cache(maxsize=1)
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=64, thread_name_prefix="snn2chip-soma")


if hasattr(os, "register_at_fork"):  # a forked child has none of its parent's threads
    os.register_at_fork(after_in_child=_threads.cache_clear)


def run_pass(fused: FusedSoma, currents: list[Tensor], part: slice, steps: int, out: SomaRun) -> None:
    """All steps of the samples `part`, whose currents are given, into `out`."""
    batch = part.stop - part.start
    tape = _tape(fused, part, steps, out)
    kept = _arrive(tape, currents)
    threads = min(torch.get_num_threads(), batch) if batch * steps * fused.size >= passes.ALONE else 1
    if threads == 1:
        fused.call(tape)
        out.saturated.add_(int(tape[0, at.SATURATED]))
    else:
        _shared(fused, tape, batch, threads, out)
    del kept  # what the tape points to


class Stepper:
    """The pass one step at a time: what it keeps of a soma from one step to the next, and the tape that says where."""

    def __init__(self, fused: FusedSoma, batch: int, steps: int, out: SomaRun) -> None:
        self.fused, self.out = fused, out
        self.state = np.zeros((3, batch, fused.size), np.int32)
        self.tape = _tape(fused, slice(0, batch), steps, out)
        for i, values in enumerate(self.state):
            self.tape[0, at.STATE + i] = values.ctypes.data

    def step(self, currents: list[Tensor], t: int) -> None:
        """Step t with its currents `[1, B, *shape]`, into the run's own tensors."""
        d = self.tape[0]
        kept = _arrive(self.tape, currents)
        d[at.BEGIN], d[at.END] = t, t + 1
        self.fused.call(self.tape)
        self.out.saturated.add_(int(d[at.SATURATED]))
        del kept


def _tape(fused: FusedSoma, part: slice, steps: int, out: SomaRun) -> Tape:
    """Everything but the currents."""
    tape: Tape = fused.described[None].copy()
    d, size = tape[0], fused.size
    d[at.STEPS] = d[at.END] = steps
    payload = out.payload
    if d[at.FIRE] != at.SILENT:
        t, b = payload.stride()[:2]
        d[at.OUT : at.OUT + 3] = payload.data_ptr() + part.start * b * payload.itemsize, t, b
        d[at.OUT_CODE] = CODES[payload.dtype]
    if out.potentials is not None:
        d[at.POTENTIALS] = out.potentials.data_ptr() + 4 * part.start * size
        d[at.POTENTIALS + 1] = out.potentials.stride(0)
    if out.last is not None:
        d[at.LAST_V] = out.last.data_ptr() + 4 * part.start * size
    for i, read in enumerate((out.counted, out.summed)):
        d[at.PER_SAMPLE + i] = 0 if read is None else read.data_ptr() + 4 * part.start * size
    assert out.spikes is not None
    assert out.magnitude is not None
    d[at.LAST], d[at.SPIKES] = part.stop - part.start, out.spikes.data_ptr()
    d[at.TOTAL] = 0 if out.magnitude is out.spikes else out.magnitude.data_ptr()
    return tape


def _arrive(tape: Tape, currents: list[Tensor]) -> list[Tensor]:
    """Write into the tape where the currents lie; they have to stay until it has been played."""
    d = tape[0]
    ordered = [in_memory_order(current) for current in few(currents, at.MOST_SOURCES)]
    d[at.SOURCES] = len(ordered)
    for i, current in enumerate(ordered):
        f = at.SOURCE + at.FIELDS * i
        t, b = current.stride()[:2]
        d[f : f + 5] = current.data_ptr(), CODES[current.dtype], t if len(current) > 1 else 0, b, current.itemsize
    return ordered


def _shared(fused: FusedSoma, tape: Tape, batch: int, threads: int, out: SomaRun) -> None:
    """The same by several threads, each with samples and counts of its own."""
    binary = out.magnitude is out.spikes
    ends = [batch * i // threads for i in range(threads + 1)]
    counts = torch.zeros((threads, 1 if binary else 2, fused.size), dtype=torch.int64, device="cpu")
    tasks = []
    for i in range(threads):
        task = tape.copy()
        own = task[0]
        own[at.FIRST], own[at.LAST], own[at.SPIKES] = ends[i], ends[i + 1], counts[i, 0].data_ptr()
        own[at.TOTAL] = 0 if binary else counts[i, 1].data_ptr()
        tasks.append(task)
    waiting = [_threads().submit(fused.call, own) for own in tasks[1:]]
    fused.call(tasks[0])
    for future in waiting:
        future.result()
    assert out.spikes is not None
    assert out.magnitude is not None
    out.spikes.add_(counts[:, 0].sum(0))
    if not binary:
        out.magnitude.add_(counts[:, 1].sum(0))
    out.saturated.add_(sum(int(task[0, at.SATURATED]) for task in tasks))
