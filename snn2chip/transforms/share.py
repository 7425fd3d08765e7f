"""Relays that say the same are one relay."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, ClassVar

import attrs
import numpy as np
from scipy import sparse

from snn2chip.ir.nodes import Node, Synapse
from snn2chip.ir.program import Edge, Program
from snn2chip.ir.soma import Soma
from snn2chip.transforms.base import Transform, rebuilt


@attrs.frozen(kw_only=True)
class ShareRelay(Transform):
    """Merge relay somas that have equal parameters and equal currents, and the equal synapses of one source.

    Two synapses are equal when they take the same payloads with the same delay and their maps are the same
    integers; two relays when they sum the same currents and every parameter is the same integer. Repeats until
    nothing is left to merge, so that chains of equal relays become one chain. Relays that an Output reads stay.
    """

    name: ClassVar[str] = "share-relay"
    keeps: ClassVar[str] = "every payload of every soma that is left, and every output"

    def run(self, program: Program) -> Program:
        """Return the program with equal relays merged; unchanged where there are none."""
        into: dict[str, str] = {}
        seen: dict[Hashable, str] = {}
        read = {edge.src for output in program.outputs for edge in program.into[output.name]}
        for node in program.order:
            relay = isinstance(node, Soma) and node.fire == "relay" and node.name not in read
            if not relay and not isinstance(node, Synapse):
                continue
            sources = sorted((into.get(e.src, e.src), e.delay) for e in program.into[node.name])
            twin = seen.setdefault((type(node).__name__, tuple(sources), _parameters(node)), node.name)
            if twin != node.name:
                into[node.name] = twin
        if not any(isinstance(program[name], Soma) for name in into):
            return program
        merged = _useful(program, into)
        edges = dict.fromkeys(
            Edge(merged.get(e.src, e.src), e.dst, e.delay) for e in program.edges if e.dst not in merged
        )
        return rebuilt(program, (n for n in program.nodes if n.name not in merged), edges, by=self.name)


def _useful(program: Program, into: dict[str, str]) -> dict[str, str]:
    """Leave alone equal synapses into one soma: their currents add up, so both are needed."""
    kept = dict(into)
    for soma in program.somas:
        if soma.name in kept:
            continue
        arriving: set[str] = set()
        for edge in program.into[soma.name]:
            target = kept.get(edge.src, edge.src)
            if target in arriving:
                kept.pop(edge.src, None)
            arriving.add(target)
    return kept


def _parameters(node: Node) -> Hashable:
    """Everything that decides what a node computes, as one hashable value."""
    return tuple(
        (field.name, _value(getattr(node, field.name)))
        for field in attrs.fields(type(node))
        if field.name not in ("name", "layer")
    )


def _value(value: Any) -> Hashable:
    if sparse.issparse(value):
        return value.shape, value.data.tobytes(), value.indices.tobytes(), value.indptr.tobytes()
    if isinstance(value, np.ndarray):
        return value.shape, value.tobytes()
    return value if isinstance(value, Hashable) else repr(value)
