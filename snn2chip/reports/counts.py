"""Counts of one run, on the integer program: spikes, synaptic events, neuron updates.

    spikes                   payloads other than 0, whatever their value
    payload_sum              sum of |payload|
    synaptic_events          one per (spike, stored synapse it reaches): a graded spike is one event
    payload_weighted_events  the same times |payload|
    effective_operations     the same without synapses whose weight is 0
    dense_events             every stored synapse at every step
    neuron_updates           every neuron at every logical step of every sample

Dense weights are stored with their zeros, sparse ones without; taps on padding do not exist; a spike
whose delayed arrival falls after the sample's last step reaches nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs
import numpy as np

from snn2chip.ir.geometry import channel_weight, fan_out
from snn2chip.ir.nodes import Host, Input, Product, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.types import IntArray

Reduce = Callable[[str, int], tuple[IntArray, IntArray]]
"""`reduce(source, steps)`: per neuron, over the first `steps` steps and all samples: payloads != 0, sum |payload|."""

SOURCE_FIELDS = ("neurons", "spikes", "payload_sum", "neuron_updates", "saturations")
SYNAPSE_FIELDS = ("synaptic_events", "payload_weighted_events", "effective_operations", "dense_events")


@attrs.frozen(kw_only=True)
class Counts:
    """Counts summed over `samples` samples, per node; add two to join blocks."""

    samples: int
    steps: int
    sources: Mapping[str, Mapping[str, int]]
    synapses: Mapping[str, Mapping[str, int]]
    products: Mapping[str, int]
    on_host: tuple[str, ...] = ()

    def __add__(self, other: Counts) -> Counts:
        def merge(a: Mapping[str, Mapping[str, int]], b: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
            return {n: {k: v if k == "neurons" else v + b[n][k] for k, v in row.items()} for n, row in a.items()}

        return attrs.evolve(
            self,
            samples=self.samples + other.samples,
            sources=merge(self.sources, other.sources),
            synapses=merge(self.synapses, other.synapses),
            products={n: v + other.products[n] for n, v in self.products.items()},
        )

    @property
    def totals(self) -> dict[str, int]:
        """Sums over the chip: somas' spikes and updates, all synapses' events (inputs' spikes are apart)."""
        somas = [row for name, row in self.sources.items() if name not in self.on_host]
        return {
            "spikes": sum(row["spikes"] for row in somas),
            "input_spikes": sum(self.sources[name]["spikes"] for name in self.on_host),
            "payload_sum": sum(row["payload_sum"] for row in somas),
            "synaptic_events": sum(row["synaptic_events"] for row in self.synapses.values()),
            "payload_weighted_events": sum(row["payload_weighted_events"] for row in self.synapses.values()),
            "effective_operations": sum(row["effective_operations"] for row in self.synapses.values()),
            "dense_events": sum(row["dense_events"] for row in self.synapses.values()),
            "neuron_updates": sum(row["neuron_updates"] for row in somas),
            "products": sum(self.products.values()),
            "saturations": sum(row["saturations"] for row in somas),
        }


def count(program: Program, reduce: Reduce, *, samples: int, saturations: Mapping[str, int]) -> Counts:
    """Count one block of `samples` samples from per-neuron sums that the backend provides."""
    fan, busy = fan_outs(program), nonzero_fan_outs(program)
    sources, synapses = {}, {}
    for node in (*program.inputs, *program.somas):
        nonzero, magnitude = reduce(node.name, program.steps)
        spikes = int(nonzero.sum())
        sources[node.name] = spikes, spikes if magnitude is nonzero else int(magnitude.sum())
    for synapse in program.synapses:
        (edge,) = program.into[synapse.name]
        nonzero, magnitude = reduce(edge.src, max(program.steps - edge.delay, 0))
        stored, used = fan[synapse.name], busy[synapse.name]
        events = int(np.vdot(nonzero, stored))
        weighted = events if magnitude is nonzero else int(np.vdot(magnitude, stored))
        synapses[synapse.name] = events, weighted, events if used is stored else int(np.vdot(nonzero, used))
    return counts_of(program, sources, synapses, samples=samples, saturations=saturations)


def counts_of(
    program: Program,
    sources: Mapping[str, tuple[int, int]],
    synapses: Mapping[str, tuple[int, int, int]],
    *,
    samples: int,
    saturations: Mapping[str, int],
) -> Counts:
    """Counts of one block from sums over its neurons.

    `sources`: spikes and payload sum of every input and soma; `synapses`: synaptic events, payload-weighted events and
    effective operations of every synapse.
    """
    dense, found = _dense(program), {}
    on_host = tuple(n.name for n in program.nodes if isinstance(n, (Input, Host)))
    for node in (*program.inputs, *program.somas):
        size, (spikes, payload_sum) = int(np.prod(node.shape)), sources[node.name]
        found[node.name] = {
            "neurons": size,
            "spikes": spikes,
            "payload_sum": payload_sum,
            "neuron_updates": 0 if node.name in on_host else program.steps * samples * size,
            "saturations": int(saturations.get(node.name, 0)),
        }
    reached = {}
    for synapse in program.synapses:
        live = max(program.steps - program.into[synapse.name][0].delay, 0)
        every = dense[synapse.name] * live * samples
        reached[synapse.name] = dict(zip(SYNAPSE_FIELDS, (*synapses[synapse.name], every), strict=True))
    products = {
        n.name: program.steps * samples * int(np.prod(program.shapes[n.name]))
        for n in program.nodes
        if isinstance(n, Product)
    }
    return Counts(
        samples=samples, steps=program.steps, sources=found, synapses=reached, products=products, on_host=on_host
    )


def _dense(program: Program) -> dict[str, int]:
    """All stored synapses of every synapse (kept with the program)."""
    cache: dict[str, int] | None = program.__dict__.get("_dense_events")
    if cache is None:
        cache = program.__dict__["_dense_events"] = {name: int(fan.sum()) for name, fan in fan_outs(program).items()}
    return cache


def fan_outs(program: Program) -> dict[str, IntArray]:
    """Stored synapses per source neuron, for every synapse (kept with the program)."""
    return _kept(program, "_fan_outs", fan_out)


def nonzero_fan_outs(program: Program) -> dict[str, IntArray]:
    """Synapses per source neuron whose weight is not 0, for every synapse (kept with the program)."""
    return _kept(program, "_nonzero_fan_outs", _nonzero)


def _nonzero(synapse: Synapse, in_shape: tuple[int, ...]) -> IntArray:
    if synapse.kind == "sumpool":
        return fan_out(synapse, in_shape) * (channel_weight(synapse, in_shape) != 0)
    return fan_out(synapse if synapse.sparse else attrs.evolve(synapse, sparse=True), in_shape)


def _kept(program: Program, key: str, fan: Callable[[Synapse, tuple[int, ...]], IntArray]) -> dict[str, IntArray]:
    cache: dict[str, IntArray] | None = program.__dict__.get(key)
    if cache is None:
        cache = {n.name: fan(n, program.shapes[program.into[n.name][0].src]) for n in program.synapses}
        program.__dict__[key] = cache
    return cache
