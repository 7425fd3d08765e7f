"""Run a program in machine time, by its schedule: what a chip with one barrier per step would do.

A payload sent in machine step m arrives in m + 1, later by the buffer of its link. A soma is active only at its own
machine steps; it discards messages of another sample. Samples follow each other without a gap. If the schedule is
right, the payloads are those of logical time.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from snn2chip.ir.nodes import Synapse
from snn2chip.ir.program import Edge, Program
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import IntArray
from snn2chip.schedule import Schedule, schedule
from snn2chip.testing.rules import Index, Neuron, Rules
from snn2chip.testing.witness import Values, Walk, step_neuron, witness_trace
from snn2chip.trace import Trace

Moment = tuple[int, int]
"""(sample, logical step)"""


class Machine:
    """A backend in machine time; the samples of a batch run one after the other. Overriding a method is a fault."""

    name = "machine"

    def missing(self) -> str | None:
        """Always available."""
        return None

    def limits(self, program: Program) -> list[str]:
        """No limits."""
        return []

    def block(self, program: Program) -> int:
        """Any number of samples."""
        return 64

    def plan(self, program: Program) -> Schedule:
        """The schedule to run by."""
        return schedule(program)

    def run(self, program: Program, inputs: Mapping[str, IntArray], *, record: str = "all") -> Trace:
        """Run one block of samples; see `snn2chip.registry.Backend`."""
        self.program, self.times = program, self.plan(program)
        self.walk = Walk(program, inputs, Rules())
        self.sent: dict[str, dict[int, tuple[int, Values]]] = {n: {} for n in self.times.skew_in}
        self.banks: dict[tuple[str, int], list[Values]] = {}
        self.states: dict[tuple[str, Index], Neuron] = {}
        for m in range(self.times.machine_steps(self.walk.batch)):
            for node in (*program.inputs, *program.somas):
                self.act(node.name, m)
        walk = self.walk
        payloads = {s.name: walk.array(walk.payloads, s) for s in program.somas}
        potentials = {s.name: walk.array(walk.potentials, s) for s in program.somas}
        return witness_trace(program, self.name, payloads, potentials, record)

    def moment(self, skew: int, m: int) -> Moment | None:
        """The sample and logical step that machine step `m` is for a node with `skew`; None: inactive."""
        step, rest = divmod(m - skew, self.times.stretch)
        if rest or not 0 <= step < self.walk.batch * self.program.steps:
            return None
        return divmod(step, self.program.steps)

    def act(self, name: str, m: int) -> None:
        """One machine step of one node."""
        node = self.program[name]
        if not isinstance(node, Soma):
            at = self.moment(self.times.skew_out[name], m)
            if at is not None:
                self.sent[name][m] = (at[0], self.walk.payload(name, *at))
            return
        taking = self.moment(self.times.skew_in[name], m)
        if node.window is not None:
            if taking is not None:
                self.banks.setdefault((name, taking[0]), []).append(self.currents(node, taking, m))
            giving = self.moment(self.times.skew_out[name], m)
            if giving is not None:
                self.fire(node, giving, m, self.mixed(node, giving))
        elif taking is not None:
            self.fire(node, taking, m, self.currents(node, taking, m))

    def reads_at(self, edge: Edge, dst: str, m: int) -> int:
        """Machine step at which what arrives at `m` was sent."""
        return m - 1 - self.times.wait(edge, dst)

    def keeps(self, message_sample: int, sample: int) -> bool:
        """Whether a message that arrives during `sample` counts: those of other samples are discarded."""
        return message_sample == sample

    def _arriving(self, edge: Edge, dst: str, at: Moment, m: int) -> Values | None:
        message = self.sent[edge.src].get(self.reads_at(edge, dst, m))
        return message[1] if message is not None and self.keeps(message[0], at[0]) else None

    def currents(self, soma: Soma, at: Moment, m: int) -> Values:
        """Summed currents into one soma at machine step `m`."""
        total = dict.fromkeys(np.ndindex(*soma.shape), 0)
        for into in self.program.into[soma.name]:
            node = self.program[into.src]
            arriving = [self._arriving(edge, soma.name, at, m) for edge in self.program.into[into.src]]
            made = self.walk.synapse if isinstance(node, Synapse) else self.walk.product
            for index, a in made(node, arriving).items():  # type: ignore[arg-type]
                total[index] += a
        return total

    def mixed(self, soma: Soma, at: Moment) -> Values:
        """Mixed currents from the bank of the whole sample."""
        bank, window = self.banks[soma.name, at[0]], soma.window.tolist()  # type: ignore[union-attr]
        rules = self.walk.rules
        return {i: rules.mixed(window, soma.window_shift, [a[i] for a in bank], at[1]) for i in bank[0]}

    def starts(self, at: Moment) -> bool:
        """Whether the state is re-initialised before this step."""
        return at[1] == 0

    def fire(self, soma: Soma, at: Moment, m: int, currents: Values) -> None:
        """One logical step of a soma, sent at machine step `m`."""
        rules, (sample, t) = self.walk.rules, at
        payloads: Values = {}
        potentials: Values = {}
        for index, a in currents.items():
            p = rules.parameters(soma, t, index)
            key = (soma.name, index)
            if self.starts(at) or key not in self.states:
                self.states[key] = rules.start(self.states.get(key), p["v_init"])
            payloads[index] = step_neuron(rules, soma, self.states[key], a, p, t, self.walk.events[soma.name])
            potentials[index] = self.states[key].v
        self.walk.payloads[soma.name, sample, t] = payloads
        self.walk.potentials[soma.name, sample, t] = potentials
        self.sent[soma.name][m] = (sample, payloads)
