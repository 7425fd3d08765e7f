"""Partition: every population cut into the fewest cores on which all limits of the target hold.

A core holds neurons of one population. Populations are cut behind their readers, whose cores decide how many routes
leave; on loops this repeats until nothing changes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import attrs
import numpy as np

from snn2chip.errors import UnsupportedError
from snn2chip.ir.nodes import describe
from snn2chip.ir.program import Program
from snn2chip.ir.types import IntArray
from snn2chip.mapping.connection import Connection
from snn2chip.mapping.demand import Population, breached
from snn2chip.mapping.grid import Grid, block_counts
from snn2chip.mapping.misfit import explain
from snn2chip.mapping.target import Target
from snn2chip.mapping.wiring import connections

ROUNDS = 8


@attrs.frozen(kw_only=True, slots=False, eq=False)
class Tiling:
    """One population on its cores: `grid`, axon `modes` of the connections into it, and what every tile uses."""

    population: Population
    grid: Grid
    modes: tuple[str, ...]
    demand: Mapping[str, IntArray]

    @property
    def name(self) -> str:
        """Name of the soma."""
        return self.population.soma.name

    @property
    def cores(self) -> int:
        """Number of cores."""
        return self.grid.tiles

    def binding(self) -> tuple[str, float]:
        """The limit of which some core uses the largest share, and that share."""
        shares = {
            name: float(self.demand[name].max()) / limit for name, limit in self.population.limits.items() if limit
        }
        best = max(shares, key=lambda name: shares[name])
        return best, shares[best]


@attrs.frozen(kw_only=True, slots=False, eq=False)
class Partition:
    """All populations of a program on cores, in program order."""

    program: Program
    target: Target
    tilings: Mapping[str, Tiling]

    @property
    def cores(self) -> int:
        """Cores in use."""
        return sum(t.cores for t in self.tilings.values())

    def first_core(self) -> dict[str, int]:
        """Index of every population's first core when all are numbered in program order."""
        ends = np.cumsum([t.cores for t in self.tilings.values()])
        return {name: int(end) - t.cores for (name, t), end in zip(self.tilings.items(), ends, strict=True)}


def partition(
    program: Program,
    target: Target,
    *,
    encoding: str | None = None,
    bits: int | None = None,
    off_chip: frozenset[str] = frozenset(),
) -> Partition:
    """Cut every population of `program` into cores of `target`.

    `encoding`: only this encoding of synapse lists; `bits`: store no weight wider; `off_chip`: populations whose routes
    are all counted as leading to another chip. Raises UnsupportedError that names, for every population that fits in no
    tiling, what is exceeded, by how much and what would fit.
    """
    wires = connections(program, target, encoding=encoding, bits=bits)
    people = {s.name: Population(soma=s, target=target, into=wires[s.name]) for s in program.somas}
    leaving: dict[str, list[tuple[str, int, Connection]]] = {name: [] for name in people}
    for name, into in wires.items():
        for number, connection in enumerate(into):
            if connection.src in leaving:
                leaving[connection.src].append((name, number, connection))
    tilings: dict[str, Tiling] = {}
    for _ in range(ROUNDS):
        before = {name: (t.grid.parts, t.modes) for name, t in tilings.items()}
        failed = []
        for soma in reversed(program.somas):
            out = [
                (c, tilings[dst].modes[number], tilings[dst].grid)
                for dst, number, c in leaving[soma.name]
                if dst in tilings
            ]
            least = before[soma.name][0] if soma.name in before else (1, 1, 1)
            found = smallest(people[soma.name], out, off_chip=soma.name in off_chip, least=math.prod(least))
            if found is None:
                failed.append(explain(people[soma.name], out, off_chip=soma.name in off_chip))
                break  # what feeds it depends on how it is cut
            tilings[soma.name] = found
        if failed:
            raise UnsupportedError([f"{target.title}: {text}" for text in failed])
        if {name: (t.grid.parts, t.modes) for name, t in tilings.items()} == before:
            return Partition(program=program, target=target, tilings={s.name: tilings[s.name] for s in program.somas})
    loops = ", ".join(describe(s) for s in program.somas if before[s.name][0] != tilings[s.name].grid.parts)
    raise UnsupportedError(
        f"{target.title}: no cut of the loop over {loops} settles: each needs more cores when the other has more; "
        "use fewer neurons or weights there"
    )


def smallest(
    population: Population,
    out: Sequence[tuple[Connection, str, Grid]],
    *,
    off_chip: bool = False,
    least: int = 1,
) -> Tiling | None:
    """The tiling of fewest tiles (at least `least`) in which every tile meets every limit, or None."""
    best: Tiling | None = None
    for modes in population.mode_choices():
        search = _Search(population, modes, out, off_chip)
        found = search.run(least=least, below=math.inf if best is None else best.cores)
        best = found or best
    return best


class _Search:
    def __init__(
        self,
        population: Population,
        modes: tuple[str, ...],
        out: Sequence[tuple[Connection, str, Grid]],
        off_chip: bool,
    ) -> None:
        self.population, self.modes, self.out, self.off_chip = population, modes, out, off_chip
        self.limits = population.limits
        self.best: Tiling | None = None

    def tried(self, parts: tuple[int, int, int]) -> Tiling | None:
        """The tiling of `parts`, None if some tile breaks a limit."""
        grid = Grid(self.population.shape, parts)
        demand = self.population.demand(grid, self.modes, self.out, off_chip=self.off_chip)
        if breached(demand, self.limits):
            return None
        return Tiling(population=self.population, grid=grid, modes=self.modes, demand=demand)

    def run(self, *, least: int, below: float) -> Tiling | None:
        """Fewest tiles, ties by the fewest axons: channels as deep as they fit first."""
        c, h, w = self.population.shape
        most = self.limits["compartments"] // max(self.population.compartments, 1)
        if most < 1:
            return None
        floor = max(least, math.ceil(c * h * w / most) if math.isfinite(most) else 1)
        spaces = sorted(((ph, pw) for ph in block_counts(h) for pw in block_counts(w)), key=lambda p: (math.prod(p), p))
        for ph, pw in spaces:
            room = self.best.cores if self.best else below
            first = max(-(-floor // (ph * pw)), 1)
            last = int(min(c, (room - 1) // (ph * pw) if math.isfinite(room) else c))
            if first <= last:
                self._cut_channels(first, last, ph, pw)
        return self.best

    def _cut_channels(self, low: int, high: int, ph: int, pw: int) -> None:
        """The fewest channel blocks of `low..high` that fit, by doubling and halving."""
        step, good, bad = low, None, low - 1
        while good is None:
            found = self.tried((min(step, high), ph, pw))
            if found is not None:
                good = found
            elif step >= high:
                return
            else:
                bad, step = step, step * 2
        while good.grid.parts[0] - bad > 1:
            middle = (good.grid.parts[0] + bad) // 2
            found = self.tried((middle, ph, pw))
            if found is None:
                bad = middle
            else:
                good = found
        self.best = good
