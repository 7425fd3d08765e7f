"""From a program and its schedule to a plan: plain values that say which processes to make and how to wire them.

Paths: source -> [delay] -> synapse -> [delay] -> soma. The first delay holds what all consumers of a synapse
wait for, and gates messages of an earlier sample; the second what one of them waits for in addition.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np

from snn2chip.ir.nodes import Host, Input, Output, Product, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.schedule import Schedule, schedule
from snn2chip_backends.lava.arguments import Store, product_args, soma_args, synapse_args
from snn2chip_backends.lava.blocks import BlockPlanner
from snn2chip_backends.lava.layout import Choice, lava_layout
from snn2chip_backends.lava.recording import channels_of

Arrays = dict[str, Any]
LAYOUTS = ("stock", "layer", "fused")
"""Lava's own processes where they are exact; one own process per layer; one for the whole network."""


@attrs.define(kw_only=True)
class NetPlan:
    """A network in plain values: `data` is JSON-able (see `net.assemble`), `arrays` what it refers to.

    `layout` says per node which process was chosen, `channels` what the sinks keep, `owner` maps a process to the
    node it works for, `message_bytes` is the sum over all wires of one message.
    """

    data: dict[str, Any]
    arrays: Arrays
    layout: dict[str, Choice]
    timing: Schedule
    channels: list[dict[str, Any]]
    owner: dict[str, str]
    message_bytes: int = 0

    @property
    def size(self) -> int:
        """Number of Lava processes."""
        return len(self.data["processes"])

    def table(self) -> list[dict[str, str]]:
        """One row per node: name, process, reason."""
        return [{"node": c.node, "process": c.process, "reason": c.reason} for c in self.layout.values()]


def make_plan(
    program: Program,
    *,
    stock: bool | str = True,
    record: str = "all",
    ends: str = "file",
    substitutes: Mapping[str, str] | None = None,
    layout: str = "stock",
    batch: int = 1,
) -> NetPlan:
    """Plan the Lava network of `program`.

    record: see `channels_of`. ends: `file` puts a Source and sinks at the ends, `open` leaves ports for somebody
    else's processes. `substitutes[node]` replaces a node's process class. layout: one of `LAYOUTS`; `batch`
    samples ride in every message of the layouts `layer` and `fused`.
    """
    if layout == "stock":
        return _Planner(program, stock, dict(substitutes or {})).plan(record, ends)
    timing = schedule(program)
    planner = BlockPlanner(program, timing, layout, dict(substitutes or {}))
    channels = planner.plan(record)
    return NetPlan(
        data=_data(program, timing, planner.processes, planner.wires) | {"batch": batch},
        arrays=planner.store.arrays,
        layout=planner.layout,
        timing=timing,
        channels=channels,
        owner=planner.owner,
        message_bytes=batch * sum(planner.wire_values),
    )


def _data(program: Program, timing: Schedule, processes: list[Any], wires: list[Any]) -> dict[str, Any]:
    return {
        "steps": program.steps,
        "stretch": timing.stretch,
        "latency": timing.latency,
        "processes": processes,
        "wires": wires,
    }


class _Planner:
    def __init__(self, program: Program, stock: bool | str, substitutes: dict[str, str]) -> None:
        self.program = program
        self.timing = schedule(program)
        self.layout = lava_layout(program, self.timing, stock=stock)
        self.substitutes = substitutes
        self.store = Store()
        self.processes: list[dict[str, Any]] = []
        self.wires: list[list[Any]] = []
        self.channels: list[dict[str, Any]] = []
        self.owner: dict[str, str] = {}

    def plan(self, record: str, ends: str) -> NetPlan:
        for node in self.program.nodes:
            if isinstance(node, (Input, Host)):
                self._source(node, ends)
            elif not isinstance(node, Output):
                self._add(node.name, self.layout[node.name].kind, self._arguments(node), node.name)
        for node in self.program.nodes:
            if isinstance(node, (Synapse, Product)):
                self._connect(node)
        if ends == "file":
            self._record(record)
        return NetPlan(
            data=_data(self.program, self.timing, self.processes, self.wires),
            arrays=self.store.arrays,
            layout=self.layout,
            timing=self.timing,
            channels=self.channels,
            owner=self.owner,
            message_bytes=self._message_bytes(),
        )

    def _message_bytes(self) -> int:
        """Four or eight bytes a value on each wire."""
        wide = {p["name"] for p in self.processes if p["kind"].startswith("wide")}
        sizes = {name: math.prod(self.program.shapes.get(node, (1,))) for name, node in self.owner.items()}
        return sum(sizes[source] * (8 if source in wide else 4) for source, *_ in self.wires)

    def _arguments(self, node: Synapse | Product | Soma) -> dict[str, Any]:
        choice = self.layout[node.name]
        if isinstance(node, Synapse):
            return synapse_args(self.program, node, choice, self.store)
        if isinstance(node, Product):
            return product_args(self.program, node)
        return soma_args(node, choice, self.timing, self.store)

    def _add(self, name: str, kind: str, args: dict[str, Any], node: str) -> None:
        item: dict[str, Any] = {"name": name, "kind": kind, "args": args}
        if name in self.substitutes:
            item.update(kind=self.substitutes[name], like=kind)
        self.processes.append(item)
        self.owner[name] = node

    def _source(self, node: Input | Host, ends: str) -> None:
        if ends == "open":
            self._add(node.name, "entry", {"shape": list(node.shape), "lo": node.lo, "hi": node.hi}, node.name)
        else:
            self._add(node.name, "source", {"shape": list(node.shape), "stretch": self.timing.stretch}, node.name)

    def _connect(self, node: Synapse | Product) -> None:
        """Wire one current source: its payload edges in, its currents out."""
        program, timing = self.program, self.timing
        name, choice = node.name, self.layout[node.name]
        targets = [edge.dst for edge in program.out_of[name]]
        first = min(timing.skew_in[t] for t in targets)
        for i, edge in enumerate(program.into[name]):
            wait = min(timing.wait(edge, t) for t in targets)
            source = self._delayed(edge.src, name, i, wait, edge.delay)
            port = ("p_in", "q_in")[i] if isinstance(node, Product) else "s_in"
            self.wires.append([*source, name, port, _into(choice, program.shapes[edge.src])])
        for target in targets:
            extra = timing.skew_in[target] - first
            source = (name, "a_out")
            back = _out_of(choice, program.shapes[name])
            if extra:
                line = f"{name}>{target}"
                self._delay(line, program.shapes[name], extra, "wide-delay" if choice.wide else "delay", name)
                self.wires.append([*source, line, "x_in", back])
                source, back = (line, "x_out"), []
            self.wires.append([*source, target, "a_in", back])

    def _delayed(self, source: str, via: str, number: int, wait: int, delay: int) -> tuple[str, str]:
        """The port that carries the payload of `source` to `via` at the right machine step."""
        port = (source, "s_out")
        if not wait and not delay:
            return port
        line = f"{source}>{via}" + (f">{number}" if number else "")
        keep = max(self.timing.steps - delay, 0)
        self._delay(line, self.program.shapes[source], wait, "delay", via, skew=self.timing.skew_out[source], keep=keep)
        self.wires.append([*port, line, "x_in", []])
        return line, "x_out"

    def _delay(
        self,
        name: str,
        shape: tuple[int, ...],
        length: int,
        kind: str,
        node: str,
        skew: int = 0,
        keep: int | None = None,
    ) -> None:
        steps = self.timing.steps
        args = {
            "shape": list(shape),
            "length": int(length),
            "steps": steps,
            "keep": steps if keep is None else int(keep),
            "stretch": self.timing.stretch,
            "skew": int(skew),
        }
        self._add(name, kind, args, node)

    def _record(self, record: str) -> None:
        """Sinks behind everything that is kept, at least one."""
        self.channels = channels_of(self.program, self.layout, self.timing, record)
        for name in dict.fromkeys(["sink>0", *(channel["sink"] for channel in self.channels)]):
            self._add(name, "sink", {"steps": self.timing.steps, "stretch": self.timing.stretch}, name)
        for channel in self.channels:
            self.wires.append([channel["node"], channel["port"], channel["sink"], f"in_{channel['slot']}", []])


def _into(choice: Choice, shape: tuple[int, ...]) -> list[list[Any]]:
    """Port operations that bring a payload `[*shape]` into the form a stock synapse takes."""
    if choice.kind in ("Dense", "Sparse") and len(shape) != 1:
        return [["reshape", [int(np.prod(shape))]]]
    return [["transpose", [2, 1, 0]]] if choice.kind == "Conv" else []


def _out_of(choice: Choice, shape: tuple[int, ...]) -> list[list[Any]]:
    """Port operations that bring a stock synapse's current back to `[*shape]`."""
    if choice.kind in ("Dense", "Sparse") and len(shape) != 1:
        return [["reshape", list(shape)]]
    return [["transpose", [2, 1, 0]]] if choice.kind == "Conv" else []
