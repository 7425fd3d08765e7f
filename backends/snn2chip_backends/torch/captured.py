"""Captured runs: what depends on program, batch and steps alone is worked out once, and then only played.

A small net spends more time between its layers than in them: which nodes, which slices, which views, where results go.
A captured run has all of that behind it: buffers, a tape of compiled passes whose rows hold the addresses, and the
library products between them. It serves outputs and counts; anything it is not made for takes the ordinary way
(`engine`), and both give the same integers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from snn2chip.ir.program import Program
from snn2chip.ir.types import IntArray
from snn2chip.trace import Trace, join_traces
from snn2chip_backends.torch import fused
from snn2chip_backends.torch import layout as at
from snn2chip_backends.torch.exact import exact_arithmetic
from snn2chip_backends.torch.fused import Pass
from snn2chip_backends.torch.linear import by_columns
from snn2chip_backends.torch.plan import Plan
from snn2chip_backends.torch.side_by_side import by_one

WORK = 1 << 22
"""Payloads of one run, of all sources and steps together, up to which a run is captured.

More samples of a program of dense linear layers are played in equal parts of at most so many. Convolutions are not:
what is saved is little beside their products, and these take slices of their own size (measured: docs/speed.md).
"""
THREADS = 4
"""Threads up to which captured runs of dense linear layers are played by one of them.

Their products are so small that threads which share them wait for each other (measured: docs/speed.md).
"""
KINDS = 4
"""Captured runs of one program that are kept: batch sizes and forms of input, the latest ones."""
Frames = tuple[int, ...]
Answer = Callable[[], tuple[dict[str, IntArray], Any]]


@attrs.frozen(kw_only=True, eq=False)
class Captured:
    """One way through a program, for one caller at a time: `moves` in order, the inputs' rows of the tape first.

    `kept` holds what the addresses point to. `exact`: whether a move needs PyTorch's switches set for exactness.
    """

    play: Pass
    inputs: NDArray[np.int64]
    moves: list[Callable[[], None]]
    counts: NDArray[np.int64]
    zeroed: list[NDArray[Any]]
    answer: Answer
    exact: bool
    kept: list[Any] = attrs.field(factory=list)

    def run(self, frames: list[IntArray], ranges: list[tuple[int, int]]) -> tuple[dict[str, IntArray], Any] | None:
        """Outputs by name and counts of coded frames `[T or 1, B, ...]`, or None where one leaves its range."""
        self.counts.fill(0)
        for array in self.zeroed:
            array.fill(0)
        for d, x in zip(self.inputs, frames, strict=True):
            d[at.FRAME], d[at.FRAME_STEP], d[at.FRAME_SAMPLE] = x.ctypes.data, x.strides[0], x.strides[1]
        self.play(self.inputs)
        for d, (lo, hi) in zip(self.inputs, ranges, strict=True):
            if d[at.LOW] < lo or d[at.HIGH] > hi:
                return None
        with exact_arithmetic(torch.device("cpu")) if self.exact else nullcontext():
            for move in self.moves:
                move()
        return self.answer()


class Captures:
    """Captured runs of one program: free ones by kind; a kind that cannot be captured holds None."""

    def __init__(self, program: Program, plan: Plan) -> None:
        self.plan = plan
        self.shapes = [(program.steps, *node.shape) for node in program.inputs]
        self.names = [node.name for node in program.inputs]
        self.ranges = [(node.lo, node.hi) for node in program.inputs]
        self.work = program.steps * sum(int(np.prod(n.shape)) for n in (*program.inputs, *program.somas))
        self.widest = program.steps * max((s.size for s in program.somas), default=1)
        flat = not any(fused.channels_last(soma.shape) for soma in program.somas)
        self.divides = flat and all(by_columns(synapse) for synapse in program.synapses)
        self.shared: dict[Any, Any] = {}
        self._free: dict[Frames, list[Captured] | None] = {}
        self._lock = Lock()

    def frames(self, inputs: Mapping[str, IntArray]) -> tuple[Frames, list[IntArray]] | None:
        """The kind of these inputs, and their frames `[T or 1, B, ...]`; None for what is not captured."""
        given, kind = [], [0]
        for name, (steps, *shape) in zip(self.names, self.shapes, strict=True):
            x = inputs[name]
            if not isinstance(x, np.ndarray) or x.dtype != np.int64 or x.ndim != len(shape) + 2:
                return None
            batch = kind[0] = kind[0] or x.shape[1]
            if x.shape != (steps, batch, *shape) or not batch or self.part(batch) is None:
                return None
            if batch * self.widest >= fused.ALONE and torch.get_num_threads() > (THREADS if self.divides else 1):
                return None
            frames = x[:1] if x.strides[0] == 0 else x
            if not frames[0, 0].flags.c_contiguous:
                frames = np.ascontiguousarray(frames)
            given.append(frames)
            kind.append(len(frames))
        return tuple(kind), given

    def part(self, batch: int) -> int | None:
        """How many of `batch` samples are played at a time, or None where they are too many."""
        if batch * self.work <= WORK:
            return batch
        if not self.divides or self.work > WORK:
            return None
        return -(-batch // -(-batch // (WORK // self.work)))

    def take(self, kind: Frames, make: Callable[[], Captured | None]) -> Captured | None:
        """A captured run that nobody else is in."""
        with self._lock:
            free = self._free.get(kind, ())
            if free:
                return free.pop()
            if free is None:
                return None
        made = make()
        with self._lock:
            if kind not in self._free:
                while len(self._free) >= KINDS:
                    del self._free[next(iter(self._free))]
                self._free[kind] = None if made is None else []
        return made

    def give(self, kind: Frames, captured: Captured) -> None:
        """It may be used again."""
        with self._lock:
            free = self._free.get(kind)
            if free is not None:
                free.append(captured)


_CAPTURES: WeakKeyDictionary[Program, Captures] = WeakKeyDictionary()


def _captures(program: Program, plan: Plan) -> Captures:
    captures = _CAPTURES.get(program)
    if captures is None or captures.plan is not plan:
        captures = _CAPTURES[program] = Captures(program, plan)
    return captures


def beyond_capture(program: Program, plan: Plan, inputs: Mapping[str, IntArray]) -> bool:
    """Whether these samples are too much work for captured runs."""
    return _captures(program, plan).part(next(iter(inputs.values())).shape[1]) is None


def run_captured(program: Program, plan: Plan, inputs: Mapping[str, IntArray], backend: str) -> Trace | None:
    """Outputs and counts of one block by a captured run, or None where the ordinary way has to be taken."""
    captures = _captures(program, plan)
    found = captures.frames(inputs)
    if found is None:
        return None
    alone = captures.divides and found[0][0] > 1 and torch.get_num_threads() <= THREADS

    def played() -> Trace | None:
        return _in_parts(program, captures, *found, backend)

    return by_one(played) if alone else played()


def _in_parts(program: Program, captures: Captures, kind: Frames, frames: list[IntArray], backend: str) -> Trace | None:
    """The samples one part after the other, or None where the ordinary way has to be taken."""
    batch, *forms = kind
    size = captures.part(batch) or batch
    traces = []
    for start in range(0, batch, size):
        part = [x[:, start : start + size] for x in frames]
        answer = _played(program, captures, (min(size, batch - start), *forms), part)
        if answer is None:
            return None
        outputs, counts = answer
        first = outputs[program.outputs[0].name] if outputs else np.zeros((len(part[0][0]), 0), np.int64)
        traces.append(
            Trace(
                backend=backend,
                steps=program.steps,
                samples=counts.samples,
                outputs=first,
                all_outputs=outputs,
                counts=counts,
            )
        )
    return join_traces(traces)


def _played(
    program: Program, captures: Captures, kind: Frames, frames: list[IntArray]
) -> tuple[dict[str, IntArray], Any] | None:
    """Outputs and counts of one part, or None where the ordinary way has to be taken."""

    def make() -> Captured | None:
        from snn2chip_backends.torch.capture import capture

        return capture(program, captures.plan, kind, captures.shared)

    captured = captures.take(kind, make)
    if captured is None:
        return None
    answer = captured.run(frames, captures.ranges)
    captures.give(kind, captured)  # not after an exception: then it is dropped
    return answer
