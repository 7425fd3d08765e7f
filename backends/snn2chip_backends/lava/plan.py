"""From a program and its schedule to a plan: plain values that say which processes to make and how to wire them.

Paths: source -> [delay] -> synapse -> [delay] -> soma. The first delay holds what all consumers of a synapse
wait for, and gates messages of an earlier sample; the second what one of them waits for in addition.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
from scipy import sparse

from snn2chip.ir.nodes import Host, Input, Product, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import PER_CHANNEL, PER_STEP, Soma
from snn2chip.ir.types import LEAK_ONE, V_MAX, PayloadType
from snn2chip.ir.validate import current_ranges, source_range
from snn2chip.schedule import Schedule, schedule
from snn2chip_backends.lava.layout import Choice, lava_layout
from snn2chip_backends.lava.net.assemble import TIMED
from snn2chip_backends.lava.net.processes import SINK_PORTS

Arrays = dict[str, Any]


@attrs.define(kw_only=True)
class NetPlan:
    """A network in plain values: `data` is JSON-able (see `net.assemble`), `arrays` what it refers to.

    `layout` says per node which process was chosen; `records` lists what the sinks keep:
    `(node, what)` in the order of their channels, `owner` maps a process to the node it works for.
    """

    data: dict[str, Any]
    arrays: Arrays
    layout: dict[str, Choice]
    timing: Schedule
    channels: list[dict[str, Any]]
    owner: dict[str, str]

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
) -> NetPlan:
    """Plan the Lava network of `program`.

    record: `all` keeps every payload and every observable potential, `outputs` only what the outputs read,
    `payloads` every payload and the potentials that outputs read. ends: `file` puts a Source and sinks at the ends,
    `open` leaves ports for somebody else's processes. `substitutes[node]` replaces a node's process class.
    """
    return _Planner(program, stock, dict(substitutes or {})).plan(record, ends)


class _Planner:
    def __init__(self, program: Program, stock: bool | str, substitutes: dict[str, str]) -> None:
        self.program = program
        self.timing = schedule(program)
        self.layout = lava_layout(program, self.timing, stock=stock)
        self.substitutes = substitutes
        self.arrays: Arrays = {}
        self.processes: list[dict[str, Any]] = []
        self.wires: list[list[Any]] = []
        self.channels: list[dict[str, Any]] = []
        self.owner: dict[str, str] = {}

    def plan(self, record: str, ends: str) -> NetPlan:
        for node in self.program.nodes:
            if isinstance(node, (Input, Host)):
                self._source(node, ends)
            elif isinstance(node, Synapse):
                self._synapse(node)
            elif isinstance(node, Product):
                self._product(node)
            elif isinstance(node, Soma):
                self._soma(node)
        for node in self.program.nodes:
            if isinstance(node, (Synapse, Product)):
                self._connect(node)
        if ends == "file":
            self._record(record)
        data = {
            "steps": self.program.steps,
            "stretch": self.timing.stretch,
            "latency": self.timing.latency,
            "processes": self.processes,
            "wires": self.wires,
        }
        return NetPlan(
            data=data,
            arrays=self.arrays,
            layout=self.layout,
            timing=self.timing,
            channels=self.channels,
            owner=self.owner,
        )

    def _add(self, name: str, kind: str, args: dict[str, Any], node: str) -> None:
        item: dict[str, Any] = {"name": name, "kind": kind, "args": args}
        if name in self.substitutes:
            item.update(kind=self.substitutes[name], timed=kind in TIMED)
        self.processes.append(item)
        self.owner[name] = node

    def _array(self, key: str, value: Any) -> dict[str, Any]:
        if sparse.issparse(value):
            for part in ("data", "indices", "indptr"):
                self.arrays[f"{key}.{part}"] = np.asarray(getattr(value, part))
            return {"csr": key, "shape": [int(n) for n in value.shape]}
        self.arrays[key] = np.ascontiguousarray(value)
        return {"array": key}

    # nodes

    def _source(self, node: Input | Host, ends: str) -> None:
        if ends == "open":
            self._add(node.name, "entry", {"shape": list(node.shape), "lo": node.lo, "hi": node.hi}, node.name)
        else:
            self._add(node.name, "source", {"shape": list(node.shape), "stretch": self.timing.stretch}, node.name)

    def _synapse(self, node: Synapse) -> None:
        choice, key = self.layout[node.name], f"{node.name}/weight"
        in_shape = self.program.shapes[self.program.into[node.name][0].src]
        if choice.kind in ("Dense", "Sparse"):
            weight, exponent = stock_weight(node, in_shape)
            args = {"weights": self._array(key, weight), "weight_exp": exponent, "num_message_bits": 24}
        elif choice.kind == "Conv":
            args = self._conv(node, in_shape)
        else:
            args = self._own_synapse(node, in_shape)
        self._add(node.name, choice.kind, args, node.name)

    def _conv(self, node: Synapse, in_shape: tuple[int, ...]) -> dict[str, Any]:
        """Stock Conv: W-H-C layout, true convolution (kernel flipped), exponent folded into the weights."""
        channels = in_shape[0]
        weight = node.weight
        if node.kind == "sumpool":
            per_channel = np.broadcast_to(weight.reshape(-1, 1, 1, 1), (channels, 1, 1, 1))
            weight = np.broadcast_to(per_channel, (channels, 1, *node.kernel_size))
        flipped = (weight[:, :, ::-1, ::-1].transpose(0, 3, 2, 1) << node.exponent).astype(np.int32)
        return {
            "weight": self._array(f"{node.name}/weight", flipped),
            "input_shape": list(reversed(in_shape)),
            "padding": list(reversed(node.padding)),
            "stride": list(reversed(node.stride)),
            "dilation": list(reversed(node.dilation)),
            "groups": channels if node.kind == "sumpool" else node.groups,
            "num_message_bits": 24,
        }

    def _own_synapse(self, node: Synapse, in_shape: tuple[int, ...]) -> dict[str, Any]:
        out_shape = self.program.shapes[node.name]
        weight = node.weight
        if node.kind in ("identity", "sumpool") and weight.ndim == 1:
            weight = weight.reshape(weight.shape + (1,) * (len(out_shape) - 1))
        lo, hi = source_range(self.program, node.name)
        return {
            "map": node.kind,
            "in_shape": list(in_shape),
            "out_shape": list(out_shape),
            "weight": self._array(f"{node.name}/weight", weight),
            "bound": max(-lo, hi, hi - lo) >> node.exponent,
            "exponent": node.exponent,
            "kernel_size": list(node.kernel_size),
            "stride": list(node.stride),
            "padding": list(node.padding),
            "dilation": list(node.dilation),
            "groups": node.groups,
        }

    def _product(self, node: Product) -> None:
        p, q = (self.program.shapes[edge.src] for edge in self.program.into[node.name])
        shapes = {"p_shape": list(p), "q_shape": list(q), "shape": list(self.program.shapes[node.name])}
        self._add(node.name, self.layout[node.name].kind, {**shapes, "shift": node.shift}, node.name)

    def _soma(self, node: Soma) -> None:
        choice, timing = self.layout[node.name], self.timing
        args: dict[str, Any] = {"shape": list(node.shape)}
        if choice.kind == "GradedVec":
            args["vth"] = 0
        elif choice.lif is not None:
            for field in ("du", "dv", "bias_mant", "bias_exp", "vth"):
                value = getattr(choice.lif, field)
                args[field] = value if isinstance(value, int) else self._array(f"{node.name}/{field}", value)
            args |= {"reset_interval": timing.sample_steps, "reset_offset": (timing.skew_in[node.name] + 1)}
        else:
            args |= {
                "params": self._params(node),
                "steps": timing.steps,
                "stretch": timing.stretch,
                "skew_in": timing.skew_in[node.name],
                "skew_out": timing.skew_out[node.name],
            }
        self._add(node.name, choice.kind, args, node.name)

    def _params(self, node: Soma) -> dict[str, Any]:
        """The soma's integers, ready to broadcast: `[rows, *shape or 1]`."""
        found: dict[str, Any] = {}
        for field in (*PER_STEP, *PER_CHANNEL):
            value = getattr(node, field)
            if value is not None:
                rows = np.stack([node.spread(row) for row in value])
                value = self._array(f"{node.name}/{field}", rows)
            found[field] = value
        for field in ("window", "table"):
            value = getattr(node, field)
            found[field] = None if value is None else self._array(f"{node.name}/{field}", value)
        for field in ("fire", "reset", "table_offset", "table_shift", "window_shift"):
            found[field] = getattr(node, field)
        found["ladder"] = bool(node.ladder)
        return found

    # wires

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
        """Sinks for payloads, potentials and saturation counts."""
        program = self.program
        readouts = {program.into[o.name][0].src for o in program.outputs if o.read == "potential"}
        counted = {program.into[o.name][0].src for o in program.outputs if o.read != "potential"}
        for soma in program.somas:
            own = self.layout[soma.name].kind == "soma"
            sends = soma.payload_type() != PayloadType(0, 0)
            if soma.name in counted or (record != "outputs" and sends):
                self._channel(soma, "payload", "s_out", np.dtype(soma.payload_type().dtype()).str)
            if own and (record == "all" or soma.name in readouts):
                self._channel(soma, "potential", "v_out", "<i4")
            if own and record != "outputs" and may_saturate(program, soma):
                self._channel(soma, "count", "sat_out", "<i8")
        for number in range(0, max(len(self.channels), 1), SINK_PORTS):
            part = self.channels[number : number + SINK_PORTS]
            name = f"sink>{number // SINK_PORTS}"
            for i, channel in enumerate(part):
                channel |= {"sink": name, "slot": i}
                self.wires.append([channel["node"], channel["port"], name, f"in_{i}", []])
            self._add(name, "sink", {"steps": self.timing.steps, "stretch": self.timing.stretch}, name)

    def _channel(self, soma: Soma, what: str, port: str, dtype: str) -> None:
        self.channels.append(
            {
                "node": soma.name,
                "what": what,
                "port": port,
                "label": soma.name,
                "shape": [1] if what == "count" else list(soma.shape),
                "skew": self.timing.skew_out[soma.name],
                "dtype": dtype,
            }
        )


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


def stock_weight(node: Synapse, in_shape: tuple[int, ...]) -> tuple[Any, int]:
    """Weights and exponent for Dense or Sparse: one sign as they are, mixed signs as 2W with exponent - 1.

    With mixed signs Lava drops the lowest weight bit; 2W keeps it there and the exponent takes the factor back.
    """
    weight = node.weight
    if node.kind == "identity":
        diagonal = np.broadcast_to(weight.reshape(weight.shape + (1,) * (len(in_shape) - weight.ndim)), in_shape)
        weight = sparse.csr_matrix(sparse.diags(diagonal.ravel(), dtype=np.int64))
        weight.eliminate_zeros()
    if sparse.issparse(weight):
        weight = sparse.csr_matrix((weight.data.astype(np.int32), weight.indices, weight.indptr), shape=weight.shape)
        lo, hi = int(weight.data.min()), int(weight.data.max())
    else:
        weight = weight.astype(np.int32)
        lo, hi = int(weight.min()), int(weight.max())
    if lo >= 0 or hi <= 0:
        return weight, node.exponent
    return weight * 2, node.exponent - 1


def may_saturate(program: Program, soma: Soma) -> bool:
    """Whether the potential could reach sat24 within a sample, by static bounds."""
    lo, hi = current_ranges(program)[soma.name]
    reach = max(-lo, hi)
    gain = int(abs(soma.gain).max())
    leak = int(abs(soma.leak).max())
    shift = int(soma.gain_shift.min())
    x = (reach * gain + ((1 << shift) >> 1)) >> shift
    if soma.syn_leak is not None:
        x = min(x * program.steps, 1 << 23) if int(soma.syn_leak.max()) else min(x, 1 << 23)
    if soma.reset == "subtract-delayed" and soma.theta is not None:
        x += int(abs(soma.theta).max()) * int(soma.levels.max())
    push = x + int(abs(soma.bias).max())
    v = int(abs(soma.v_init).max())
    extra = max((int(abs(p).max()) for p in (soma.v_min, soma.v_reset) if p is not None), default=0)
    for _ in range(min(program.steps, 4096)):
        v = max(v * max(leak, 0) // LEAK_ONE + push, extra)
        if v > V_MAX:
            return True
    return program.steps > 4096
