"""Long waits become relays, so that every delay fits the target."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import ClassVar

import attrs

from snn2chip.errors import InputError, ScheduleError, UnsupportedError
from snn2chip.ir.nodes import Node, Synapse
from snn2chip.ir.program import Edge, Program
from snn2chip.ir.soma import Soma
from snn2chip.schedule import links
from snn2chip.schedule_balance import balanced_schedule
from snn2chip.transforms.base import Transform, rebuilt

Chain = tuple[str, str]
"""A source and the synapse it waits for."""
LONGER = 2
"""Relays beyond the least that are tried: a chain that fits may need one where a loop takes its freedom."""


@attrs.frozen(kw_only=True)
class Retime(Transform):
    """Insert identity relays where a payload has to wait longer than `most` machine steps, shared per source.

    A wait of n > `most` (a residual shortcut past windowed somas) takes ceil((n - most) / (most + 1)) relays: each is
    one hop and is itself reached after a wait of at most `most`; more where a delay, shared out in whole logical
    steps or on a loop, asks for it. All branches of one source use one chain. The result
    has a `balanced_schedule(program, most=most)`, which places the relays; logical time stays as it is. Raises
    UnsupportedError where no chains that were tried keep every wait that short (a synapse that feeds somas far apart).
    """

    name: ClassVar[str] = "retime"
    keeps: ClassVar[str] = "every payload and potential of every soma, and every output"
    most: int = 62

    def run(self, program: Program) -> Program:
        """Return a program none of whose machine-time buffers is longer than `most`."""
        if self.most < 1:
            raise InputError(f"retime: most={self.most}; a wait of at least 1 machine step is needed")
        plan = balanced_schedule(program)
        waits: dict[Chain, int] = defaultdict(int)
        for hop in links(program):
            key = hop.edge.src, hop.via
            waits[key] = max(waits[key], plan.wait(hop.edge, hop.dst))
        least = {key: -(-(wait - self.most) // (self.most + 1)) for key, wait in waits.items() if wait > self.most}
        if not least:
            return program
        refused: ScheduleError | None = None
        for chains in _lengths(least, waits):
            held = self._held(program, chains)
            try:
                balanced_schedule(held, most=self.most)
            except ScheduleError as error:
                refused = refused or error
            else:
                return held
        raise UnsupportedError(
            f"no chains of relays found that keep every wait within {self.most} machine steps (one logical step is "
            f"{plan.stretch} machine steps): {refused}"
        ) from refused

    def _held(self, program: Program, chains: Mapping[Chain, int]) -> Program:
        """The program with chains of these lengths; delays are shared out in whole logical steps."""
        longest: dict[str, int] = defaultdict(int)
        nodes, extra, moved = list(program.nodes), [], []
        for edge in program.edges:
            length = chains.get((edge.src, edge.dst), 0)
            if not edge.delay:
                longest[edge.src] = max(longest[edge.src], length)
                moved.append(Edge(_held(edge.src, length), edge.dst))
                continue
            stem = f"{edge.dst}.{edge.src}.{edge.delay}"
            share = [edge.delay * (i + 1) // (length + 1) - edge.delay * i // (length + 1) for i in range(length + 1)]
            extra += _chain(program, nodes, edge.src, stem=stem, delays=share[:-1])
            moved.append(Edge(_held(stem, length) if length else edge.src, edge.dst, share[-1]))
        for src, length in longest.items():
            extra += _chain(program, nodes, src, stem=src, delays=[0] * length)
        return rebuilt(program, nodes, [*moved, *extra], by=self.name)


def _lengths(least: Mapping[Chain, int], waits: Mapping[Chain, int]) -> Iterator[dict[Chain, int]]:
    """The least lengths, then up to `LONGER` relays more, the fewest first; no chain has more than its wait."""
    for more in range(LONGER + 1):
        for chosen in itertools.combinations_with_replacement(least, more):
            chains = {key: need + chosen.count(key) for key, need in least.items()}
            if all(length <= waits[key] for key, length in chains.items()):
                yield chains


def _chain(program: Program, nodes: list[Node], src: str, *, stem: str, delays: list[int]) -> list[Edge]:
    """Relays `stem.hold1`, `stem.hold2`, ... behind `src`, added to `nodes`; `delays` are those of their inputs."""
    edges = []
    for i, delay in enumerate(delays, start=1):
        kind, layer = program[src].payload_type(), program[src].layer  # type: ignore[union-attr]
        name = _held(stem, i)
        nodes.append(Synapse(f"{name}.in", "identity", layer=layer))
        nodes.append(
            Soma(name, program.shapes[src], fire="relay", reset="drop", out_min=kind.lo, out_max=kind.hi, layer=layer)
        )
        before = _held(stem, i - 1) if i > 1 else src
        edges += [Edge(before, f"{name}.in", delay), Edge(f"{name}.in", name)]
    return edges


def _held(src: str, i: int) -> str:
    return f"{src}.hold{i}" if i else src
