"""What a transform is: a frozen dataclass whose fields are its options, from Program to Program.

A transform never changes its input and is exact: `keeps` says which integers stay the same. It raises
UnsupportedError, listing every node that stands in the way, rather than leave something half done.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import attrs
import numpy as np

from snn2chip.ir.nodes import Node
from snn2chip.ir.program import Edge, Program
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import IntArray

SETTINGS = tuple(field.name for field in attrs.fields(Soma))


@attrs.frozen(kw_only=True)
class Transform(ABC):
    """One exact rewriting of programs.

    `name` is its kebab-case name on the command line, `keeps` one sentence on what stays equal.
    """

    name: ClassVar[str]
    keeps: ClassVar[str]

    @abstractmethod
    def run(self, program: Program) -> Program:
        """Return the rewritten program; raises UnsupportedError naming every node that stands in the way."""

    def samples(self, program: Program, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Raw samples `[B, ...]` of `program` in the form that the rewritten program takes."""
        return dict(raw)


def rebuilt(
    program: Program, nodes: Iterable[Node], edges: Iterable[Edge], *, by: str, steps: int | None = None
) -> Program:
    """A program of the same target, records and notes; `meta["transforms"]` lists what was applied, in order."""
    applied = [*program.meta.get("transforms", ()), *([by] if by else [])]
    nodes = tuple(nodes)
    kept = {node.name for node in nodes}
    return Program(
        nodes=nodes,
        edges=tuple(edges),
        steps=program.steps if steps is None else steps,
        target=program.target,
        records=tuple(r for r in program.records if r.get("node", "") in kept or "node" not in r),
        meta={**program.meta, "transforms": applied},
    )


def rows(values: IntArray, steps: int) -> IntArray:
    """A stored parameter `[T or 1, ...]` with one row for each of `steps` steps."""
    return values if values.shape[0] == steps else np.broadcast_to(values, (steps, *values.shape[1:]))


def squeezed(values: IntArray) -> IntArray:
    """The stored form with one row where all rows are equal."""
    return values[:1] if (values == values[:1]).all() else values


def constant(values: IntArray | None) -> bool:
    """Whether a stored parameter is the same at every step."""
    return values is None or bool((values == values[:1]).all())
