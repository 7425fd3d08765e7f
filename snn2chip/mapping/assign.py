"""A program on the cores of a target: partition, placement, and what both cost; saved with the program.

mapping = map_program(program, "loihi2")
mapping.attached().save("mapped.s2c")
load_mapping(load("mapped.s2c"))
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from snn2chip.errors import UnsupportedError
from snn2chip.ir.program import Program
from snn2chip.ir.types import IntArray
from snn2chip.mapping.capabilities import fitted
from snn2chip.mapping.mesh import Chips, Cost, cost
from snn2chip.mapping.partition import Partition, partition
from snn2chip.mapping.place import placed
from snn2chip.mapping.target import Target
from snn2chip.mapping.target_file import load_target
from snn2chip.mapping.traffic import Rates, input_messages, traffic, uniform_rates

VERSION = 1
META = "placement"
SHUFFLES = 20


@attrs.frozen(kw_only=True, slots=False, eq=False)
class Mapping:
    """`ids[i]` is the core id of core i of `partition` (program order); costs per sample for the spikes of `traffic`.

    `traffic`: "uniform" (every neuron at every step) or "measured over N samples"; `random` is the mean of shuffles of
    the ids that `row_major` takes.
    """

    partition: Partition
    chips: Chips
    ids: IntArray
    traffic: str
    cost: Cost
    row_major: Cost
    random: Cost
    input_messages: float
    encoding: str | None = None
    off_chip: tuple[str, ...] = ()

    @property
    def program(self) -> Program:
        """The program."""
        return self.partition.program

    @property
    def target(self) -> Target:
        """The target."""
        return self.partition.target

    def cores_of(self, soma: str) -> IntArray:
        """Core ids of one population, tile by tile."""
        first = self.partition.first_core()[soma]
        return self.ids[first : first + self.partition.tilings[soma].cores]

    def plain(self) -> dict[str, Any]:
        """JSON-able form that is stored with the program."""
        return {
            "version": VERSION,
            "target": self.target.name,
            "digest": self.program.digest(),
            "chips": self.chips.count,
            "encoding": self.encoding,
            "off_chip": list(self.off_chip),
            "populations": [
                {
                    "soma": name,
                    "parts": list(t.grid.parts),
                    "modes": list(t.modes),
                    "cores": self.cores_of(name).tolist(),
                }
                for name, t in self.partition.tilings.items()
            ],
            "traffic": self.traffic,
            "input_messages": self.input_messages,
            "cost": {key: attrs.asdict(getattr(self, key)) for key in ("cost", "row_major", "random")},
        }

    def attached(self) -> Program:
        """The program with this mapping in its notes."""
        return attrs.evolve(self.program, meta={**self.program.meta, META: self.plain()})


def map_program(
    program: Program,
    target: Target | str,
    *,
    rates: Rates | None = None,
    traffic_name: str = "measured",
    chips: int | None = None,
    encoding: str | None = None,
    seed: int = 0,
) -> Mapping:
    """Partition `program` and place it on the mesh of `target` (a Target, a built-in name or a .toml file).

    `rates`: spikes per sample of every neuron (`measured_rates`; uniform traffic without). `chips`: at most so many.
    Raises UnsupportedError that names what does not fit, by how much, and what would.
    """
    chip = target if isinstance(target, Target) else load_target(target)
    program = fitted(program, chip)
    spikes = uniform_rates(program) if rates is None else rates
    name = "uniform" if rates is None else traffic_name
    away: frozenset[str] = frozenset()
    while True:
        cut = partition(program, chip, encoding=encoding, off_chip=away)
        start = in_order(cut)
        box = Chips.of(chip, int(start.max()) // _size(cut) + 1, cut.cores)
        if chips is not None and box.count > chips:
            raise UnsupportedError(_too_many(program, cut, box, chips, encoding))
        messages = traffic(cut, spikes)
        ids = placed(
            messages, start, box, allowed=lambda found, cut=cut, box=box: chips_hold(cut, box, found), seed=seed
        )
        leaving = _leaving(cut, box, messages, ids) if chip.charges.slots_other_chip.value else frozenset()
        if leaving <= away:
            break
        away |= leaving
    rng = np.random.default_rng(seed)
    shuffled = [cost(messages, rng.permutation(start), box) for _ in range(SHUFFLES)]
    return Mapping(
        partition=cut,
        chips=box,
        ids=ids,
        traffic=name,
        cost=cost(messages, ids, box),
        row_major=cost(messages, start, box),
        random=_mean(shuffled),
        input_messages=input_messages(cut, spikes),
        encoding=encoding,
        off_chip=tuple(sorted(away)),
    )


def in_order(cut: Partition) -> IntArray:
    """Row-major ids: cores in program order, chip after chip, the next one where a chip's limits are reached."""
    size = _size(cut)
    limits = cut.target.limits
    most = limits.neurons_per_chip.value, limits.synapses_per_chip.value
    used, where, ids = [0, 0], 0, []
    for need in zip(*_per_core(cut), strict=True):
        if where % size == 0 or any(u + n > m for u, n, m in zip(used, need, most, strict=True)):
            where, used = -(-where // size) * size, [0, 0]
        used = [u + n for u, n in zip(used, need, strict=True)]
        ids.append(where)
        where += 1
    return np.array(ids, np.int64)


def _per_core(cut: Partition) -> tuple[list[int], list[int]]:
    rows = [
        np.concatenate([t.demand[key].ravel() for t in cut.tilings.values()]).tolist()
        for key in ("chip neurons", "chip synapses")
    ]
    return rows[0], rows[1]


def _size(cut: Partition) -> int:
    return Chips.of(cut.target, 1, cut.cores).cores


def chips_hold(cut: Partition, chips: Chips, ids: IntArray) -> bool:
    limits = cut.target.limits
    most = limits.neurons_per_chip.value, limits.synapses_per_chip.value
    return all(
        np.bincount(chips.chip(ids), weights=need).max() <= limit
        for need, limit in zip(_per_core(cut), most, strict=True)
    )


def _leaving(cut: Partition, chips: Chips, messages: Any, ids: IntArray) -> frozenset[str]:
    """Populations some of whose routes lead to another chip."""
    pairs = messages.tocoo()
    crossing = chips.chip(ids[pairs.row]) != chips.chip(ids[pairs.col])
    owner = np.concatenate([[name] * t.cores for name, t in cut.tilings.items()])
    return frozenset(owner[pairs.row[crossing]].tolist())


def _too_many(program: Program, cut: Partition, box: Chips, chips: int, encoding: str | None) -> str:
    helps = [f"{box.count} chips"]
    for bits in sorted((int(n) for n in cut.target.weights.widths.value), reverse=True):
        if all(c.bits <= bits for t in cut.tilings.values() for c in t.population.into):
            continue
        thin = partition(program, cut.target, encoding=encoding, bits=bits)
        if int(in_order(thin).max()) // box.cores < chips:
            helps.append(f"{bits}-bit weights ({thin.cores} cores)")
            break
    return (
        f"{cut.target.title}: {cut.cores} cores on {box.count} chips are needed, {chips} chips of {box.cores} cores "
        f"are given ({cut.cores - chips * box.cores:,} cores too many); these would fit: {', or '.join(helps)}"
    )


def _mean(costs: list[Cost]) -> Cost:
    return Cost(**{f.name: float(np.mean([getattr(c, f.name) for c in costs])) for f in attrs.fields(Cost)})
