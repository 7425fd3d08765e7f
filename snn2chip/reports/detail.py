"""Detailed counts of a run, in memory that does not grow with the number of samples.

What adds up over samples is kept per neuron and step (payloads other than 0, their magnitudes, their set bits);
events, rates, channels and sparsities follow. Histograms, first spikes and active updates are counted per block.

    synaptic_events    sum over spikes of the stored synapses they reach
    payload_events     the same times |payload|;   bit_events: times the set bits of |payload|
    active updates     neurons that received input in the step, or spiked in it; all: every neuron at every step
    first spikes       per neuron and sample the first step with a payload other than 0, or never
    delay words        integers that wait on the way: buffers of the schedule times the size of their source
    window words       two banks of T accumulators per neuron that gathers its sample
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import numpy as np

from snn2chip.ir.nodes import Host, Input, Product, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import IntArray
from snn2chip.reports.counts import fan_outs, nonzero_fan_outs
from snn2chip.reports.reach import Flags, arrived, product_reached, reached
from snn2chip.reports.tallies import bin_edges, delayed, first_steps, histogram, set_bits
from snn2chip.schedule import schedule
from snn2chip.trace import Trace

RATE_BINS = 20


@attrs.frozen(kw_only=True)
class SourceDetail:
    """One input or soma, summed over all samples; arrays are plain lists so that they fit JSON."""

    node: str
    layer: str
    kind: str
    shape: tuple[int, ...]
    neurons: int
    payload: str
    spikes: int
    payload_sum: int
    active_updates: int | None
    all_updates: int
    spikes_per_step: list[int]
    sparsity_per_step: list[float]
    spikes_per_channel: list[int]
    rate_per_channel: list[float]
    rate_histogram: list[int]
    payload_histogram: list[tuple[int, int, int]]
    first_spikes: list[int]
    never_spiked: int
    silent_neurons: int
    window_words: int


@attrs.frozen(kw_only=True)
class SynapseDetail:
    """One synapse, summed over all samples. `events_per_step` counts arrivals, step t of the sample."""

    node: str
    layer: str
    source: str
    kind: str
    format: str
    bits: int | str
    stored: int
    zeros: int
    synaptic_events: int
    payload_events: int
    bit_events: int
    effective_operations: int
    dense_operations: int
    events_per_step: list[int]


@attrs.frozen(kw_only=True)
class Detail:
    """Detailed counts over `samples` samples; by neuron, flat (not in the JSON form): `per_neuron` spikes by node,

    `active_neurons` active updates by soma, `arrivals` synaptic events by synapse, at the neurons they arrive at.
    """

    samples: int
    steps: int
    sources: tuple[SourceDetail, ...]
    synapses: tuple[SynapseDetail, ...]
    delay_words: int
    window_words: int
    per_neuron: Mapping[str, IntArray] = attrs.field(factory=dict, eq=False, repr=False)
    active_neurons: Mapping[str, IntArray] = attrs.field(factory=dict, eq=False, repr=False)
    arrivals: Mapping[str, IntArray] = attrs.field(factory=dict, eq=False, repr=False)

    def source(self, name: str) -> SourceDetail:
        """Counts of an input or soma."""
        return next(row for row in self.sources if row.node == name)

    def synapse(self, name: str) -> SynapseDetail:
        """Counts of a synapse."""
        return next(row for row in self.synapses if row.node == name)


class DetailCounter:
    """Takes traces recorded with payloads, block by block; `result()` at any time."""

    def __init__(self, program: Program) -> None:
        self.program, self.samples = program, 0
        sources = [*program.inputs, *program.somas]
        self.spikes, self.magnitudes, self.bits = (
            {n.name: np.zeros((program.steps, *n.shape), np.int64) for n in sources} for _ in range(3)
        )
        self.bins = {n.name: bin_edges(n.payload_type()) for n in sources}
        self.histograms = {n.name: np.zeros(len(self.bins[n.name]), np.int64) for n in sources}
        self.first = {n.name: np.zeros(program.steps + 1, np.int64) for n in sources}
        self.active = {s.name: np.zeros(s.shape, np.int64) for s in program.somas}

    def add(self, trace: Trace) -> None:
        """Count one block, a trace recorded with `record="all"`."""
        payloads = {**trace.inputs, **trace.payloads}
        self.samples += trace.samples
        flags: dict[str, Flags] = {}
        for name in self.spikes:
            p = payloads[name]
            fired = flags[name] = p != 0
            spikes = fired.sum(1)
            self.spikes[name] += spikes
            self.first[name] += first_steps(fired)
            bins = self.bins[name]
            if bins in ([(0, 0)], [(0, 0), (1, 1)]):  # payloads of 0 and 1: every figure is the number of spikes
                self.magnitudes[name] += spikes
                self.bits[name] += spikes
                self.histograms[name] += [fired.size - spikes.sum(), spikes.sum()][: len(bins)]
                continue
            size = np.abs(p)
            self.magnitudes[name] += size.sum(1, dtype=np.int64)
            self.bits[name] += set_bits(size).sum(1, dtype=np.int64)
            self.histograms[name] += histogram(p, bins)
        got = self._received(flags)
        for soma in self.program.somas:
            busy = got[soma.name] | flags[soma.name]
            self.active[soma.name] += busy.sum((0, 1))

    def _received(self, flags: Mapping[str, Flags]) -> dict[str, Flags]:
        program, shapes = self.program, self.program.shapes
        arrived: dict[str, Flags] = {}
        for node in program.nodes:
            if not isinstance(node, (Synapse, Product)):
                continue
            late = [delayed(flags[e.src], e.delay) for e in program.into[node.name]]
            rows = [f.reshape(-1, *f.shape[2:]) for f in late]
            shape = shapes[node.name]
            found = reached(node, rows[0], shape) if isinstance(node, Synapse) else product_reached(rows, shape)
            arrived[node.name] = found.reshape(*late[0].shape[:2], *shape)
        received = {}
        for soma in program.somas:
            got = np.zeros_like(flags[soma.name])
            for edge in program.into[soma.name]:
                got |= arrived[edge.src].reshape(got.shape)
            received[soma.name] = got
        return received

    def result(self) -> Detail:
        """Everything counted so far."""
        program = self.program
        sources = tuple(self._source(n) for n in (*program.inputs, *program.somas))
        plan = schedule(program)
        sizes = {n.name: int(np.prod(n.shape, dtype=np.int64)) for n in (*program.inputs, *program.somas)}
        return Detail(
            samples=self.samples,
            steps=program.steps,
            sources=sources,
            synapses=tuple(self._synapse(n) for n in program.synapses),
            delay_words=sum(length * sizes[src] for (src, _, _), length in plan.buffers.items()),
            window_words=sum(row.window_words for row in sources),
            per_neuron={name: spikes.sum(0).ravel() for name, spikes in self.spikes.items()},
            active_neurons={name: active.ravel() for name, active in self.active.items()},
            arrivals={node.name: self._arrivals(node) for node in program.synapses},
        )

    def _source(self, node: Input | Host | Soma) -> SourceDetail:
        spikes, steps, n = self.spikes[node.name], self.program.steps, max(self.samples, 1)
        neurons = int(np.prod(node.shape, dtype=np.int64))
        per_step = spikes.reshape(steps, -1).sum(1)
        per_channel = spikes.sum(0).reshape(node.shape[0] if node.shape else 1, -1).sum(1)
        rates = spikes.sum(0) / (n * steps)
        kind = node.payload_type()
        soma = node if isinstance(node, Soma) else None
        return SourceDetail(
            node=node.name,
            layer=node.layer,
            kind="soma" if soma is not None else type(node).__name__.lower(),
            shape=tuple(node.shape),
            neurons=neurons,
            payload=f"{kind.kind} {kind.lo}..{kind.hi}" if soma is None or soma.fire != "none" else "none",
            spikes=int(spikes.sum()),
            payload_sum=int(self.magnitudes[node.name].sum()),
            active_updates=int(self.active[node.name].sum()) if soma is not None else None,
            all_updates=neurons * steps * self.samples if soma is not None else 0,
            spikes_per_step=per_step.tolist(),
            sparsity_per_step=(1.0 - per_step / (neurons * n)).tolist(),
            spikes_per_channel=per_channel.tolist(),
            rate_per_channel=(per_channel * len(per_channel) / (neurons * steps * n)).tolist(),
            rate_histogram=np.histogram(rates, bins=RATE_BINS, range=(0.0, 1.0))[0].tolist(),
            payload_histogram=[
                (lo, hi, int(count))
                for (lo, hi), count in zip(self.bins[node.name], self.histograms[node.name], strict=True)
            ],
            first_spikes=self.first[node.name][:-1].tolist(),
            never_spiked=int(self.first[node.name][-1]),
            silent_neurons=int((spikes.sum(0) == 0).sum()),
            window_words=2 * steps * neurons if soma is not None and soma.window is not None else 0,
        )

    def _synapse(self, node: Synapse) -> SynapseDetail:
        (edge,) = self.program.into[node.name]
        live = max(self.program.steps - edge.delay, 0)
        fan, busy = fan_outs(self.program)[node.name], nonzero_fan_outs(self.program)[node.name]

        def events(sums: IntArray, per_neuron: IntArray) -> int:
            return int((sums[:live].sum(0) * per_neuron).sum())

        spikes = self.spikes[edge.src]
        arrivals = np.zeros(self.program.steps, np.int64)
        arrivals[self.program.steps - live :] = (spikes[:live] * fan).reshape(live, fan.size).sum(1)
        stored = int(node.values().size) if node.kind in ("linear", "conv2d") else int(np.size(node.weight))
        return SynapseDetail(
            node=node.name,
            layer=node.layer,
            source=edge.src,
            kind=node.kind,
            format="sparse" if node.sparse else "conv" if node.kind in ("conv2d", "sumpool") else "dense",
            bits=node.bits,
            stored=stored,
            zeros=int((node.values() == 0).sum()),
            synaptic_events=events(spikes, fan),
            payload_events=events(self.magnitudes[edge.src], fan),
            bit_events=events(self.bits[edge.src], fan),
            effective_operations=events(spikes, busy),
            dense_operations=int(fan.sum()) * live * self.samples,
            events_per_step=arrivals.tolist(),
        )

    def _arrivals(self, node: Synapse) -> IntArray:
        (edge,) = self.program.into[node.name]
        live = max(self.program.steps - edge.delay, 0)
        return arrived(node, self.spikes[edge.src][:live].sum(0), self.program.shapes[node.name]).ravel()
