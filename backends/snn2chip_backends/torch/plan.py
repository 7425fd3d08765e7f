"""A program made ready for one device: kernels, order of evaluation, who needs a value last, memory per sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from weakref import WeakKeyDictionary

import attrs
import numpy as np
import torch

from snn2chip.ir.nodes import Product, Synapse
from snn2chip.ir.order import components
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import PayloadType
from snn2chip_backends.torch.bounds import partial_bound, program_bounds
from snn2chip_backends.torch.exact import exact_arithmetic, float_type
from snn2chip_backends.torch.somas import SomaKernel, tensor_type
from snn2chip_backends.torch.synapses import Current, product_kernel, synapse_kernel

Types = dict[str, PayloadType]
SLICE_BYTES = {"cpu": 8 << 20, "cuda": 1 << 30}
"""Currents and converted payloads of one slice of the batch."""


@attrs.frozen(kw_only=True, eq=False)
class Plan:
    """Kernels by node name, components in the order data flows, and what memory needs.

    `inlined`: synapses and products that feed one soma outside any loop; their current is made slice by slice,
    `slices[soma]` samples at a time. `sample_bytes`: what one sample keeps alive at the peak besides that.
    `readers`: how many read each value. `scaled`: inlined identity synapses whose weights the soma's compiled pass
    applies to the payloads themselves.
    """

    currents: dict[str, Current]
    somas: dict[str, SomaKernel]
    payloads: dict[str, PayloadType]
    components: list[tuple[list[str], bool]]
    inlined: frozenset[str]
    slices: dict[str, int]
    sample_bytes: int
    scaled: frozenset[str] = frozenset()
    readers: Counter[str] = attrs.field(factory=Counter)

    def reads(self, program: Program, names: list[str]) -> Iterator[str]:
        """Values that evaluating `names` reads, one entry per reader."""
        for name in names:
            if name in self.inlined:
                continue
            for edge in program.into[name]:
                if edge.src in self.inlined:
                    yield from (e.src for e in program.into[edge.src])
                else:
                    yield edge.src


_PLANS: WeakKeyDictionary[Program, dict[torch.device, Plan]] = WeakKeyDictionary()


def plan_for(program: Program, device: torch.device) -> Plan:
    """The plan of `program` on `device`, made once (programs never change)."""
    plans = _PLANS.setdefault(program, {})
    if device not in plans:
        with exact_arithmetic(device):
            made = _plan(program, device)
        plans.setdefault(device, made)  # threads that plan at once share the first one
    return plans[device]


def _plan(program: Program, device: torch.device) -> Plan:
    types, bounds = program_bounds(program)
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
    looped = {name for names, feedback in parts if feedback for name in names}
    inlined = frozenset(
        name for name in currents if len(program.out_of[name]) == 1 and program.out_of[name][0].dst not in looped
    )
    budget = SLICE_BYTES[device.type]
    somas = {s.name: SomaKernel(s, bounds[s.name], types[s.name], device) for s in program.somas}
    plan = Plan(
        currents=currents,
        somas=somas,
        scaled=_scaled(program, somas, inlined),
        payloads=types,
        components=parts,
        inlined=inlined,
        slices={s.name: max(1, budget // _slice_bytes(program, s, inlined, types)) for s in program.somas},
        sample_bytes=0,
    )
    readers = Counter(name for names, _ in plan.components for name in plan.reads(program, names))
    return attrs.evolve(plan, sample_bytes=_sample_bytes(program, plan), readers=readers)


def _scaled(program: Program, somas: dict[str, SomaKernel], inlined: frozenset[str]) -> frozenset[str]:
    """Tell the compiled passes which of their currents are payloads times a factor."""
    found = set()
    for name, kernel in somas.items():
        edges, fused = program.into[name], kernel.fused or kernel.gpu
        if fused is None or len(edges) > fused.most_sources or (kernel.soma.window is not None and not fused.mixes):
            continue
        for i, edge in enumerate(edges):
            node = program[edge.src]
            if edge.src in inlined and isinstance(node, Synapse) and node.kind == "identity":
                fused.take_payload(i, node.weight << node.exponent)
                found.add(edge.src)
    return frozenset(found)


def _slice_bytes(program: Program, soma: Soma, inlined: frozenset[str], types: Types) -> int:
    """Bytes per sample of the currents that `soma` receives and of the payloads converted for them."""
    total = 1
    for edge in program.into[soma.name]:
        node = program[edge.src]
        if edge.src in inlined and isinstance(node, (Synapse, Product)):
            values = soma.size + sum(_size(program, e.src) for e in program.into[edge.src])
            total += values * program.steps * _width(program, node, types)
    return total


def _sample_bytes(program: Program, plan: Plan) -> int:
    """Bytes alive at the peak per sample: payloads in their own types, currents that several somas read."""
    left = Counter(name for names, _ in plan.components for name in plan.reads(program, names))
    alive, peak = {n.name: 8 * _size(program, n.name) for n in program.inputs}, 1
    for names, _ in plan.components:
        for name in names:
            node, size = program[name], _size(program, name) * program.steps
            if isinstance(node, Soma):
                alive[name] = size * tensor_type(plan.payloads[name]).itemsize + 4 * node.size
            elif isinstance(node, (Synapse, Product)) and name not in plan.inlined:
                alive[name] = size * _width(program, node, plan.payloads) * 2
        peak = max(peak, sum(alive.values()))
        for source in plan.reads(program, names):
            left[source] -= 1
            if left[source] == 0:
                alive.pop(source, None)
    return peak


def _width(program: Program, node: Synapse | Product, types: Types) -> int:
    """Bytes of one value in the arithmetic of a synapse or product."""
    if isinstance(node, Product):
        return 8
    (edge,) = program.into[node.name]
    return float_type(partial_bound(node, types[edge.src].magnitude)).itemsize


def _size(program: Program, name: str) -> int:
    return int(np.prod(program.shapes[name], dtype=np.int64))
