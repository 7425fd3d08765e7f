"""A program made ready for one device: kernels, order of evaluation, who needs a value last, memory per sample."""

from __future__ import annotations

from collections import Counter
from weakref import WeakKeyDictionary

import attrs
import torch

from snn2chip.ir.nodes import Product, Synapse
from snn2chip.ir.order import components
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip_backends.torch.bounds import partial_bound, soma_bounds
from snn2chip_backends.torch.exact import float_type
from snn2chip_backends.torch.somas import SomaKernel, payload_type
from snn2chip_backends.torch.synapses import Current, product_kernel, synapse_kernel


@attrs.frozen(kw_only=True, eq=False)
class Plan:
    """Kernels by node name, components in the order data flows, and bytes that one sample needs at the peak.

    `uses` counts, per payload or current source, the nodes that read it; its value is freed after the last one.
    """

    currents: dict[str, Current]
    somas: dict[str, SomaKernel]
    payload_types: dict[str, torch.dtype]
    components: list[tuple[list[str], bool]]
    uses: Counter[str]
    sample_bytes: int


_PLANS: WeakKeyDictionary[Program, dict[torch.device, Plan]] = WeakKeyDictionary()


def plan_for(program: Program, device: torch.device) -> Plan:
    """The plan of `program` on `device`, made once (programs never change)."""
    plans = _PLANS.setdefault(program, {})
    if device not in plans:
        plans[device] = _plan(program, device)
    return plans[device]


def _plan(program: Program, device: torch.device) -> Plan:
    types = {n.name: n.payload_type() for n in (*program.inputs, *program.somas)}
    currents: dict[str, Current] = {}
    for node in program.nodes:
        sources = [e.src for e in program.into[node.name]]
        if isinstance(node, Synapse):
            source = sources[0]
            currents[node.name] = synapse_kernel(node, types[source], program.shapes[source], device)
        elif isinstance(node, Product):
            shapes = [program.shapes[s] for s in sources]
            currents[node.name] = product_kernel(node, [types[s] for s in sources], shapes, device)
    parts = components(program)
    return Plan(
        currents=currents,
        somas={s.name: SomaKernel(s, soma_bounds(program, s), device) for s in program.somas},
        payload_types={name: payload_type(declared) for name, declared in types.items()},
        components=parts,
        uses=Counter(e.src for e in program.edges if isinstance(program[e.dst], (Synapse, Product, Soma))),
        sample_bytes=_sample_bytes(program, parts),
    )


def _sample_bytes(program: Program, parts: list[tuple[list[str], bool]]) -> int:
    """Bytes alive at the peak per sample: payloads in their types, currents and what a synapse converts."""
    left = Counter(e.src for e in program.edges)
    alive, peak, total = {n.name: 8 * _size(program, n.name) for n in program.inputs}, 0, 0
    for names, _ in parts:
        working = 0
        for name in names:
            node = program[name]
            size = _size(program, name) * program.steps
            if isinstance(node, Soma):
                alive[name] = size * payload_type(node.payload_type()).itemsize + 4 * node.size
            elif isinstance(node, (Synapse, Product)):
                into = sum(_size(program, e.src) for e in program.into[name]) * program.steps
                width = _width(program, node)
                alive[name], working = size * width, working + into * width
        total = sum(alive.values()) + working
        peak = max(peak, total)
        for name in names:
            for edge in program.into[name]:
                left[edge.src] -= 1
                if left[edge.src] == 0:
                    alive.pop(edge.src, None)
    return max(peak, 1)


def _width(program: Program, node: Synapse | Product) -> int:
    if isinstance(node, Product):
        return 8
    (source,) = program.sources(node.name)
    declared = source.payload_type()  # type: ignore[union-attr]
    return float_type(partial_bound(node, declared.magnitude)).itemsize


def _size(program: Program, name: str) -> int:
    size = 1
    for n in program.shapes[name]:
        size *= n
    return size
