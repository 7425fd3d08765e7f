"""Messages between cores: one per spike and core that it reaches, never one per synapse."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from scipy import sparse

from snn2chip.ir.program import Program
from snn2chip.mapping.connection import Connection
from snn2chip.mapping.partition import Partition

Rates = Mapping[str, Any]
"""Spikes per sample of every neuron, by payload source, each an array of the source's shape."""


def uniform_rates(program: Program) -> dict[str, Any]:
    """Every neuron spikes at every step."""
    return {n.name: np.full(program.shapes[n.name], float(program.steps)) for n in (*program.inputs, *program.somas)}


def measured_rates(
    program: Program, inputs: Any, *, time_axis: bool = False, device: str | None = "cpu"
) -> dict[str, Any]:
    """Mean spikes per sample of every neuron over a run of `inputs`; memory does not grow with their number."""
    return rates_of_blocks(program, [inputs], time_axis=time_axis, device=device)


def rates_of_blocks(
    program: Program, blocks: Iterable[Any], *, time_axis: bool = False, device: str | None = "cpu"
) -> dict[str, Any]:
    """`measured_rates` over samples that come in blocks."""
    from snn2chip.api import stream

    total: dict[str, Any] = {}
    samples = 0
    for inputs in blocks:
        for trace in stream(program, inputs, record="all", time_axis=time_axis, device=device):
            samples += trace.samples
            for name, payloads in {**trace.inputs, **trace.payloads}.items():
                total[name] = total.get(name, 0) + (np.asarray(payloads) != 0).sum((0, 1))
    return {name: count / samples for name, count in total.items()}


def traffic(partition: Partition, rates: Rates) -> Any:
    """Messages per sample from core to core, `[cores, cores]` (sparse), cores numbered in program order."""
    first, tilings = partition.first_core(), partition.tilings
    blocks: list[Any] = []
    for (src, dst), into in _between(partition).items():
        if src not in tilings:
            continue
        reach = _reach(into, partition, dst)
        own = tilings[src].grid
        spikes = np.asarray(rates[src], float).ravel()
        where = own.tile_of, np.arange(spikes.size)
        sent = sparse.csr_matrix((spikes, where), shape=(own.tiles, spikes.size)) @ reach
        part = sent.tocoo()
        blocks.append((part.row + first[src], part.col + first[dst], part.data))
    n = partition.cores
    if not blocks:
        return sparse.csr_matrix((n, n))
    row, col, data = (np.concatenate(column) for column in zip(*blocks, strict=True))
    return sparse.csr_matrix((data, (row, col)), shape=(n, n))


def input_messages(partition: Partition, rates: Rates) -> float:
    """Messages per sample that enter from outside of the chips; how far they go is not known."""
    outside = {n.name for n in partition.program.inputs}
    total = 0.0
    for (src, dst), into in _between(partition).items():
        if src in outside:
            reached = np.asarray(_reach(into, partition, dst).sum(1)).ravel()
            total += float((np.asarray(rates[src], float).ravel() * reached).sum())
    return total


def _between(partition: Partition) -> dict[tuple[str, str], list[Connection]]:
    """Connections by (source, target population)."""
    found: dict[tuple[str, str], list[Connection]] = {}
    for name, tiling in partition.tilings.items():
        for connection in tiling.population.into:
            found.setdefault((connection.src, name), []).append(connection)
    return found


def _reach(into: list[Connection], partition: Partition, dst: str) -> Any:
    """0/1 `[source neurons, tiles]`: a spike that several connections take to one core is one message."""
    grid = partition.tilings[dst].grid
    total = sum((c.reach(grid).astype(np.int64) for c in into[1:]), into[0].reach(grid).astype(np.int64))
    return (total > 0).astype(float)
