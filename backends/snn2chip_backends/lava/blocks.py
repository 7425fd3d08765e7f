"""Plans of the layouts `layer` (one process per layer: synapses and somas) and `fused` (one for the whole network).

Machine time is the same as in the layout `stock`; delays live in the blocks' memories. A batch of samples rides in
every message. `layer` keeps somas that share a synapse in one process, so that its current is computed once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from snn2chip.ir.nodes import Host, Input, Product, Synapse, describe
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.ir.validate import current_ranges, source_range
from snn2chip.schedule import Schedule
from snn2chip_backends.lava.arguments import Store, soma_params
from snn2chip_backends.lava.layout import Choice
from snn2chip_backends.lava.numbers import current_bound, smallest, soma_bound, wire_type
from snn2chip_backends.lava.recording import channels_of, may_saturate

Values = dict[str, Any]
WHOLE = "network"


def block_layout(program: Program, layout: str) -> dict[str, Choice]:
    """The process of every synapse, product and soma."""
    parts = partition(program, layout)
    what = "own network" if layout == "fused" else "own layer"
    reason = "the whole network in one process" if layout == "fused" else "one process per layer"
    found = {}
    for node in program.nodes:
        if isinstance(node, (Synapse, Product, Soma)):
            name = next(name for name, members in parts.items() if node.name in members)
            text = reason if layout == "fused" else f"{reason}: {name}"
            found[node.name] = Choice(node=node.name, process=what, reason=text, kind="soma")
    return found


def partition(program: Program, layout: str) -> dict[str, list[str]]:
    """Names of each block's nodes, in the program's order; a block is called after its first soma."""
    if layout == "fused":
        taken = {node.name for node in program.nodes}
        name = WHOLE
        while name in taken:
            name += "_"
        return {name: [n.name for n in program.nodes if isinstance(n, (Synapse, Product, Soma))]}
    root = {n.name: n.name for n in program.nodes if isinstance(n, (Synapse, Product, Soma))}

    def find(name: str) -> str:
        while root[name] != name:
            name = root[name]
        return name

    for soma in program.somas:
        for edge in program.into[soma.name]:
            root[find(edge.src)] = find(soma.name)
    groups: dict[str, list[str]] = {}
    for name in root:
        groups.setdefault(find(name), []).append(name)
    return {next(n for n in names if isinstance(program[n], Soma)): names for names in groups.values()}


class BlockPlanner:
    """Makes processes, wires and channels of a layout of blocks."""

    def __init__(self, program: Program, timing: Schedule, layout: str, substitutes: Mapping[str, str]) -> None:
        self.program, self.timing, self.substitutes = program, timing, substitutes
        self.layout = block_layout(program, layout)
        self.parts = partition(program, layout)
        self.home = {node: block for block, nodes in self.parts.items() for node in nodes}
        self.reach = {name: max(-lo, hi) for name, (lo, hi) in current_ranges(program).items()}
        self.bounds = {n.name: current_bound(program, n) for n in program.nodes if isinstance(n, (Synapse, Product))}
        self.store = Store()
        self.processes: list[Values] = []
        self.wires: list[list[Any]] = []
        self.wire_values: list[int] = []
        self.owner: dict[str, str] = {}
        self.outs: dict[str, list[tuple[str, str]]] = {name: [] for name in self.parts}

    def plan(self, record: str) -> list[Values]:
        """Fill processes and wires; return what the sinks keep."""
        program = self.program
        channels = channels_of(program, self.layout, self.timing, record)
        time = {"steps": self.timing.steps, "stretch": self.timing.stretch}
        for node in program.nodes:
            if isinstance(node, (Input, Host)):
                port = [list(node.shape), wire_type(node.payload_type())]
                args = {"outs": [port], **time, "dtype": port[1]}
                self._add(node.name, "feed", args, node.name)
        for channel in channels:
            channel["last"] = channel["what"] == "potential" and record != "all"  # an output reads no earlier one
            self._out(channel["node"], channel["what"])
        blocks = [self._block(name, nodes) | time for name, nodes in self.parts.items()]
        for (name, nodes), args in zip(self.parts.items(), blocks, strict=True):
            args["outputs"] = [
                {"node": node, "what": what, "last": what == "potential" and record != "all"}
                for node, what in self.outs[name]
            ]
            args["outs"] = [self._port(node, what) for node, what in self.outs[name]]
            self._add(name, "block", args, self._first(nodes))
        self._sinks(channels, time)
        return channels

    def _first(self, nodes: list[str]) -> str:
        return next(n for n in nodes if isinstance(self.program[n], Soma)) if len(self.parts) > 1 else WHOLE

    def _add(self, name: str, kind: str, args: Values, node: str) -> None:
        item: Values = {"name": name, "kind": kind, "args": args}
        if name in self.substitutes:
            item.update(kind=self.substitutes[name], like=kind)
        self.processes.append(item)
        self.owner[name] = node

    def _out(self, node: str, what: str) -> str:
        """The port of a block that carries this; made on first use."""
        outs = self.outs[self.home[node]]
        if (node, what) not in outs:
            outs.append((node, what))
        return f"out_{outs.index((node, what))}"

    def _port(self, node: str, what: str) -> list[Any]:
        soma = self.program[node]
        assert isinstance(soma, Soma)
        if what == "count":
            return [None, "<i8"]
        return [list(soma.shape), wire_type(soma.payload_type()) if what == "payload" else "<i4"]

    def _wire(self, source: str, port: str, target: str, into: str, size: int) -> None:
        self.wires.append([source, port, target, into, []])
        self.wire_values.append(size)

    def _block(self, block: str, nodes: list[str]) -> Values:
        """Arguments of one block, and the wires into it."""
        program = self.program
        members = [program[name] for name in nodes]
        used = {edge.src for m in members if not isinstance(m, Soma) for edge in program.into[m.name]}
        outside = [n for n in program.nodes if n.name in used and self.home.get(n.name) != block]
        inputs: list[Values] = []
        for i, source in enumerate(outside):
            assert isinstance(source, (Input, Host, Soma))
            dtype = wire_type(source.payload_type())
            inputs.append({**self._memory(source, block), "dtype": dtype, "skew": self.timing.skew_out[source.name]})
            inside = isinstance(source, Soma)
            home, port = (
                (self.home[source.name], self._out(source.name, "payload")) if inside else (source.name, "out_0")
            )
            size = int(np.prod(source.shape)) * np.dtype(dtype).itemsize
            self._wire(home, port, block, f"in_{i}", size)
        return {
            "ins": [[item["shape"], item["dtype"]] for item in inputs],
            "inputs": inputs,
            "currents": [self._current(m) for m in members if isinstance(m, (Synapse, Product))],
            "somas": [self._soma(m, block) for m in members if isinstance(m, Soma)],
        }

    def _memory(self, source: Input | Host | Soma, block: str) -> Values:
        """How many payloads of `source` this block keeps: until its last reader has had the oldest one."""
        keep = 1
        for edge in self.program.out_of[source.name]:
            if self.home.get(edge.dst) == block:
                late = self._skew(edge.dst) - self.timing.skew_out[source.name]
                keep = max(keep, late // self.timing.stretch + edge.delay + 1)
        return {"name": source.name, "shape": list(source.shape), "keep": keep}

    def _skew(self, current: str) -> int:
        """When a synapse or product computes: as soon as the first of its somas needs it."""
        return min(self.timing.skew_in[edge.dst] for edge in self.program.out_of[current])

    def _current(self, node: Synapse | Product) -> Values:
        program, name = self.program, node.name
        skew = self._skew(name)
        last = max(self.timing.skew_in[edge.dst] for edge in program.out_of[name])
        found: Values = {
            "name": name,
            "label": describe(node),
            "skew": skew,
            "keep": (last - skew) // self.timing.stretch + 1,
            "sources": [[edge.src, edge.delay] for edge in program.into[name]],
            "number": smallest(self.bounds[name]),
            "out_shape": list(program.shapes[name]),
        }
        if isinstance(node, Product):
            return found | {"map": "product", "shift": node.shift}
        weight = node.weight
        if node.kind in ("identity", "sumpool") and weight.ndim == 1:
            weight = weight.reshape(weight.shape + (1,) * (len(program.shapes[name]) - 1))
        return found | {
            "map": node.kind,
            "in_shape": list(program.shapes[program.into[name][0].src]),
            "weight": self.store.keep(f"{name}/weight", weight),
            "exponent": node.exponent,
            "kernel_size": list(node.kernel_size),
            "stride": list(node.stride),
            "padding": list(node.padding),
            "dilation": list(node.dilation),
            "groups": node.groups,
        }

    def _soma(self, node: Soma, block: str) -> Values:
        sources = [edge.src for edge in self.program.into[node.name]]
        ends = [source_range(self.program, name) for name in sources]
        reach = sum(max(-lo, hi) for lo, hi in ends)
        return {
            **self._memory(node, block),
            "label": describe(node),
            "dtype": wire_type(node.payload_type()),
            "sources": sources,
            "skew_in": self.timing.skew_in[node.name],
            "skew_out": self.timing.skew_out[node.name],
            "number": smallest(soma_bound(node, reach)),
            "clips": may_saturate(node, self.reach[node.name], self.program.steps),
            "params": soma_params(node, self.store),
        }

    def _sinks(self, channels: list[Values], time: Values) -> None:
        """Sinks behind everything that is kept, at least one."""
        for name in dict.fromkeys(["sink>0", *(channel["sink"] for channel in channels)]):
            mine = [c for c in channels if c["sink"] == name]
            ports = [self._port(c["node"], c["what"]) for c in mine]
            self._add(name, "keep", {**time, "ins": ports}, name)
            for channel, (shape, dtype) in zip(mine, ports, strict=True):
                size = int(np.prod(shape or [1])) * np.dtype(dtype).itemsize
                port = self._out(channel["node"], channel["what"])
                self._wire(self.home[channel["node"]], port, name, f"in_{channel['slot']}", size)
