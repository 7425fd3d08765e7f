"""Why a population fits in no tiling: what is exceeded, by how much, and what would fit."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from snn2chip.ir.nodes import describe
from snn2chip.mapping.connection import Connection
from snn2chip.mapping.demand import Population, breached
from snn2chip.mapping.grid import Grid

Out = Sequence[tuple[Connection, str, Grid]]


def explain(population: Population, out: Out, *, off_chip: bool = False) -> str:
    """One sentence: the limits that even a core with a single neuron exceeds, and the alternatives that fit."""
    worst: dict[str, tuple[int, float]] = {}
    for modes in population.mode_choices():
        found = _finest(population, modes, out, off_chip)
        if not worst or len(found) < len(worst):
            worst = found
    wait = max((c.delay for c in population.into), default=0)
    texts = [
        f"{name}: {used:,} needed by a core with one neuron, {_shown(limit)} there ({used - limit:,.0f} too many)"
        for name, (used, limit) in worst.items()
    ]
    if wait > population.target.limits.delay_max.value:
        texts.append(f"delay: payloads wait {wait} steps, {population.target.limits.delay_max.value} are possible")
    helps = _alternatives(population, out, worst, off_chip)
    what = "; ".join(texts) or "no cut with blocks of equal size fits"
    return f"{describe(population.soma)}: fits on no core: {what}" + (f"; {', or '.join(helps)}" if helps else "")


def _finest(population: Population, modes: Sequence[str], out: Out, off_chip: bool) -> dict[str, tuple[int, float]]:
    """Breaches at one neuron per core."""
    grid = Grid(population.shape, population.shape)
    return breached(population.demand(grid, modes, out, off_chip=off_chip), population.limits)


def _alternatives(population: Population, out: Out, worst: dict[str, tuple[int, float]], off_chip: bool) -> list[str]:
    from snn2chip.mapping.partition import smallest

    helps = []
    widths = sorted({int(n) for n in population.target.weights.widths.value}, reverse=True)
    for bits in widths:
        if all(c.bits <= bits for c in population.into):
            continue
        thinner = attrs.evolve(population, into=[attrs.evolve(c, bits=min(c.bits, bits)) for c in population.into])
        found = smallest(thinner, out, off_chip=off_chip)
        if found is not None:
            helps.append(f"{bits}-bit weights fit (on {found.cores} cores)")
            break
    if {"input axons", "synapse bytes", "memory bytes", "list words"} & set(worst):
        fan_in = max(c.load(Grid(population.shape, population.shape), "discrete").axons.max() for c in population.into)
        helps.append(f"split its {int(fan_in):,} inputs over several partial sums (relay neurons)")
    if "input axons" in worst and population.compartments > 1:
        helps.append("reset to zero, so that channels may share axons")
    if "compartments" in worst and population.soma.window is None and population.limits["compartments"] < 1:
        helps.append("split the wait over relays with the transform 'retime'")
    if population.soma.window is not None and "memory bytes" in worst:
        helps.append("serialize: fewer steps T per sample take fewer accumulators")
    if "output slots" in worst:
        helps.append("its readers on fewer cores (narrower weights there, a target with larger cores)")
    if "synapse formats" in worst:
        helps.append("add some of its inputs up in relays first")
    return helps


def _shown(limit: float) -> str:
    return f"{limit:,.0f}"
