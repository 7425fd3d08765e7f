"""Mappings stored with a program, checked again when they are read: digest, every limit, one core per tile."""

from __future__ import annotations

from collections.abc import Mapping as MappingType
from typing import Any

import numpy as np

from snn2chip.errors import FileFormatError, InputError
from snn2chip.ir.program import Program
from snn2chip.ir.said import said
from snn2chip.mapping.assign import META, VERSION, Mapping, chips_hold
from snn2chip.mapping.demand import Population, breached
from snn2chip.mapping.grid import Grid
from snn2chip.mapping.mesh import Chips, Cost
from snn2chip.mapping.partition import Partition, Tiling
from snn2chip.mapping.target import Target
from snn2chip.mapping.target_file import load_target, target_names
from snn2chip.mapping.wiring import connections


def load_mapping(program: Program, target: Target | str | None = None) -> Mapping:
    """The mapping stored with `program`; `target` where it was none of the built-in ones.

    Raises InputError if there is none or it belongs to another program, FileFormatError if it breaks a limit.
    """
    stored = program.meta.get(META)
    if not isinstance(stored, MappingType):
        raise InputError(f"{program.name}: holds no placement; map it with `snn2chip map`")
    try:
        return _read(program, stored, target)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError) as error:
        if isinstance(error, (InputError, FileFormatError)):
            raise
        raise FileFormatError(f"{program.name}: the stored placement is damaged ({said(error)})") from error


def _read(program: Program, stored: MappingType[str, Any], target: Target | str | None) -> Mapping:
    if stored["version"] != VERSION:
        raise FileFormatError(f"{program.name}: placement of version {stored['version']!r}; known: {VERSION}")
    if stored["digest"] != program.digest():
        raise InputError(f"{program.name}: was changed after it was mapped; map it again")
    if target is None and stored["target"] not in target_names():
        raise InputError(f"{program.name}: was mapped to {stored['target']!r}; name the target file it came from")
    chip = target if isinstance(target, Target) else load_target(target or stored["target"])
    if chip.name != stored["target"]:
        raise InputError(f"{program.name}: was mapped to {stored['target']!r}, not to {chip.name!r}")
    cut = restored(program, chip, stored)
    box = Chips.of(chip, int(stored["chips"]), cut.cores)
    ids = np.array([i for row in stored["populations"] for i in row["cores"]], np.int64)
    if len(ids) != cut.cores or len(np.unique(ids)) != len(ids) or ids.min() < 0 or ids.max() >= box.count * box.cores:
        raise FileFormatError(f"{program.name}: the stored placement does not give every tile a core of its own")
    if not chips_hold(cut, box, ids):
        raise FileFormatError(f"{program.name}: the stored placement puts too much on one chip")
    costs = {key: Cost(**{k: float(v) for k, v in row.items()}) for key, row in stored["cost"].items()}
    return Mapping(
        partition=cut,
        chips=box,
        ids=ids,
        traffic=str(stored["traffic"]),
        input_messages=float(stored["input_messages"]),
        encoding=stored["encoding"],
        off_chip=tuple(stored["off_chip"]),
        **costs,
    )


def restored(program: Program, target: Target, stored: MappingType[str, Any]) -> Partition:
    """The partition of stored `populations`, with every limit checked again."""
    rows = {row["soma"]: row for row in stored["populations"]}
    if set(rows) != {s.name for s in program.somas}:
        raise FileFormatError(f"{program.name}: the stored placement is of other populations")
    wires = connections(program, target, encoding=stored["encoding"])
    people = {s.name: Population(soma=s, target=target, into=wires[s.name]) for s in program.somas}
    grids = {name: Grid(people[name].shape, tuple(int(n) for n in row["parts"])) for name, row in rows.items()}  # type: ignore[arg-type]
    for name, grid in grids.items():
        if not all(1 <= p <= n for p, n in zip(grid.parts, grid.shape, strict=True)):
            raise FileFormatError(f"{program.name}: {name} is cut into {grid.parts} parts of {grid.shape}")
    tilings = {}
    for soma in program.somas:
        out = [
            (c, rows[dst]["modes"][k], grids[dst])
            for dst, into in wires.items()
            for k, c in enumerate(into)
            if c.src == soma.name
        ]
        person, modes = people[soma.name], tuple(rows[soma.name]["modes"])
        if modes not in person.mode_choices():
            raise FileFormatError(f"{program.name}: {soma.name} has axon modes {modes}")
        demand = person.demand(grids[soma.name], modes, out, off_chip=soma.name in stored["off_chip"])
        if found := breached(demand, person.limits):
            raise FileFormatError(f"{program.name}: the stored placement of {soma.name} breaks {', '.join(found)}")
        tilings[soma.name] = Tiling(population=person, grid=grids[soma.name], modes=modes, demand=demand)
    return Partition(program=program, target=target, tilings=tilings)
