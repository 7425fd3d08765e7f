"""Proven ranges of a whole program: currents, potentials and payloads of every soma, whatever the inputs are.

Along the data flow each soma's current follows from the payload ranges of its sources, and its payload range from its
current. What comes back on a loop has its declared range at first; every further round can only tighten it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from weakref import WeakKeyDictionary

from snn2chip.analysis.currents import product_span, synapse_span
from snn2chip.analysis.soma_range import SomaRange, soma_range
from snn2chip.analysis.spans import Span, span
from snn2chip.ir.nodes import Product, Synapse
from snn2chip.ir.order import components
from snn2chip.ir.program import Program
from snn2chip.ir.types import PayloadType

ROUNDS = 3
_KNOWN: WeakKeyDictionary[Program, Mapping[str, SomaRange]] = WeakKeyDictionary()


def program_ranges(program: Program) -> Mapping[str, SomaRange]:
    """Proven ranges of every soma by name; made once for each program (programs never change)."""
    if program not in _KNOWN:
        _KNOWN[program] = MappingProxyType(_ranges(program))
    return _KNOWN[program]


def payload_types(program: Program) -> dict[str, PayloadType]:
    """Payload range of every source: declared, tightened to what can be reached; 0 is always inside."""
    types = {n.name: n.payload_type() for n in (*program.inputs, *program.somas)}
    for name, found in program_ranges(program).items():
        lo, hi = found.payload.with_zero().bounds
        types[name] = PayloadType(max(types[name].lo, lo), min(types[name].hi, hi))
    return types


def _ranges(program: Program) -> dict[str, SomaRange]:
    payloads: dict[str, Span] = {}
    for node in (*program.inputs, *program.somas):
        declared = node.payload_type()
        payloads[node.name] = span(declared.lo, declared.hi, len(node.shape))
    found: dict[str, SomaRange] = {}
    somas = {soma.name: soma for soma in program.somas}
    for names, feedback in components(program):
        for _ in range(ROUNDS if feedback else 1):
            changed = False
            for name in names:
                if name not in somas:
                    continue
                soma = somas[name]
                arriving = [_current(program, edge.src, payloads) for edge in program.into[name]]
                total = arriving[0]
                for part in arriving[1:]:
                    total = total + part
                found[name] = soma_range(soma, total, program.steps)
                changed |= not found[name].payload.same(payloads[name])
                payloads[name] = found[name].payload
            if not changed:
                break
    return found


def _current(program: Program, name: str, payloads: Mapping[str, Span]) -> Span:
    """Range of the current of one synapse or product."""
    node = program[name]
    # a delayed payload is 0 before it arrives
    given = [payloads[e.src].with_zero() if e.delay else payloads[e.src] for e in program.into[name]]
    shapes = [program.shapes[e.src] for e in program.into[name]]
    if isinstance(node, Synapse):
        return synapse_span(node, given[0], shapes[0], program.shapes[name])
    assert isinstance(node, Product)
    return product_span(node, given, shapes)
