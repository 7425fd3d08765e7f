"""Are the test programs worth running? Spikes, exact ties, saturations, wraps, floors and clips per program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Protocol

import attrs

from snn2chip.ir.program import Program
from snn2chip.ir.types import IntArray
from snn2chip.testing.witness import Witness

KINDS = ("spike", "tie", "saturation", "wrap", "floor", "clip")


class Runnable(Protocol):
    """A program with coded inputs."""

    @property
    def program(self) -> Program: ...

    @property
    def coded(self) -> Mapping[str, IntArray]: ...


@attrs.frozen(kw_only=True)
class Activity:
    """How many of `programs` show each kind of event, and how many of `somas` (those that can fire) do fire."""

    programs: int
    somas: int
    fired: int
    having: Mapping[str, int]

    def share(self, kind: str) -> float:
        """Share of the programs in which `kind` happens at least once."""
        return self.having.get(kind, 0) / max(1, self.programs)

    @property
    def fired_share(self) -> float:
        """Share of the somas that fire at least once."""
        return self.fired / max(1, self.somas)

    def __str__(self) -> str:
        shares = ", ".join(f"{kind} {self.share(kind):.0%}" for kind in KINDS)
        return f"{self.programs} programs, {self.fired_share:.0%} of {self.somas} somas fire; programs with {shares}"


def activity(cases: Iterable[Runnable]) -> Activity:
    """Run every case with the witness and count what happens."""
    programs = somas = fired = 0
    having: Counter[str] = Counter()
    for case in cases:
        witness = Witness()
        witness.run(case.program, case.coded)
        programs += 1
        able = [s.name for s in case.program.somas if s.fire != "none"]
        somas += len(able)
        fired += sum(witness.events[name]["spike"] > 0 for name in able)
        total = sum(witness.events.values(), Counter())
        having.update(kind for kind in KINDS if total[kind])
    return Activity(programs=programs, somas=somas, fired=fired, having=dict(having))
