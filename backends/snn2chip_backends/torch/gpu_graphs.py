"""CUDA graphs: a small block is captured once and replayed, so that its launches cost one call.

A block of fixed shapes is the same list of kernels every time, loops included: what a program does never depends on
values. From the second block of the same shape on, its inputs are copied into the captured ones, the graph is
replayed, and the same records read out. Only where launches weigh (few bytes per block), outputs alone are recorded
and no synapse is a sparse matrix. A block that cannot be captured runs as before; `why` says what stood against it.
`SNN2CHIP_GRAPHS=0` switches graphs off.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import attrs
import torch
from torch import Tensor

from snn2chip.ir.program import Program
from snn2chip.trace import Trace
from snn2chip_backends.torch.device import out_of_memory
from snn2chip_backends.torch.engine import evaluate
from snn2chip_backends.torch.gpu_records import records_for
from snn2chip_backends.torch.plan import Plan
from snn2chip_backends.torch.records import Records
from snn2chip_backends.torch.sparse import runs_sparse

SWITCH = "SNN2CHIP_GRAPHS"
SMALL_BYTES = 1 << 30
"""Blocks above this are so large that launches do not weigh, and a graph would keep their memory."""
MOST_GRAPHS = 4
"""Graphs kept per program; further shapes run without."""

Key = tuple[tuple[str, tuple[int, ...], torch.dtype], ...]


class Capture(Protocol):
    """Runs `work` once for good and returns what it returned, and what repeats it into the same tensors."""

    def __call__(self, work: Callable[[], Records]) -> tuple[Records, Callable[[], None]]: ...


def capture_cuda(work: Callable[[], Records]) -> tuple[Records, Callable[[], None]]:
    """Capture by CUDA, after a run aside that compiles kernels and takes memory."""
    cuda: Any = torch.cuda
    aside = cuda.Stream()
    aside.wait_stream(cuda.current_stream())
    with cuda.stream(aside):
        work()
    cuda.current_stream().wait_stream(aside)
    graph = cuda.CUDAGraph()
    with cuda.graph(graph):
        records = work()
    return records, graph.replay


@attrs.define
class Captured:
    """One block: the tensors that inputs go into, the records, what replays it."""

    payloads: dict[str, Tensor]
    records: Records
    replay: Callable[[], None]


class Graphs:
    """The graphs of a backend, by program and shapes of the inputs."""

    def __init__(self, capture: Capture = capture_cuda) -> None:
        self.capture = capture
        self.why: str = ""
        self._known: WeakKeyDictionary[Program, dict[Key, Captured | None]] = WeakKeyDictionary()

    def run(self, program: Program, plan: Plan, payloads: Mapping[str, Tensor], backend: str) -> Trace | None:
        """The block by its graph, or None where there is none (yet)."""
        known = self._known.setdefault(program, {})
        if isinstance(known, _Nothing):
            return None
        key: Key = tuple((name, tuple(p.shape), p.dtype) for name, p in sorted(payloads.items()))
        if key not in known:
            self.why = why_no_graph(program, plan, payloads) or ("" if len(known) < MOST_GRAPHS else "too many shapes")
            if not self.why:
                known[key] = None  # the next block of this shape is captured
            return None
        made = known[key]
        if made is None:
            made = self._made(program, plan, payloads)
            if made is None:
                return None
            known[key] = made
        for name, value in payloads.items():
            made.payloads[name].copy_(value)
        made.replay()
        return made.records.trace(backend)

    def _made(self, program: Program, plan: Plan, payloads: Mapping[str, Tensor]) -> Captured | None:
        static = {name: value.clone() for name, value in payloads.items()}
        first = next(iter(static.values()))

        def work() -> Records:
            records = records_for(program, plan.payloads, first.shape[1], first.device, everything=False)
            evaluate(program, plan, dict(static), records)
            return records

        try:
            records, replay = self.capture(work)
        except RuntimeError as error:
            if out_of_memory(error):
                raise
            self.why = f"not captured: {str(error).splitlines()[0]}"
            self._known[program] = _Nothing()
            return None
        return Captured(static, records, replay)


class _Nothing(dict[Key, Captured | None]):
    """The graphs of a program that cannot be captured."""


def why_no_graph(program: Program, plan: Plan, payloads: Mapping[str, Tensor]) -> str:
    """Why a block of these inputs is not captured, or ""."""
    if os.environ.get(SWITCH, "1") == "0":
        return f"switched off by {SWITCH}=0"
    batch = next(iter(payloads.values())).shape[1]
    if plan.sample_bytes * batch > SMALL_BYTES:
        return "launches do not weigh in a block of this size"
    if any(runs_sparse(synapse) for synapse in program.synapses):
        return "sparse products take their memory anew"
    return ""
