"""From a program to the work of its cores: by its placement, by its partition, or by ratios where it does not fit.

A message leaves for every (spike, destination core), never per synapse; routes go east-west first, then north-south.
A placement that was stored with the program (`snn2chip map -o`) is used; without one, cores lie in program order.
Synaptic events, active updates and spikes are each core's own, by the neurons that it holds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from snn2chip.errors import UnsupportedError
from snn2chip.ir.program import Program
from snn2chip.ir.types import IntArray
from snn2chip.mapping.assign import META, in_order
from snn2chip.mapping.mesh import Chips, cost
from snn2chip.mapping.partition import Partition, Tiling, partition
from snn2chip.mapping.saved import load_mapping
from snn2chip.mapping.target import Target
from snn2chip.mapping.traffic import input_messages, traffic
from snn2chip.reports.detail import Detail
from snn2chip.reports.latency import CoreLoad, Floor, even_floor
from snn2chip.reports.workload import FORMATS, Traffic, Workload, synapses_into

CoreMap = tuple[Mapping[str, Any], ...]
MESSAGE_BITS = 32
"""Bits of a message on a link (Loihi 1; taken for all)."""
HOST = "inputs come from outside: one message per spike and core they reach, delivered on its tile, no hops"


def floor_plan(program: Program, detail: Detail, load: Workload, target: Target) -> tuple[Floor, Workload, CoreMap]:
    """Cores with their loads, the workload with its traffic, and one row per core for a map of them.

    Raises InputError for a stored placement that does not belong to the program.
    """
    if target.mesh is None or math.isinf(target.limits.cores_per_chip.value):
        return even_floor(load, target), load, ()
    try:
        cut, chips, ids, order = _cores(program, target)
    except UnsupportedError as error:
        floor = even_floor(load, target)
        why = str(error).splitlines()[-1].strip()
        return attrs.evolve(floor, note=f"{floor.note}; it does not fit: {why}"), load, ()
    found = measured_traffic(cut, detail, ids, chips, order)
    floor = _floor(cut, detail, load, ids, chips, found)
    return floor, attrs.evolve(load, traffic=found), _map(cut, ids, chips)


def _cores(program: Program, target: Target) -> tuple[Partition, Chips, IntArray, str]:
    """Partition, chips, core ids, and what order they are in."""
    stored = program.meta.get(META)
    if isinstance(stored, Mapping) and stored.get("target") == target.name:
        found = load_mapping(program, target)
        return found.partition, found.chips, found.ids, f"placed, for traffic {found.traffic}"
    cut = partition(program, target)
    ids = in_order(cut)
    count = int(ids.max()) // int(target.limits.cores_per_chip.value) + 1
    return cut, Chips.of(target, count, cut.cores), ids, "no placement: cores in program order, row by row"


def measured_traffic(cut: Partition, detail: Detail, ids: IntArray, chips: Chips, order: str) -> Traffic:
    """Messages, deliveries and hops per sample of the spikes counted; a core's messages to itself are not delivered."""
    samples = max(detail.samples, 1)
    rates = {name: np.asarray(spikes, dtype=np.float64) / samples for name, spikes in detail.per_neuron.items()}
    inside, outside = cost(traffic(cut, rates), ids, chips), input_messages(cut, rates)
    note = f"{order}; {HOST}"
    if inside.off_chip:
        note += f"; {inside.off_chip:,.0f} messages per sample leave their chip, the energy of that is not published"
    return Traffic(
        messages=inside.messages + outside,
        deliveries=inside.messages - inside.same_core + outside,
        hops_ew=inside.hops_ew,
        hops_ns=inside.hops_ns,
        busiest_link=inside.busiest_link,
        note=note,
    )


def _floor(cut: Partition, detail: Detail, load: Workload, ids: IntArray, chips: Chips, found: Traffic) -> Floor:
    rows = {row.soma: row for row in load.layers}
    fed = synapses_into(cut.program)
    per = 1 / (max(detail.samples, 1) * load.machine_steps)
    cores = []
    for name, tiling in cut.tilings.items():

        def on_cores(values: IntArray, tiling: Tiling = tiling) -> NDArray[np.float64]:
            """Sums of per-neuron values over every core, per step and sample."""
            found: NDArray[np.float64] = tiling.grid.sums(np.asarray(values).reshape(tiling.grid.shape)).ravel() * per
            return found

        updates = tiling.grid.neurons.ravel() / rows[name].neurons * rows[name].updates / load.machine_steps
        active, spikes = on_cores(detail.active_neurons[name]), on_cores(detail.per_neuron[name])
        synops = {fmt: np.zeros(tiling.cores) for fmt in FORMATS}
        for synapse in fed[name]:
            synops[detail.synapse(synapse).format] += on_cores(detail.arrivals[synapse])
        for i in range(tiling.cores):
            cores.append(
                CoreLoad(
                    core=f"{name}[{i}]",
                    updates=float(updates[i]),
                    active=float(active[i]),
                    synops={fmt: float(events[i]) for fmt, events in synops.items()},
                    spikes=float(spikes[i]),
                )
            )
    return Floor(
        cores=tuple(cores),
        count=cut.cores,
        tiles=len(np.unique(np.stack([chips.chip(ids), chips.tile(ids)]), axis=1).T),
        chips=len(np.unique(chips.chip(ids))),
        note="cut into the fewest cores on which every limit of the target holds (feasible under an assumed layout)",
        busiest_link=found.busiest_link / load.machine_steps * MESSAGE_BITS,
    )


def _map(cut: Partition, ids: IntArray, chips: Chips) -> CoreMap:
    """One row per core: where it is, what it holds, and the limit it uses most of."""
    rows: list[Mapping[str, Any]] = []
    for name, tiling in cut.tilings.items():
        limits = {k: v for k, v in tiling.population.limits.items() if v and math.isfinite(v)}
        shares = {k: np.asarray(tiling.demand[k], dtype=np.float64).ravel() / v for k, v in limits.items()}
        neurons = tiling.grid.neurons.ravel()
        for i in range(tiling.cores):
            used = {k: float(v[i]) for k, v in shares.items()}
            binding = max(used, key=lambda k: used[k]) if used else ""
            core = int(ids[len(rows)])
            tile = int(chips.tile(core))
            rows.append(
                {
                    "core": core,
                    "chip": int(chips.chip(core)),
                    "x": tile % chips.tiles_x,
                    "y": tile // chips.tiles_x,
                    "population": name,
                    "neurons": int(neurons[i]),
                    "binding": binding,
                    "utilisation": used.get(binding, 0.0),
                    "shares": used,
                }
            )
    return tuple(rows)
