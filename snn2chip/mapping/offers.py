"""Transforms that would help a program onto a target, tried and not only guessed."""

from __future__ import annotations

from functools import cached_property

from snn2chip.errors import ProgramError, UnsupportedError
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma

LONGEST = 1024
"""Most sub-steps for which serialize-levels is tried: its windows grow with their square."""


class Offers:
    """What serialize-levels and fuse-time make of one program, computed on first use."""

    def __init__(self, program: Program) -> None:
        self.program = program

    @cached_property
    def serialised(self) -> Program | str:
        """The program with binary level counts, or why not."""
        levels = max((int(s.levels.max()) for s in self.program.somas if s.fire == "levels"), default=1)
        if levels * self.program.steps > LONGEST:
            return f"{levels} levels would take {levels * self.program.steps} steps"
        return self._tried("serialize-levels")

    @cached_property
    def fused(self) -> Program | str:
        """The program in one graded step, or why not."""
        return self._tried("fuse-time")

    def _tried(self, name: str) -> Program | str:
        from snn2chip.transforms import transform

        try:
            return transform(self.program, name)
        except (UnsupportedError, ProgramError) as error:
            return error.breaches[0]

    def binary_levels(self, soma: Soma, *, windows: bool) -> str:
        """How the level count of `soma` can leave as binary spikes."""
        if isinstance(self.serialised, str):
            return f"the transform 'serialize-levels' does not apply ({self.serialised})"
        steps = f"{self.serialised.steps} steps instead of {self.program.steps}"
        made = self.serialised[soma.name]
        needs = "" if windows or getattr(made, "window", None) is None else "; it gathers its current in a window then"
        return f"the transform 'serialize-levels' sends it as binary spikes, in {steps}{needs}"

    def single_step(self, soma: Soma, *, graded: bool) -> str:
        """How `soma` can do without a window or parameters per step."""
        if isinstance(self.fused, str):
            return f"the transform 'fuse-time' does not apply ({self.fused})"
        if self.fused.steps == self.program.steps:
            return "no transform removes it; train or convert with one step"
        return "the transform 'fuse-time' makes one graded step of it" + (
            "" if graded else " (whose payload is not binary)"
        )
