"""Orders of a program's graph: topological order and feedback components."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snn2chip.ir.program import Program


def _graph(program: Program, *, undelayed_only: bool) -> Any:
    import networkx as nx

    graph = nx.MultiDiGraph()
    graph.add_nodes_from(node.name for node in program.nodes)
    graph.add_edges_from((e.src, e.dst) for e in program.edges if e.delay == 0 or not undelayed_only)
    return graph


def topological(program: Program) -> list[str]:
    """Names so that every undelayed edge points forward; ties keep the order the nodes were given in."""
    import networkx as nx

    rank = {node.name: i for i, node in enumerate(program.nodes)}
    graph = _graph(program, undelayed_only=True)
    return list(nx.lexicographical_topological_sort(graph, key=rank.__getitem__))


def undelayed_cycle(program: Program) -> list[str] | None:
    """Names along one cycle without any delay, or None."""
    import networkx as nx

    graph = _graph(program, undelayed_only=True)
    if nx.is_directed_acyclic_graph(graph):
        return None
    return [edge[0] for edge in nx.find_cycle(graph)]


def components(program: Program) -> list[tuple[list[str], bool]]:
    """Strongly connected components in the order data flows: `(names, has feedback)`.

    Inside a component names are in topological order of the undelayed edges. A component without
    feedback is one node and may be evaluated for all steps at once.
    """
    import networkx as nx

    position = {name: i for i, name in enumerate(topological(program))}
    parts = nx.condensation(_graph(program, undelayed_only=False))
    members = {c: sorted(data["members"], key=position.__getitem__) for c, data in parts.nodes(data=True)}
    order = nx.lexicographical_topological_sort(parts, key=lambda c: position[members[c][0]])
    return [(members[c], len(members[c]) > 1) for c in order]
