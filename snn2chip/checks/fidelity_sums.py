"""Sums behind fidelity, block by block: payloads that are the float ones and errors of potentials, at every step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import numpy as np
import torch

from snn2chip.api import run
from snn2chip.checks.fidelity_outputs import OutputSums, float_outputs, output_units, results
from snn2chip.checks.fidelity_result import Fidelity, LayerFidelity
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.nodes import Input, Node, Output
from snn2chip.ir.program import Edge, Program
from snn2chip.ir.raw import like, named
from snn2chip.ir.soma import Soma

Predict = Callable[[Any], Any]
NOISE = 1e-5
"""Rounding of a float32 network, relative to a layer's largest value."""
SUMS = 8


@attrs.define
class Sums:
    """Takes blocks of samples; `rows[soma]` are sums at every step, `[SUMS, T]`, `outputs` those of every output."""

    model: Predict | None = None
    outputs: list[OutputSums] = attrs.field(factory=list)
    rows: dict[str, Any] = attrs.field(factory=dict)

    def add(
        self, program: Program, graph: LayerGraph, pairs: Any, x: Any, labels: Mapping[str, Any], time_axis: bool
    ) -> None:
        """One block of samples, and the labels of its outputs."""
        floats = graph.run(float_inputs(graph, x), collect=True)
        ints = run(program, x, backend="torch", time_axis=time_axis)
        returned = floats.output.cpu().numpy() if self.model is None else self.model(x)
        units, wanted = output_units(program, graph), float_outputs(program, graph, returned)
        self.outputs = self.outputs or [OutputSums(name=out.name, read=out.read) for out in program.outputs]
        for part in self.outputs:
            part.add(wanted[part.name], ints.all_outputs[part.name], units[part.name], labels.get(part.name))
        truth = {node: _units(program, node, floats.values[layer]) for layer, node in pairs if layer in floats.values}
        truth.update({n.name: ints.inputs[n.name] for n in program.inputs})
        for layer, node in pairs:
            soma = program[node]
            if not isinstance(soma, Soma):
                continue
            after = floats.after.get(layer)
            after = _readout(graph, layer, floats) if after is None else after
            forced = _forced(program, soma, truth)
            value = floats.values.get(layer)
            self._row(program, soma, None if value is None else _array(value), _array(after), ints, forced)

    def _row(self, program: Program, soma: Soma, value: Any, after: Any, free: Any, forced: Any) -> None:
        mu = _spread(program.meta["units"]["potential"][soma.name], soma)
        size = _scale(soma, mu)
        unit = _spread(program.meta["units"]["payload"][soma.name], soma)
        free_sent, forced_sent = (run.payloads[soma.name] * unit for run in (free, forced))
        after = np.broadcast_to(after, free_sent.shape)
        value = None if value is None else np.broadcast_to(value, free_sent.shape)
        slack = NOISE * max(float(np.abs(value).max()), float(unit.max())) if value is not None else 0.0
        if soma.fire in ("relay", "table") and value is not None:
            after = value
            errors = free_sent - value, forced_sent - value
        else:
            want = after if soma.reset != "drop" else np.zeros_like(after)
            errors = tuple((run.potentials[soma.name] * mu - want) / size for run in (free, forced))
        whole = np.ones(free_sent.shape, bool)
        fires = free.payloads[soma.name] != 0
        steps = len(free_sent)
        counted = (
            whole,
            fires,
            whole if value is None else np.abs(free_sent - value) <= slack,
            whole if value is None else np.abs(forced_sent - value) <= slack,
            whole if value is None else fires == (np.abs(value) > slack),
            np.square(errors[0]),
            np.square(errors[1]),
            np.square(after),
        )
        found = np.stack([part.reshape(steps, -1).sum(1, dtype=np.float64) for part in counted])
        self.rows[soma.name] = self.rows.get(soma.name, np.zeros((SUMS, steps))) + found

    def join(self, other: Sums) -> None:
        """Add the sums of the samples that come next."""
        self.outputs = self.outputs or [OutputSums(name=part.name, read=part.read) for part in other.outputs]
        for mine, more in zip(self.outputs, other.outputs, strict=True):
            mine.join(more)
        for name, found in other.rows.items():
            self.rows[name] = self.rows.get(name, np.zeros_like(found)) + found

    def state(self) -> dict[str, Any]:
        """The sums as plain values and arrays."""
        return {"outputs": [attrs.asdict(part) for part in self.outputs], "rows": dict(self.rows)}

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> Sums:
        """The sums that `state` gave."""
        return cls(outputs=[OutputSums(**part) for part in state["outputs"]], rows=dict(state["rows"]))

    def result(self, program: Program, pairs: Any) -> Fidelity:
        """The averages."""
        somas = [soma for _, node in pairs if isinstance(soma := program[node], Soma)]
        first, *_ = outputs = results(self.outputs)
        return Fidelity(
            samples=self.outputs[0].samples,
            float_accuracy=first.float_accuracy,
            integer_accuracy=first.integer_accuracy,
            differing=self.outputs[0].differing,
            outputs=outputs,
            layers=tuple(self._averages(soma, program.meta.get("trained", {}).get(soma.name)) for soma in somas),
        )

    def _averages(self, soma: Soma, trained: str | None) -> LayerFidelity:
        by_step = self.rows[soma.name]
        n, spikes, free, forced, alike, free_v, forced_v, power = by_step.sum(1)
        norm = power / n if soma.fire in ("none", "relay", "table") and power > 0 else 1.0
        sends = soma.fire != "none"
        each = by_step[0]
        return LayerFidelity(
            soma=soma.name,
            layer=soma.layer,
            neurons=soma.size,
            rate=spikes / n if sends else None,
            free_equal=free / n if sends else None,
            forced_equal=forced / n if sends else None,
            free_potential=float(np.sqrt(free_v / n / norm)),
            forced_potential=float(np.sqrt(forced_v / n / norm)),
            free_spikes=alike / n if sends else None,
            equal_by_step=tuple((by_step[2] / each).tolist()) if sends else None,
            spikes_by_step=tuple((by_step[4] / each).tolist()) if sends else None,
            potential_by_step=tuple(np.sqrt(by_step[5] / each / norm).tolist()),
            trained=trained,
        )


def float_inputs(graph: LayerGraph, x: Any) -> Any:
    """Raw samples as the float network takes them: event frames first, of several inputs by name."""
    frames = {layer.name for layer in graph.input_layers if layer.frames is not None}  # a program takes [N, F, ...]
    first = graph.input.name
    arrays = {name: np.asarray(a, dtype=np.float32) for name, a in named(x).items()}
    moved = {n: np.moveaxis(a, 1, 0) if (n or first) in frames else a for n, a in arrays.items()}
    return like(x, {name: torch.as_tensor(np.ascontiguousarray(a)) for name, a in moved.items()})


def _array(value: Any) -> Any:
    return value.double().cpu().numpy()


def _spread(values: Any, soma: Soma) -> Any:
    """A scalar or per-channel list, ready to broadcast against `[T, B, *shape]`."""
    v = np.asarray(values, dtype=np.float64)
    return v.reshape(v.shape + (1,) * (len(soma.shape) - 1)) if v.size > 1 else v.reshape(())


def _scale(soma: Soma, mu: Any) -> Any:
    if soma.fire != "levels" or soma.theta is None:
        return 1.0
    return soma.at("theta", 0) * mu


def _units(program: Program, node: str, value: Any) -> Any:
    """Float payload values as whole payload units: what another soma can be fed."""
    unit = np.asarray(program.meta["units"]["payload"][node], dtype=np.float64)
    axes = len(program.shapes[node])
    spread = unit.reshape(unit.shape + (1,) * (axes - 1)) if unit.size > 1 else unit.reshape(())
    return np.rint(_array(value) / spread).astype(np.int64)


def _readout(graph: LayerGraph, layer: str, floats: Any) -> Any:
    """Running sum (or the step itself) of the current of an output, `output` or `output.HEAD`."""
    output = graph.output
    index = output.heads.index(layer.removeprefix(f"{output.name}.")) if output.heads else 0
    value = floats.values[graph.inputs[output.name][index]]
    last = output.how(index) == "last"
    if output.over is not None:  # what is kept behind the steps that are read
        rest = value[output.over - 1 : output.over] if last else torch.zeros_like(value[:1])
        value = torch.cat([value[: output.over], rest.expand(len(value) - output.over, *rest.shape[1:])])
    return value if last else value.cumsum(0)


def _forced(program: Program, soma: Soma, truth: Mapping[str, Any]) -> Any:
    """Run one soma alone, fed the given payloads of its sources; relays without a float layer run along."""
    readout = Output("o", "potential" if soma.fire == "none" else "payload")
    nodes: dict[str, Node] = {readout.name: readout}
    edges: list[Edge] = [Edge(soma.name, readout.name)]
    feeds: dict[str, Any] = {}
    todo = [soma.name]
    while todo:
        name = todo.pop()
        if name in nodes:
            continue
        node = program[name]
        if name in truth and name != soma.name:
            feeds[name] = truth[name]
            lo, hi = int(min(feeds[name].min(), 0)), int(max(feeds[name].max(), 1))
            node = Input(name, program.shapes[name], lo, hi, coding="steps")
        else:
            edges += program.into[name]
            todo += [edge.src for edge in program.into[name]]
        nodes[name] = node
    alone = Program(nodes=nodes.values(), edges=edges, steps=program.steps)
    return run(alone, feeds, backend="torch", time_axis=True)
