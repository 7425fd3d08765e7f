"""From a program to the work of its cores: by its partition on the target, or by ratios where it does not fit.

A message leaves for every (spike, destination core), never per synapse; routes go east-west first, then north-south.
Without a placement cores are numbered in program order, four to a tile, tiles row by row, chip after chip. Synaptic
events and active updates of a population are spread evenly over its neurons, spikes are those of each core's own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from scipy import sparse

from snn2chip.errors import UnsupportedError
from snn2chip.ir.program import Program
from snn2chip.mapping.partition import Partition, partition
from snn2chip.mapping.target import Target
from snn2chip.reports.detail import Detail
from snn2chip.reports.latency import CoreLoad, Floor, even_floor
from snn2chip.reports.workload import FORMATS, Traffic, Workload

CoreMap = tuple[Mapping[str, Any], ...]
Place = tuple[int, int, int]
"""Chip, x and y of a core's tile."""
HOST = "inputs come from outside: one message per spike and core they reach, delivered on its tile, no hops"


def floor_plan(program: Program, detail: Detail, load: Workload, target: Target) -> tuple[Floor, Workload, CoreMap]:
    """Cores with their loads, the workload with its traffic, and one row per core for a map of them."""
    if target.mesh is None or math.isinf(target.limits.cores_per_chip.value):
        return even_floor(load, target), load, ()
    try:
        cut = partition(program, target)
    except UnsupportedError as error:
        floor = even_floor(load, target)
        why = str(error).splitlines()[-1].strip()
        return attrs.evolve(floor, note=f"{floor.note}; it does not fit: {why}"), load, ()
    places = row_by_row(cut.cores, target)
    traffic = measured_traffic(cut, detail, places)
    return _floor(cut, detail, load, places), attrs.evolve(load, traffic=traffic), _map(cut, places)


def row_by_row(cores: int, target: Target) -> list[Place]:
    """Places of cores in the order of their numbers."""
    assert target.mesh is not None
    per_chip, per_tile = int(target.limits.cores_per_chip.value), int(target.mesh.cores_per_tile.value)
    wide = int(target.mesh.tiles_x.value)
    tiles = [(core // per_chip, core % per_chip // per_tile) for core in range(cores)]
    return [(chip, tile % wide, tile // wide) for chip, tile in tiles]


def messages(cut: Partition, detail: Detail) -> dict[tuple[str, str], Any]:
    """Messages per sample `[tiles of the source, tiles of the target]` of every pair; an input is one tile."""
    samples = max(detail.samples, 1)
    reach: dict[tuple[str, str], Any] = {}
    for name, tiling in cut.tilings.items():
        for connection in tiling.population.into:
            key, found = (connection.src, name), connection.reach(tiling.grid)
            reach[key] = found if key not in reach else (reach[key] + found)
    out = {}
    for (src, dst), table in reach.items():
        spikes = np.asarray(detail.per_neuron[src], dtype=np.float64) / samples
        own = cut.tilings.get(src)
        owner = own.grid.tile_of if own is not None else np.zeros(len(spikes), np.int64)
        rows = own.cores if own is not None else 1
        sent = sparse.csr_matrix((spikes, (owner, np.arange(len(spikes)))), shape=(rows, len(spikes)))
        out[src, dst] = np.asarray((sent @ sparse.csr_matrix(table != 0)).todense())
    return out


def measured_traffic(cut: Partition, detail: Detail, places: Sequence[Place]) -> Traffic:
    """Messages, deliveries and hops per sample of cores at `places`."""
    first = cut.first_core()
    at = np.array(places)
    sent = ew = ns = away = 0.0
    for (src, dst), sums in messages(cut, detail).items():
        sent += float(sums.sum())
        if src not in first:
            continue
        a = at[first[src] : first[src] + sums.shape[0]]
        b = at[first[dst] : first[dst] + sums.shape[1]]
        same = a[:, None, 0] == b[None, :, 0]
        ew += float((sums * same * np.abs(a[:, None, 1] - b[None, :, 1])).sum())
        ns += float((sums * same * np.abs(a[:, None, 2] - b[None, :, 2])).sum())
        away += float((sums * ~same).sum())
    note = f"cores in program order, row by row; {HOST}"
    if away:
        note += f"; {away:,.0f} messages per sample to other chips, whose energy is not published"
    return Traffic(messages=sent, deliveries=sent, hops_ew=ew, hops_ns=ns, note=note)


def _floor(cut: Partition, detail: Detail, load: Workload, places: Sequence[Place]) -> Floor:
    rows = {row.soma: row for row in load.layers}
    cores = []
    for name, tiling in cut.tilings.items():
        row = rows[name]
        share = tiling.grid.neurons.ravel() / row.neurons
        spikes = tiling.grid.sums(np.asarray(detail.per_neuron[name]).reshape(tiling.grid.shape)).ravel()
        for i, part in enumerate(share):
            per = part / load.machine_steps
            cores.append(
                CoreLoad(
                    core=f"{name}[{i}]",
                    updates=row.updates * per,
                    active=row.active * per,
                    synops={fmt: row.synops[fmt] * per for fmt in FORMATS},
                    spikes=float(spikes[i]) / max(detail.samples, 1) / load.machine_steps,
                )
            )
    return Floor(
        cores=tuple(cores),
        count=cut.cores,
        tiles=len(set(places)),
        chips=max(chip for chip, _, _ in places) + 1,
        note="cut into the fewest cores on which every limit of the target holds (feasible under an assumed layout)",
    )


def _map(cut: Partition, places: Sequence[Place]) -> CoreMap:
    """One row per core: where it is, what it holds, and the limit it uses most of."""
    rows: list[Mapping[str, Any]] = []
    for name, tiling in cut.tilings.items():
        limits = {k: v for k, v in tiling.population.limits.items() if v and math.isfinite(v)}
        shares = {k: np.asarray(tiling.demand[k], dtype=np.float64).ravel() / v for k, v in limits.items()}
        neurons = tiling.grid.neurons.ravel()
        for i in range(tiling.cores):
            used = {k: float(v[i]) for k, v in shares.items()}
            binding = max(used, key=lambda k: used[k]) if used else ""
            chip, x, y = places[len(rows)]
            rows.append(
                {
                    "core": len(rows),
                    "chip": chip,
                    "x": x,
                    "y": y,
                    "population": name,
                    "neurons": int(neurons[i]),
                    "binding": binding,
                    "utilisation": used.get(binding, 0.0),
                    "shares": used,
                }
            )
    return tuple(rows)
