"""Run a program neuron by neuron with `Rules`: slow, obvious, and independent of the reference backend.

Besides payloads and potentials it counts what happened on the way (`events`): exact ties, saturations, wraps,
floors and clips, which is how the test programs are shown to be worth running.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import product as cross
from typing import Any

import numpy as np

from snn2chip.ir.nodes import Product, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import IntArray
from snn2chip.testing.rules import Index, Neuron, Rules
from snn2chip.trace import Trace

Values = dict[Index, int]
"""Payloads or currents of one node at one step, by neuron."""


class Witness:
    """A backend made of `Rules`; give it a subclass with a mistake and it is a faulty backend."""

    def __init__(self, rules: Rules | None = None, *, name: str = "witness") -> None:
        self.rules, self.name = rules or Rules(), name
        self.events: dict[str, Counter[str]] = {}

    def missing(self) -> str | None:
        """Always available."""
        return None

    def limits(self, program: Program) -> list[str]:
        """No limits."""
        return []

    def block(self, program: Program) -> int:
        """Any number of samples."""
        return 64

    def run(self, program: Program, inputs: Mapping[str, IntArray], *, record: str = "all") -> Trace:
        """Run one block of samples; see `snn2chip.registry.Backend`."""
        walk = Walk(program, inputs, self.rules)
        for sample in range(walk.batch):
            for t in range(program.steps):
                for soma in program.somas:
                    walk.payload(soma.name, sample, t)
        self.events = walk.events
        payloads = {s.name: walk.array(walk.payloads, s) for s in program.somas}
        potentials = {s.name: walk.array(walk.potentials, s) for s in program.somas}
        return witness_trace(program, self.name, payloads, potentials, record)


class Walk:
    """Payloads and states of one block of samples, computed on demand."""

    def __init__(self, program: Program, inputs: Mapping[str, IntArray], rules: Rules) -> None:
        self.program, self.rules = program, rules
        self.batch = next(iter(inputs.values())).shape[1]
        self.coded = {k: np.asarray(v) for k, v in inputs.items()}
        self.payloads: dict[tuple[str, int, int], Values] = {}
        self.potentials: dict[tuple[str, int, int], Values] = {}
        self.events: dict[str, Counter[str]] = {s.name: Counter() for s in program.somas}
        self._states: dict[str, dict[Index, Neuron]] = {}
        self._currents: dict[tuple[str, int, int], Values] = {}
        self._parameters: dict[tuple[str, int, Index], dict[str, Any]] = {}
        self._wiring: dict[str, list[tuple[Index, list[tuple[Index, int]]]]] = {}

    def array(self, values: Mapping[tuple[str, int, int], Values], soma: Soma) -> IntArray:
        """`[T, B, *shape]` of one soma."""
        out = np.zeros((self.program.steps, self.batch, *soma.shape), dtype=np.int64)
        for t, n in cross(range(self.program.steps), range(self.batch)):
            for index, value in values[soma.name, n, t].items():
                out[t, n][index] = value
        return out

    def payload(self, name: str, sample: int, t: int) -> Values:
        """Payloads of one source at one step of one sample."""
        key = (name, sample, t)
        if key not in self.payloads:
            node = self.program[name]
            if isinstance(node, Soma):
                if t > 0:
                    self.payload(name, sample, t - 1)
                self._step(node, sample, t)
            else:
                frame = self.coded[name][t, sample]
                self.payloads[key] = {index: int(frame[index]) for index in np.ndindex(*frame.shape)}
        return self.payloads[key]

    def _arriving(self, source: str, delay: int, sample: int, t: int) -> Values | None:
        at = self.rules.arrives(sample, t, delay, self.program.steps)
        return None if at is None else self.payload(source, *at)

    def current(self, name: str, sample: int, t: int) -> Values:
        """Currents of one synapse or product at one step."""
        key = (name, sample, t)
        if key not in self._currents:
            edges = self.program.into[name]
            arriving = [self._arriving(e.src, e.delay, sample, t) for e in edges]
            node = self.program[name]
            made = self.synapse if isinstance(node, Synapse) else self.product
            self._currents[key] = made(node, arriving)  # type: ignore[arg-type]
        return self._currents[key]

    def synapse(self, node: Synapse, arriving: list[Values | None]) -> Values:
        rules, payload = self.rules, arriving[0]
        if node.name not in self._wiring:
            source = self.program.shapes[self.program.into[node.name][0].src]
            self._wiring[node.name] = list(rules.connections(node, source, self.program.shapes[node.name]))
        if payload is None:
            return {out: 0 for out, _ in self._wiring[node.name]}
        return {
            out: rules.shifted(sum(w * payload[at] for at, w in reads), node.exponent)
            for out, reads in self._wiring[node.name]
        }

    def product(self, node: Product, arriving: list[Values | None]) -> Values:
        rules, shape = self.rules, self.program.shapes[node.name]
        shapes = [self.program.shapes[e.src] for e in self.program.into[node.name]]
        found = {}
        for index in np.ndindex(*shape):
            p, q = (
                0 if values is None else values[rules.gate_index(index, shape, own)]
                for values, own in zip(arriving, shapes, strict=True)
            )
            found[index] = rules.multiplied(p, q, node.shift)
        return found

    def _summed(self, soma: Soma, index: Index, sample: int, t: int) -> int:
        return sum(self.current(e.src, sample, t)[index] for e in self.program.into[soma.name])

    def _step(self, soma: Soma, sample: int, t: int) -> None:
        rules, key = self.rules, (soma.name, sample, t)
        payloads: Values = {}
        potentials: Values = {}
        states = self._states.setdefault(soma.name, {})
        window = None if soma.window is None else soma.window.tolist()
        for index in np.ndindex(*soma.shape):
            if window is None:
                a = self._summed(soma, index, sample, t)
            else:
                whole = [self._summed(soma, index, sample, j) for j in range(self.program.steps)]
                a = rules.mixed(window, soma.window_shift, whole, t)
            place = (soma.name, t, index)
            if place not in self._parameters:
                self._parameters[place] = rules.parameters(soma, t, index)
            p = self._parameters[place]
            if t == 0:
                states[index] = rules.start(states.get(index), p["v_init"])
            payloads[index] = step_neuron(rules, soma, states[index], a, p, t, self.events[soma.name])
            potentials[index] = states[index].v
        self.payloads[key] = payloads
        self.potentials[key] = potentials


def step_neuron(
    rules: Rules, soma: Soma, neuron: Neuron, a: int, p: dict[str, Any], t: int, events: Counter[str]
) -> int:
    """One logical step of one neuron; the order of the rules is the contract."""
    x = rules.scaled(a, p, t)
    if soma.syn_leak is not None:
        events["wrap"] += not -(2**23) <= rules.toward_zero(neuron.u, p["syn_leak"]) + x < 2**23
        x = neuron.u = rules.synaptic(neuron.u, x, p)
    total = rules.membrane(neuron.v, x, p, t)
    late = soma.reset == "subtract-delayed" and soma.fire != "none"
    if late:
        total -= rules.delayed(neuron, p)
    v = rules.saturate(total)
    if soma.fire == "delta":
        s = delta_neuron(rules, soma, neuron, v, p, events)
    else:
        s = rules.spikes(soma, v, p)
    after = rules.reset(soma, v, s, p)
    if late:
        neuron.s_prev = s
    neuron.v = after if soma.v_min is None else rules.floored(after, p["v_min"])
    payload = rules.payload(s, p)
    events["saturation"] += v != total
    events["floor"] += neuron.v != after
    events["tie"] += _tied(soma, v, p)
    events["clip"] += payload != rules.half_up(s * p["out_gain"], p["out_shift"])
    events["spike"] += payload != 0
    return payload


def delta_neuron(rules: Rules, soma: Soma, neuron: Neuron, v: int, p: dict[str, Any], events: Counter[str]) -> int:
    """The change that one neuron sends, 0 for none; the floor of the potential acts before the comparison."""
    act = v if soma.v_min is None else rules.activation(v, p["v_min"])
    d = rules.change(act, neuron.s_prev)
    events["tie"] += abs(d) == p["theta"]
    if not rules.changed(d, p["theta"]):
        return 0
    s = rules.sent_change(d, soma.delta_shift)
    neuron.s_prev = rules.remembered(neuron, act, s, soma.delta_shift)
    return s


def _tied(soma: Soma, v: int, p: dict[str, Any]) -> bool:
    """Whether the potential meets a threshold exactly."""
    if soma.fire == "levels":
        bars = p["rungs"] if soma.ladder else [k * p["theta"] for k in range(1, p["levels"] + 1)]
        return v in bars
    return soma.fire == "excess" and v == p["theta"]


def witness_trace(
    program: Program, name: str, payloads: dict[str, IntArray], potentials: dict[str, IntArray], record: str
) -> Trace:
    """A Trace with its outputs read from payloads and potentials `[T, B, ...]`."""
    outputs: dict[str, IntArray] = {}
    for output in program.outputs:
        source = program.into[output.name][0].src
        if output.read == "potential":
            value = potentials[source][-1]
        elif output.read == "count":
            value = np.array([[[int(x != 0) for x in step.ravel()] for step in s] for s in payloads[source]]).sum(0)
        else:
            value = sum(payloads[source], start=np.zeros_like(payloads[source][0]))
        outputs[output.name] = np.asarray(value, dtype=np.int64).reshape(len(value), -1)
    samples = next(iter(payloads.values())).shape[1]
    keep = record == "all"
    return Trace(
        backend=name,
        steps=program.steps,
        samples=samples,
        outputs=next(iter(outputs.values())) if outputs else np.zeros((samples, 0), np.int64),
        all_outputs=outputs,
        payloads={k: v.astype(np.int32) for k, v in payloads.items()} if keep else {},
        potentials={k: v.astype(np.int32) for k, v in potentials.items()} if keep else {},
    )
