"""Float fidelity: the integer program against the trained float network, measured on data.

Two runs per layer tell its own error from an inherited one: `free` (each integer layer is fed by the integer
layers before it) and `forced` (teacher forcing: each integer layer is fed the float network's own payloads, rounded
to the unit in which they are sent). Truth is the float value itself, never rounded to the unit of what is measured:
a relay in a coarse unit shows its error. Predictions are those of the user's model where it is given.
Nothing here is a statement about backends; those are compared with `==` in `compare`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import numpy as np
import torch
from torch import nn

from snn2chip.api import by_step, run
from snn2chip.checks.float_side import module_side
from snn2chip.errors import InputError
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.nodes import Input, Node, Output
from snn2chip.ir.program import Edge, Program
from snn2chip.ir.soma import Soma
from snn2chip.quantize.choices import as_compiled
from snn2chip.quantize.payload_steps import with_payloads

Predict = Callable[[Any], Any]
NOISE = 1e-5
"""Rounding of a float32 network, relative to a layer's largest value."""


@attrs.frozen(kw_only=True)
class LayerFidelity:
    """One soma against its float neuron.

    `rate`: share of payloads that fire; `*_equal`: share of payloads whose value is the float one (up to float32's own
    rounding); both None for a read-out, which sends none. `*_potential`:
    root-mean-square difference of the potentials after reset, in thresholds (read-outs: relative to the potential's
    own rms; relays and tables: of the sent values, relative to their rms).
    """

    soma: str
    layer: str
    rate: float | None
    free_equal: float | None
    forced_equal: float | None
    free_potential: float
    forced_potential: float


@attrs.frozen(kw_only=True)
class Fidelity:
    """Integer program against float network on `samples` samples; accuracies are None without labels."""

    samples: int
    float_accuracy: float | None
    integer_accuracy: float | None
    differing: int
    layers: tuple[LayerFidelity, ...]

    @property
    def agreement(self) -> float:
        """Share of samples with the same predicted class."""
        return 1.0 - self.differing / self.samples

    def as_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {**attrs.asdict(self), "agreement": self.agreement}


def fidelity(
    program: Program,
    graph: LayerGraph | nn.Module,
    inputs: Any,
    *,
    labels: Any = None,
    time_axis: bool = False,
    block: int = 64,
    model: Predict | None = None,
    same_payloads: bool = False,
) -> Fidelity:
    """Compare `program` with the float network it was lowered from on raw samples `[N, ...]` (`[T, N, ...]` by step).

    `graph` is that network: the module that was compiled, or its float graph. `model` gives the real model's logits
    `[n, classes]` of raw samples (`[T, n, ...]` with `time_axis`): accuracy and agreement are then its own, and the
    graph serves the layers only; a module is its own `model`. `same_payloads`: real payloads of the float network are
    rounded to the program's codes, and answers are that network's own. Raises InputError if the program was not
    lowered from this graph or the labels do not fit.
    """
    if isinstance(inputs, Mapping):
        (inputs,) = inputs.values()
    x = np.asarray(inputs.detach().cpu().numpy() if hasattr(inputs, "detach") else inputs)
    time_axis = by_step(program, x, time_axis=time_axis)
    if not isinstance(graph, LayerGraph):
        graph, own = module_side(program, graph, x, time_axis=time_axis)
        model = own if model is None else model
    graph = as_compiled(program, graph)
    if same_payloads:
        graph, model = with_payloads(program, graph), None
    if graph.output.heads:
        raise InputError(f"the model returns several tensors ({', '.join(graph.output.heads)}); fidelity reads one")
    names: Mapping[str, str] = program.meta.get("layers", {})
    pairs = [(name, names[name]) for name in names if name in graph.shapes and names[name] in program.by_name]
    if not any(isinstance(program[node], Soma) for _, node in pairs):
        raise InputError("this program was not lowered from this float graph; compile it again to measure fidelity")
    other = [f"{n}: {graph.shapes[n]}, in the program {program.shapes[node]}" for n, node in pairs
             if graph.shapes[n] != program.shapes[node]]  # fmt: skip
    if other or graph.steps != program.steps:
        where = "; ".join(other) or f"it runs {graph.steps} steps, the program {program.steps}"
        raise InputError(f"the float model is another network than the one that was compiled: {where}")
    axis = 1 if time_axis else 0
    y = None if labels is None else np.asarray(labels)
    if y is not None and len(y) != x.shape[axis]:
        raise InputError(f"{len(y)} labels for {x.shape[axis]} samples")
    sums = _Sums(model=model)
    for start in range(0, x.shape[axis], block):
        part = x[:, start : start + block] if time_axis else x[start : start + block]
        sums.add(program, graph, pairs, part, None if y is None else y[start : start + block], time_axis)
    return sums.result(program, pairs, labelled=y is not None)


@attrs.define
class _Sums:
    model: Predict | None = None
    samples: int = 0
    float_hits: int = 0
    integer_hits: int = 0
    differing: int = 0
    rows: dict[str, Any] = attrs.field(factory=dict)

    def add(self, program: Program, graph: LayerGraph, pairs: Any, x: Any, y: Any, time_axis: bool) -> None:
        """One block of samples."""
        frames_first = np.moveaxis(x, 1, 0) if graph.input.frames is not None else x  # a program takes [N, F, ...]
        floats = graph.run(torch.as_tensor(np.asarray(frames_first, dtype=np.float32)), collect=True)
        ints = run(program, x, backend="torch", time_axis=time_axis)
        logits = floats.output.flatten(1).cpu().numpy() if self.model is None else np.asarray(self.model(x))
        want = logits.reshape(len(logits), -1).argmax(1)
        if want.shape != np.shape(ints.pred):
            raise InputError(
                f"the float model gives {list(logits.shape)} for {len(ints.pred)} samples, expected logits"
            )
        self.samples += len(want)
        self.differing += int((want != ints.pred).sum())
        if y is not None:
            self.float_hits += int((want == y).sum())
            self.integer_hits += int((ints.pred == y).sum())
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
        row = self.rows.setdefault(soma.name, np.zeros(7))
        unit = _spread(program.meta["units"]["payload"][soma.name], soma)
        free_sent, forced_sent = (run.payloads[soma.name] * unit for run in (free, forced))
        slack = NOISE * max(float(np.abs(value).max()), float(unit.max())) if value is not None else 0.0
        if soma.fire in ("relay", "table") and value is not None:
            after = value
            errors = free_sent - value, forced_sent - value
        else:
            want = after if soma.reset != "drop" else np.zeros_like(after)
            errors = tuple((run.potentials[soma.name] * mu - want) / size for run in (free, forced))
        row += [
            after.size,
            float((free.payloads[soma.name] != 0).sum()),
            after.size if value is None else float((np.abs(free_sent - value) <= slack).sum()),
            after.size if value is None else float((np.abs(forced_sent - value) <= slack).sum()),
            float(np.square(errors[0]).sum()),
            float(np.square(errors[1]).sum()),
            float(np.square(after).sum()),
        ]

    def result(self, program: Program, pairs: Any, *, labelled: bool) -> Fidelity:
        """The averages."""
        layers = []
        for _, node in pairs:
            soma = program[node]
            if not isinstance(soma, Soma):
                continue
            n, spikes, free, forced, free_v, forced_v, power = self.rows[node]
            norm = power / n if soma.fire in ("none", "relay", "table") and power > 0 else 1.0
            layers.append(
                LayerFidelity(
                    soma=node,
                    layer=soma.layer,
                    rate=None if soma.fire == "none" else spikes / n,
                    free_equal=None if soma.fire == "none" else free / n,
                    forced_equal=None if soma.fire == "none" else forced / n,
                    free_potential=float(np.sqrt(free_v / n / norm)),
                    forced_potential=float(np.sqrt(forced_v / n / norm)),
                )
            )
        return Fidelity(
            samples=self.samples,
            float_accuracy=self.float_hits / self.samples if labelled else None,
            integer_accuracy=self.integer_hits / self.samples if labelled else None,
            differing=self.differing,
            layers=tuple(layers),
        )


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
    """Running sum (or the step itself) of the output's current."""
    value = floats.values[graph.inputs[layer][0]]
    return value if graph.output.reduce == "last" else value.cumsum(0)


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
