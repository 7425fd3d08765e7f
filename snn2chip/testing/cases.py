"""The deterministic test programs of the conformance suite.

`covering_cases()`: about ninety programs so that every legal pair of levels of every two factors (soma, synapse,
program; see `factors`) occurs at least once. `cross_cases()`: the full legal cross of what decides a soma's
arithmetic, many somas side by side in one program.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from itertools import product as cross
from typing import Any

import attrs
import numpy as np

from snn2chip.ir.host import encode
from snn2chip.ir.program import Program
from snn2chip.ir.types import IntArray
from snn2chip.testing.draft import Draft
from snn2chip.testing.factors import Space, full_space, soma_space
from snn2chip.testing.pairwise import covering_rows
from snn2chip.trace import Trace

SUBJECT = "subject"
"""Name of the soma under test."""


@attrs.frozen(kw_only=True, slots=False, eq=False, repr=False)
class Case:
    """One test program with its inputs; `row` says which levels it realises."""

    name: str
    program: Program
    coded: Mapping[str, IntArray]
    row: Mapping[str, str]
    raw: Mapping[str, Any] = attrs.field(factory=dict)

    @cached_property
    def expected(self) -> Trace:
        """What the reference says."""
        from snn2chip_backends.reference import ReferenceBackend

        return ReferenceBackend().run(self.program, self.coded)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {list(array.shape)}" for name, array in self.coded.items())
        return f"Case {self.name} with inputs {sizes}\n{self.program.text()}"


def make_case(name: str, draft: Draft, row: Mapping[str, str]) -> Case:
    """Finish a draft."""
    program = draft.program()
    coded = {n.name: np.asarray(encode(n, draft.raw[n.name], draft.steps)) for n in program.inputs}
    return Case(name=name, program=program, coded=coded, row=dict(row), raw=dict(draft.raw))


@lru_cache(maxsize=1)
def covering_cases() -> tuple[Case, ...]:
    """The pairwise covering set."""
    return tuple(row_case(i, row) for i, row in enumerate(covering_rows(full_space())))


def row_case(index: int, row: Mapping[str, str]) -> Case:
    """The program of one row of levels."""
    rng = np.random.default_rng(1000 + index)
    name = f"{index:03d}-{row['structure']}-{row['kind']}-{row['fire']}-{row['reset']}"
    draft = Draft(rng, steps=int(row["steps"]), batch=int(row["batch"]), name=name)
    _Structure(draft, row).build()
    return make_case(name, draft, row)


class _Structure:
    """Input, synapse, the soma under test, and what surrounds them."""

    def __init__(self, draft: Draft, row: Mapping[str, str]) -> None:
        self.draft, self.row, self.rng = draft, row, draft.rng
        self.geometry = self._geometry()

    def _geometry(self) -> dict[str, Any]:
        row, rng = self.row, self.rng
        if row["kind"] == "linear":
            return {"units": 6}
        if row["kind"] not in ("conv2d", "sumpool"):
            return {}
        found: dict[str, Any] = {"kernel": (2, 2) if row["kind"] == "sumpool" else (3, 2)}
        found["stride"] = [(2, 1), (2, 2), (1, 2)][rng.integers(3)] if row["stride"] == "strided" else (1, 1)
        if row["padding"] == "yes":
            found["padding"] = [(1, 0), (0, 1), (1, 1)][rng.integers(3)]
        if row["dilation"] == "yes":
            found["dilation"] = [(2, 1), (1, 2), (2, 2)][rng.integers(3)]
        if row["kind"] == "conv2d":
            found["groups"] = {"one": 1, "two": 2, "depthwise": 4}[row["groups"]]
            found["units"] = {"one": 3, "two": 6, "depthwise": 4 * int(rng.integers(1, 3))}[row["groups"]]
        return found

    def _shape(self) -> tuple[int, ...]:
        row, rng = self.row, self.rng
        if row["kind"] == "linear":
            return [(8,), (3, 2, 2)][rng.integers(2)]
        if row["kind"] in ("conv2d", "sumpool"):
            return (2 if row["groups"] == "one" else 4, 5, 4)
        return [(4, 3), (4, 3, 2)][rng.integers(2)]

    def _input(self, name: str, shape: tuple[int, ...]) -> str:
        row, host = self.row, self.row["structure"] == "host"
        return self.draft.input(name, shape, source=row["source"], coding=row["coding"], host=host)

    def _current(self, name: str, source: str, *, delay: int = 0) -> str:
        """The synapse (or product) of the row."""
        if self.row["kind"] not in ("product", "gate"):
            return self.draft.synapse(name, source, self.row, delay=delay, **self.geometry)
        shape = self.draft.shape(source)
        if delay and self.row["kind"] == "product":  # a payload times its own past
            return self.draft.product(name, source, source, shift=int(self.rng.integers(0, 4)), delay=delay)
        other = shape if self.row["kind"] == "product" else shape[:1]
        partner = f"{name}_q"
        self.draft.input(partner, other, source=self.row["source"], coding=self.row["coding"])
        return self.draft.product(name, source, partner, shift=int(self.rng.integers(0, 4)), delay=delay)

    def build(self) -> None:
        draft, structure = self.draft, self.row["structure"]
        source = self._input("in", self._shape())
        if structure == "residual":
            source = draft.relay("early", source)
        delay = int(self.rng.integers(1, 3)) if structure == "delay" else 0
        into = [self._current("synapse", source, delay=delay)]
        if structure == "delay":
            into.append(self._current("prompt", source))
        elif structure == "two-inputs":
            into.append(self._current("second", self._input("in2", draft.shape(source))))
        elif structure == "residual":
            into.append(self._current("long", draft.relay("hop", source)))
        subject = draft.soma(SUBJECT, into, self.row)
        draft.output(subject)
        after = {"weights": "ternary"}
        if structure == "recurrent":
            draft.feedback("back", subject, subject, after, delay=int(self.rng.integers(1, 3)))
        elif structure == "loop":
            there = draft.synapse("there", subject, {**after, "kind": "identity"})
            draft.soma("partner", [there], {"theta": "positive", "levels": "many"})
            draft.feedback("back", "partner", subject, after, delay=int(self.rng.integers(1, 3)))
        elif structure == "chain":
            draft.soma("next", [draft.synapse("onward", subject, {"weights": "int4"}, units=5)], {"levels": "many"})
            draft.soma("readout", [draft.synapse("last", "next", {"weights": "int8"}, units=3)], {"fire": "none"})
            draft.output("readout")
        elif structure == "shared":
            draft.output(draft.soma("twin", into, {"levels": "many", "leak": "decay"}))


CROSS = ("ladder", "fire", "reset", "leak", "syn_leak", "window", "v_min")
"""Factors of the full cross; the other soma factors take turns."""


@lru_cache(maxsize=1)
def cross_cases() -> tuple[Case, ...]:
    """The full legal cross of `CROSS`, many somas side by side behind one synapse."""
    return tuple(_cross(per_program=60))


def _cross(*, per_program: int) -> Iterator[Case]:
    space = soma_space()
    rows = list(_cross_rows(space))
    for i in range(0, len(rows), per_program):
        rng = np.random.default_rng(50_000 + i)
        draft = Draft(rng, steps=3, batch=2, name=f"cross-{i:05d}")
        source = draft.input("in", (3, 2, 1), source="signed")
        current = draft.synapse("synapse", source, {"kind": "conv2d", "weights": "int8"}, kernel=(1, 1), units=3)
        for j, row in enumerate(rows[i : i + per_program]):
            draft.soma(f"soma{j}", [current], row)
        draft.output("soma0")
        yield make_case(draft.name, draft, {"steps": "3", "batch": "2"})


def _cross_rows(space: Space) -> Iterator[dict[str, str]]:
    rest = [f for f in space.factors if f not in CROSS]
    for n, levels in enumerate(cross(*(space.factors[f] for f in CROSS))):
        row: dict[str, str] = {}
        for item in zip(CROSS, levels, strict=True):
            if item[1] not in space.open_levels(row, item[0]):
                break
            row[item[0]] = item[1]
        else:
            turn = random.Random(n)
            for factor in rest:
                row[factor] = turn.choice(space.open_levels(row, factor))
            yield row
