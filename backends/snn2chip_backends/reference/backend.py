"""Run a program step by step in logical time, on NumPy int64. Every other backend must equal this one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from snn2chip.ir.dynamics import SomaState, mix_window, rshift, soma_start, soma_step
from snn2chip.ir.geometry import channel_weight
from snn2chip.ir.host import conv2d_int
from snn2chip.ir.nodes import Product, Synapse
from snn2chip.ir.order import components
from snn2chip.ir.program import Edge, Program
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import IntArray
from snn2chip.outputs import read_outputs
from snn2chip.reports.counts import count
from snn2chip.trace import Trace


def synapse_current(synapse: Synapse, payload: IntArray) -> IntArray:
    """Current `(W p) * 2^exponent` of payloads `[B, *shape]`."""
    s = synapse
    if s.kind == "identity":
        a = payload * channel_weight(s, payload.shape[1:])
    elif s.kind == "linear":
        a = (s.weight @ payload.reshape(len(payload), -1).T).T
        a = a if s.shape is None else a.reshape(len(payload), *s.shape)
    elif s.kind == "conv2d":
        a = conv2d_int(payload, s.weight, s.stride, s.padding, s.dilation, s.groups)
    else:
        channels = payload.shape[1]
        ones = np.ones((channels, 1, *s.kernel_size), dtype=np.int64)
        a = conv2d_int(payload, ones, s.stride, s.padding, (1, 1), channels)
        a = a * channel_weight(s, a.shape[1:])
    out: IntArray = np.asarray(a, dtype=np.int64) << s.exponent
    return out


def product_current(product: Product, p: IntArray, q: IntArray) -> IntArray:
    """Current `rshift(p * q, shift)`; the smaller payload is per channel and broadcast over space."""
    if p[0].size < q[0].size:
        p, q = q, p
    return rshift(p * q.reshape(q.shape[:2] + (1,) * (p.ndim - 2)) if q.shape != p.shape else p * q, product.shift)


class ReferenceBackend:
    """NumPy int64 in logical time: the definition of what a program means."""

    name = "reference"

    def missing(self) -> str | None:
        """Always available."""
        return None

    def limits(self, program: Program) -> list[str]:
        """Nothing that a valid program can say is out of reach."""
        return []

    def kernel(self, program: Program) -> ReferenceKernel:
        """Step-by-step access for sessions."""
        return ReferenceKernel()

    def block(self, program: Program) -> int:
        """Samples per block that keep memory small."""
        size = sum(int(np.prod(program.shapes[n.name])) for n in program.nodes)
        return max(1, 4_000_000 // (size * program.steps))

    def run(self, program: Program, inputs: Mapping[str, IntArray], *, record: str = "all") -> Trace:
        """Run one block of samples; see `snn2chip.registry.Backend`."""
        run = _Run(program, inputs)
        for names, feedback in components(program):
            for t in range(program.steps):
                for name in names:
                    run.step(name, t)
            assert feedback or len(names) == 1
        outputs = read_outputs(program, run.payloads, run.potentials)
        counts = count(program, run.reduce, samples=run.batch, saturations=run.saturations())
        keep = record == "all"
        first = outputs[program.outputs[0].name] if program.outputs else np.zeros((run.batch, 0), np.int64)
        return Trace(
            backend=self.name,
            steps=program.steps,
            samples=run.batch,
            outputs=first,
            all_outputs=outputs,
            payloads={s.name: run.payloads[s.name].astype(np.int32) for s in program.somas} if keep else {},
            potentials={k: v.astype(np.int32) for k, v in run.potentials.items()} if keep else {},
            inputs={n.name: run.payloads[n.name].astype(np.int32) for n in program.inputs} if keep else {},
            counts=counts,
        )


class _Run:
    """Payloads, currents and states of one block, by node name."""

    def __init__(self, program: Program, inputs: Mapping[str, IntArray]) -> None:
        self.program = program
        self.batch = next(iter(inputs.values())).shape[1]
        full = {n.name: (program.steps, self.batch, *program.shapes[n.name]) for n in program.nodes}
        self.payloads: dict[str, IntArray] = {k: np.asarray(v, dtype=np.int64) for k, v in inputs.items()}
        self.payloads.update({s.name: np.zeros(full[s.name], np.int64) for s in program.somas})
        self.potentials: dict[str, IntArray] = {s.name: np.zeros(full[s.name], np.int64) for s in program.somas}
        self.currents: dict[str, IntArray] = {
            n.name: np.zeros(full[n.name], np.int64) for n in program.nodes if isinstance(n, (Synapse, Product))
        }
        self.states: dict[str, SomaState] = {s.name: soma_start(s, self.batch) for s in program.somas}
        self.mixed: dict[str, IntArray] = {}

    def arriving(self, edge: Edge, t: int) -> IntArray:
        """Payload that edge delivers at logical step t: nothing before its delay has passed."""
        source = self.payloads[edge.src]
        return source[t - edge.delay] if t >= edge.delay else np.zeros_like(source[0])

    def step(self, name: str, t: int) -> None:
        """Evaluate one node at one logical step."""
        node = self.program[name]
        edges = self.program.into[name]
        if isinstance(node, Synapse):
            self.currents[name][t] = synapse_current(node, self.arriving(edges[0], t))
        elif isinstance(node, Product):
            p, q = (self.arriving(edge, t) for edge in edges)
            self.currents[name][t] = product_current(node, p, q)
        elif isinstance(node, Soma):
            if node.window is not None and t == 0:
                self.mixed[name] = mix_window(node, sum(self.currents[e.src] for e in edges))  # type: ignore[arg-type]
            a = self.mixed[name][t] if node.window is not None else sum(self.currents[e.src][t] for e in edges)
            self.payloads[name][t] = soma_step(node, self.states[name], a, t)
            self.potentials[name][t] = self.states[name].v

    def saturations(self) -> dict[str, int]:
        """How often sat24 changed a potential, per soma."""
        return {name: state.saturated for name, state in self.states.items()}

    def reduce(self, name: str, steps: int) -> tuple[IntArray, IntArray]:
        """Per neuron: payloads other than 0 and sum of magnitudes over the first `steps` steps."""
        payload = self.payloads[name][:steps]
        return (payload != 0).sum((0, 1)), np.abs(payload).sum((0, 1))


class ReferenceKernel:
    """The same arithmetic step by step, for streaming sessions."""

    def array(self, payload: IntArray) -> IntArray:
        """Payloads as this backend keeps them."""
        return np.asarray(payload, dtype=np.int64)

    numpy = array

    def current(self, node: Synapse | Product, payloads: list[IntArray]) -> IntArray:
        """Current of one synapse or product."""
        if isinstance(node, Synapse):
            return synapse_current(node, payloads[0])
        return product_current(node, payloads[0], payloads[1])

    def mix(self, soma: Soma, currents: list[IntArray]) -> list[IntArray]:
        """Mixed currents of a whole sample."""
        return list(mix_window(soma, np.stack(currents)))

    def start(self, soma: Soma, batch: int) -> SomaState:
        """State at the start of a sample."""
        return soma_start(soma, batch)

    def fire(self, soma: Soma, state: SomaState, current: IntArray, t: int) -> IntArray:
        """Advance one step and return the payload."""
        return soma_step(soma, state, current, t)

    def potential(self, state: SomaState) -> IntArray:
        """Potential after the last step."""
        return state.v
