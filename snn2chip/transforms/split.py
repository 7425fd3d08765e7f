"""Weights of -1 and +1 in one bit each: a mixed-sign format takes two."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, ClassVar

import attrs
import numpy as np

from snn2chip.ir.geometry import current_range
from snn2chip.ir.nodes import PAYLOAD_SOURCES, Node, Synapse
from snn2chip.ir.order import components
from snn2chip.ir.program import Edge, Program
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import V_MAX
from snn2chip.transforms.base import Transform, rebuilt


@attrs.frozen(kw_only=True)
class SplitSigns(Transform):
    """Store dense weights w of -1 and +1 as b = (w + 1)/2, 0 or 1, with one sum of the payloads for all targets:

        sum_j w_ij p_j = 2 * sum_j b_ij p_j - sum_j p_j

    A relay per source (per group and position of a convolution) sends the last term, so the exponent of b is one
    higher, and 1-bit weights of -1 spread it. Synapses on loops, and those for which nothing would be saved or whose
    sum does not fit a payload, stay as they are. The relay is one hop more; a target of binary spikes refuses it.
    """

    name: ClassVar[str] = "split-signs"
    keeps: ClassVar[str] = "every payload and potential of every soma, and every output"

    def run(self, program: Program) -> Program:
        """Return the program with such weights split; unchanged where there are none."""
        looped = {name for names, feedback in components(program) if feedback for name in names}
        nodes: dict[str, Node] = {node.name: node for node in program.nodes}
        edges = list(program.edges)
        sums: dict[Hashable, str] = {}
        for synapse in program.synapses:
            (edge,) = program.into[synapse.name]
            if synapse.name in looped or synapse.exponent >= 16 or not _binary(synapse):
                continue
            ones = _ones(synapse)
            source = program[edge.src]
            assert isinstance(source, PAYLOAD_SOURCES)
            lo, hi = current_range(ones, source.payload_type())
            if -lo > V_MAX or hi > V_MAX:
                continue
            key = (
                edge.src,
                edge.delay,
                ones.weight.shape,
                synapse.stride,
                synapse.padding,
                synapse.dilation,
                synapse.groups,
            )
            if key not in sums:
                relay = sums[key] = _unused(f"{edge.src}.sum", nodes)
                nodes[f"{relay}.ones"] = attrs.evolve(ones, name=f"{relay}.ones", layer=synapse.layer)
                shape = (1,) if synapse.kind == "linear" else (synapse.groups, *program.shapes[synapse.name][1:])
                nodes[relay] = Soma(
                    relay,
                    shape,
                    fire="relay",
                    reset="drop",
                    out_min=min(lo, 0),
                    out_max=max(hi, 0),
                    layer=synapse.layer,
                )
                edges += [Edge(edge.src, f"{relay}.ones", edge.delay), Edge(f"{relay}.ones", relay)]
            spread = _unused(f"{synapse.name}.minus", nodes)
            nodes[spread] = _minus(synapse, spread)
            nodes[synapse.name] = attrs.evolve(
                synapse,
                weight=(synapse.dense() > 0).astype(np.int64),
                bits=1,
                sign="excitatory",
                exponent=synapse.exponent + 1,
            )
            edges.append(Edge(sums[key], spread))
            edges += [Edge(spread, onward.dst) for onward in program.out_of[synapse.name]]
        if not sums:
            return program
        return rebuilt(program, nodes.values(), edges, by=self.name)


def _binary(synapse: Synapse) -> bool:
    """Whether all weights are -1 or +1, stored densely, and splitting them takes fewer bits."""
    if synapse.kind not in ("linear", "conv2d") or synapse.sparse or synapse.sign != "mixed":
        return False
    weight = synapse.dense()
    fan_in, targets = weight[0].size, weight.shape[0] // synapse.groups
    before, after = 2 * fan_in * targets, fan_in * targets + fan_in + targets
    return bool(after < before and (np.abs(weight) == 1).all() and (weight < 0).any())


def _ones(synapse: Synapse) -> Synapse:
    """The synapse that adds the same payloads up, once per group."""
    shape = (synapse.groups, *synapse.dense().shape[1:])
    return attrs.evolve(synapse, weight=np.ones(shape, np.int64), bits=1, sign="excitatory", exponent=0, shape=None)


def _minus(synapse: Synapse, name: str) -> Synapse:
    """The synapse that takes the sum off every target."""
    fixed: dict[str, Any] = {"exponent": synapse.exponent, "sign": "inhibitory", "layer": synapse.layer}
    targets = synapse.dense().shape[0]
    if synapse.kind == "linear":
        return Synapse(name, "linear", np.full((targets, 1), -1), 1, shape=synapse.shape, **fixed)
    return Synapse(name, "conv2d", np.full((targets, 1, 1, 1), -1), 1, groups=synapse.groups, **fixed)


def _unused(name: str, nodes: dict[str, Node]) -> str:
    number = 1
    while f"{name}{number}" in nodes or f"{name}{number}.ones" in nodes:
        number += 1
    return f"{name}{number}"
