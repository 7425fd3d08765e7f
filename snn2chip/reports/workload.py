"""What one sample costs in events, on average: the bridge from counts to energies and times.

Synaptic operations by storage format, updates (active, all), spikes, messages and hops where a placement is known, and
the arithmetic of the same network: an operation on a payload of 0 or ±1 is an addition (AC), on any other a MAC.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from snn2chip.ir.nodes import Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.reports.detail import Detail
from snn2chip.schedule import Schedule, schedule

FORMATS = ("dense", "sparse", "conv")


@attrs.frozen(kw_only=True)
class LayerLoad:
    """Events of one soma and the synapses into it, per sample."""

    soma: str
    neurons: int
    updates: float
    active: float
    spikes: float
    synops: Mapping[str, float]
    weight_bits: int


@attrs.frozen(kw_only=True)
class Traffic:
    """Messages of a placement, per sample: one per spike and destination core; XY routes."""

    messages: float
    deliveries: float
    hops_ew: float
    hops_ns: float
    busiest_link: float = 0.0
    note: str = ""


@attrs.frozen(kw_only=True)
class Workload:
    """Events per sample; `ann_macs` and `ann_adds` are one pass of the same network with every input active."""

    samples: int
    steps: int
    machine_steps: int
    latency_steps: int
    layers: tuple[LayerLoad, ...]
    updates: float
    active: float
    spikes: float
    synops: Mapping[str, float]
    acs: float
    macs: float
    few_bit_macs: float
    ann_macs: float
    ann_adds: float
    ann_few_bit_macs: float
    traffic: Traffic

    @property
    def inactive(self) -> float:
        """Updates of neurons that neither received input nor spiked."""
        return self.updates - self.active

    @property
    def all_synops(self) -> float:
        """Synaptic operations of all formats."""
        return sum(self.synops.values())

    def events(self) -> dict[str, float]:
        """Counts by the names of energy and timing events."""
        return {
            "synop": self.all_synops,
            **{f"synop_{name}": self.synops[name] for name in FORMATS},
            "update_active": self.active,
            "update_inactive": self.inactive,
            "neuron_access": self.updates,
            "neuron_update": self.updates,
            "spike_out": self.spikes,
            "message_out": self.traffic.messages,
            "deliver_tile": self.traffic.deliveries,
            "hop_ew": self.traffic.hops_ew,
            "hop_ns": self.traffic.hops_ns,
        }


def workload(
    program: Program, detail: Detail, *, traffic: Traffic | None = None, plan: Schedule | None = None
) -> Workload:
    """Averages over the samples of `detail`; without `traffic` a spike is one message per population it reaches."""
    plan = plan or schedule(program)
    n = max(detail.samples, 1)
    stretch = plan.stretch
    kinds = {s.name: s.payload_type() for s in (*program.inputs, *program.somas)}
    synapses = {s.name: s for s in program.synapses}
    layers, fed = [], synapses_into(program)
    acs = macs = few = ann_macs = ann_adds = ann_few = 0.0
    for soma in program.somas:
        row = detail.source(soma.name)
        synops, bits = dict.fromkeys(FORMATS, 0.0), 0
        for name in fed[soma.name]:
            synapse = detail.synapse(name)
            synops[synapse.format] += synapse.synaptic_events / n
            bits += synapse.stored * _width(synapses[name])
            effective, pass_ = synapse.effective_operations / n, synapse.dense_operations / n / program.steps
            adds_only = synapse.kind in ("identity", "sumpool") or synapse.bits in (1, "ternary")
            if kinds[synapse.source].magnitude <= 1:
                acs += effective
            else:
                macs += effective
                few += effective if adds_only else 0.0
            if synapse.kind in ("identity", "sumpool"):
                ann_adds += pass_
            else:
                ann_macs += pass_
                ann_few += pass_ if adds_only else 0.0
        layers.append(
            LayerLoad(
                soma=soma.name,
                neurons=row.neurons,
                updates=row.all_updates * stretch / n,
                active=float(row.active_updates or 0) / n,
                spikes=row.spikes / n,
                synops=synops,
                weight_bits=bits,
            )
        )
    return Workload(
        samples=detail.samples,
        steps=program.steps,
        machine_steps=plan.sample_steps,
        latency_steps=plan.latency,
        layers=tuple(layers),
        updates=sum(r.updates for r in layers),
        active=sum(r.active for r in layers),
        spikes=sum(r.spikes for r in layers),
        synops={name: sum(r.synops[name] for r in layers) for name in FORMATS},
        acs=acs,
        macs=macs,
        few_bit_macs=few,
        ann_macs=ann_macs,
        ann_adds=ann_adds,
        ann_few_bit_macs=ann_few,
        traffic=traffic or _least_traffic(program, detail),
    )


def synapses_into(program: Program) -> dict[str, list[str]]:
    """Synapses into every soma; one that feeds several stands at the first."""
    found: dict[str, list[str]] = {}
    seen: set[str] = set()
    for soma in program.somas:
        names = [e.src for e in program.into[soma.name] if isinstance(program[e.src], Synapse) and e.src not in seen]
        seen.update(names)
        found[soma.name] = names
    return found


def _least_traffic(program: Program, detail: Detail) -> Traffic:
    """One message per spike and population of destination: what no placement can undercut."""
    n = max(detail.samples, 1)
    messages = 0.0
    for node in (*program.inputs, *program.somas):
        reached = {
            onward.dst
            for edge in program.out_of[node.name]
            for onward in program.out_of[edge.dst]
            if isinstance(program[onward.dst], Soma)
        }
        messages += detail.source(node.name).spikes * len(reached) / n
    note = (
        "no placement: one message per spike and population it reaches, delivered on its tile, no hops (a lower bound)"
    )
    return Traffic(messages=messages, deliveries=messages, hops_ew=0.0, hops_ns=0.0, note=note)


def _width(synapse: Synapse) -> int:
    """Bits of one stored weight: -1 and +1 beside each other take 2, 0 and 1 take 1."""
    signed = synapse.bits == 1 and synapse.sign == "mixed"
    return 2 if signed or synapse.bits == "ternary" else int(synapse.bits)
