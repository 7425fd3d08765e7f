"""The integer program: a graph of Input, Host, Synapse, Soma, Product and Output nodes.

Built by hand or by the compiler, validated on construction (every breach at once), never changed.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import attrs

from snn2chip.errors import ParameterError, ProgramError
from snn2chip.ir.nodes import Host, Input, Node, Output, Synapse
from snn2chip.ir.soma import Soma


class Edge(NamedTuple):
    """A connection `src -> dst`; a payload edge may carry a logical `delay` in steps (0: same step)."""

    src: str
    dst: str
    delay: int = 0


def _nodes(items: Iterable[Node]) -> tuple[Node, ...]:
    try:
        return tuple(items)
    except TypeError as error:
        raise ParameterError(f"nodes must be a list of nodes, got {reprlib.repr(items)}") from error


def _records(items: Iterable[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    return tuple(items)


def _edges(items: Iterable[Any]) -> tuple[Edge, ...]:
    made, item = [], items
    try:
        for item in items:
            made.append(Edge(*item))
    except TypeError as error:
        raise ParameterError(f"edges are (src, dst) or (src, dst, delay), got {reprlib.repr(item)}") from error
    return tuple(made)


@attrs.frozen(kw_only=True, eq=False, slots=False)
class Program:
    """A network of integers over `steps` logical steps per sample.

    `nodes` have unique names; `edges` are `(src, dst)` or `(src, dst, delay)`. `target` names the chip
    the compiler had in mind; `records` keep its decisions; `meta` holds JSON-able notes (classes, source).
    Raises ProgramError listing every breach of the contract.
    """

    nodes: tuple[Node, ...] = attrs.field(converter=_nodes)
    edges: tuple[Edge, ...] = attrs.field(converter=_edges)
    steps: int
    target: str = "ideal"
    records: tuple[Mapping[str, Any], ...] = attrs.field(default=(), converter=_records)
    meta: Mapping[str, Any] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        from snn2chip.ir.validate import breaches

        found = breaches(self)
        if found:
            raise ProgramError(found)

    @cached_property
    def by_name(self) -> dict[str, Node]:
        """Nodes by name."""
        return {node.name: node for node in self.nodes}

    def __getitem__(self, name: str) -> Node:
        return self.by_name[name]

    @cached_property
    def into(self) -> dict[str, tuple[Edge, ...]]:
        """Edges that enter each node, in the order given."""
        found: dict[str, list[Edge]] = {node.name: [] for node in self.nodes}
        for edge in self.edges:
            found[edge.dst].append(edge)
        return {name: tuple(edges) for name, edges in found.items()}

    @cached_property
    def out_of(self) -> dict[str, tuple[Edge, ...]]:
        """Edges that leave each node, in the order given."""
        found: dict[str, list[Edge]] = {node.name: [] for node in self.nodes}
        for edge in self.edges:
            found[edge.src].append(edge)
        return {name: tuple(edges) for name, edges in found.items()}

    @cached_property
    def inputs(self) -> tuple[Input | Host, ...]:
        """Payload sources that take samples."""
        return tuple(n for n in self.nodes if isinstance(n, (Input, Host)))

    @cached_property
    def somas(self) -> tuple[Soma, ...]:
        """Somas in the order of `order`."""
        return tuple(n for n in self.order if isinstance(n, Soma))

    @cached_property
    def synapses(self) -> tuple[Synapse, ...]:
        """Synapses in the order of `order`."""
        return tuple(n for n in self.order if isinstance(n, Synapse))

    @cached_property
    def outputs(self) -> tuple[Output, ...]:
        """Outputs in the order given."""
        return tuple(n for n in self.nodes if isinstance(n, Output))

    @cached_property
    def order(self) -> tuple[Node, ...]:
        """Nodes so that every undelayed edge points forward; ties keep the order given."""
        from snn2chip.ir.order import topological

        return tuple(self.by_name[name] for name in topological(self))

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of what each node makes (payload or current), without batch and time."""
        from snn2chip.ir.validate import infer_shapes

        return infer_shapes(self)[0]

    def sources(self, name: str) -> list[Node]:
        """Nodes that feed `name`, in edge order."""
        return [self.by_name[edge.src] for edge in self.into[name]]

    @property
    def name(self) -> str:
        """Name of the program, from its notes."""
        return str(self.meta.get("name", "program"))

    def save(self, path: Any, *, golden: int = 0, inputs: Any = None, backend: str = "reference") -> None:
        """Write one `.s2c` file; `golden=N` also stores N inputs with the outputs that `backend` gives.

        `inputs` are raw samples `[>=N, ...]` (random in-range samples when left out).
        """
        from snn2chip.golden import save_program

        save_program(self, path, golden=golden, inputs=inputs, backend=backend)

    def text(self) -> str:
        """Stable text form, one line per node."""
        from snn2chip.ir.text import program_text

        return program_text(self)

    def digest(self) -> str:
        """SHA-256 of everything that decides what the program computes (not notes or records)."""
        from snn2chip.ir.files import digest

        return digest(self)

    def _repr_html_(self) -> str:
        from snn2chip.reports.snippets import program_snippet

        return program_snippet(self)

    def __repr__(self) -> str:
        neurons = sum(s.size for s in self.nodes if isinstance(s, Soma))
        return f"Program({self.name!r}, {len(self.nodes)} nodes, {neurons} neurons, steps={self.steps})"
