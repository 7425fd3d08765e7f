"""Evaluation of one block of samples: whole samples at a time without feedback, step by step inside loops."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from snn2chip.errors import InputError
from snn2chip.ir.nodes import Product, Synapse, describe
from snn2chip.ir.program import Edge, Program
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import IntArray
from snn2chip_backends.torch.loop import Loop
from snn2chip_backends.torch.plan import Plan
from snn2chip_backends.torch.records import Records
from snn2chip_backends.torch.sample import SomaRun, Source, run_soma


def put_inputs(program: Program, plan: Plan, inputs: Mapping[str, IntArray], device: torch.device) -> dict[str, Tensor]:
    """Coded payloads on the device, `[T or 1, B, *shape]`; 1 where NumPy broadcasts one frame over the steps.

    Raises InputError for values outside a declared range: every exactness proof rests on it.
    """
    placed, bad = {}, []
    for node in program.inputs:
        values = np.asarray(inputs[node.name])
        frames = values[:1] if values.strides[0] == 0 else values
        lo, hi = (int(frames.min()), int(frames.max())) if frames.size else (0, 0)
        if not node.lo <= lo <= hi <= node.hi:
            bad.append(f"{describe(node)}: payloads {lo}..{hi} are outside the declared range [{node.lo}, {node.hi}]")
        placed[node.name] = torch.from_numpy(frames.astype(plan.payloads[node.name].dtype())).to(device)
    if bad:
        raise InputError(bad)
    return placed


def evaluate(program: Program, plan: Plan, payloads: dict[str, Tensor], records: Records) -> None:
    """Evaluate every node; `records` takes what is wanted of each source, everything else is freed early."""
    block = _Block(program, plan, payloads, records)
    for names, feedback in plan.components:
        if feedback:
            block.loop(names)
        else:
            block.node(names[0])
        block.free(names)
    records.finish()


def _same(payload: Tensor) -> Tensor:
    return payload


class _Block:
    """Values that are still needed, by node name: payloads and currents `[T or 1, B, *shape]`."""

    def __init__(self, program: Program, plan: Plan, payloads: dict[str, Tensor], records: Records) -> None:
        self.program, self.plan, self.records = program, plan, records
        self.values = payloads
        self.left = plan.readers.copy()
        self.batch = next(iter(payloads.values())).shape[1]
        for node in program.inputs:
            records.source(node.name, payloads[node.name])

    def node(self, name: str) -> None:
        """All steps of one node outside any loop."""
        node = self.program[name]
        edges = self.program.into[name]
        if isinstance(node, (Synapse, Product)) and name not in self.plan.inlined:
            self.values[name] = self.plan.currents[name](*(self.shifted(e) for e in edges))
        elif isinstance(node, Soma):
            run = run_soma(
                self.plan.somas[name],
                [self.current(e) for e in edges],
                self.batch,
                self.program.steps,
                size=self.plan.slices[name],
                wants=self.records.wants(name),
            )
            self.finish(name, run)

    def current(self, edge: Edge) -> Source:
        """The current that an edge brings to a soma; that of a synapse with no other reader is made on demand."""
        if edge.src not in self.plan.inlined:
            value = self.values[edge.src]
            return Source(len(value), lambda part: value[:, part])
        make = _same if edge.src in self.plan.scaled else self.plan.currents[edge.src]
        arriving = [self.shifted(e) for e in self.program.into[edge.src]]
        return Source(max(map(len, arriving)), lambda part: make(*(p[:, part] for p in arriving)))

    def shifted(self, edge: Edge) -> Tensor:
        """What an edge delivers over the sample: its source, later by the edge's delay, nothing before."""
        payload, steps = self.values[edge.src], self.program.steps
        if edge.delay == 0:
            return payload
        kept = max(steps - edge.delay, 0)
        out = torch.zeros((steps, *payload.shape[1:]), dtype=payload.dtype, device=payload.device)
        out[steps - kept :] = payload[:kept] if len(payload) > 1 else payload
        return out

    def loop(self, names: list[str]) -> None:
        """All steps of a feedback component, one after the other."""
        loop, inside = Loop(self.program, self.plan, names, self.values, self.batch, self.records.wants), set(names)
        for t in range(self.program.steps):
            for name in names:
                loop.step(name, t)
        for name in names:
            if isinstance(self.program[name], Soma):
                self.finish(name, loop.result(name))
        for name in names:
            outside = any(edge.dst not in inside for edge in self.program.out_of[name])
            if outside and not isinstance(self.program[name], Soma):
                self.node(name)  # a soma outside the loop reads this current too: all steps of it at once

    def finish(self, name: str, run: SomaRun) -> None:
        """Record a soma and keep its payloads for those who read them."""
        self.records.soma(name, run)
        self.values[name] = run.payload

    def free(self, names: list[str]) -> None:
        """Drop what nobody reads any more."""
        for source in self.plan.reads(self.program, names):
            self.left[source] -= 1
            if self.left[source] == 0:
                self.values.pop(source, None)
        for name in names:
            if self.left[name] == 0:
                self.values.pop(name, None)
