"""A NIR graph without its subgraphs, and with its recurrences found.

Inner nodes keep their names behind their graph's (`lif1.w_rec`). Inputs and outputs of subgraphs are only passed
through, and several edges into one node are a sum. A loop is legal if exactly one neuron and linear maps are on it:
what its spikes give back arrives one step later.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import networkx as nx

from snn2chip.errors import InputError, UnsupportedError
from snn2chip.frontends.nir_file import NirGraph, NirNode, shown

FIRING = ("IF", "LIF", "CubaLIF", "Threshold")
SILENT = ("I", "LI", "CubaLI")
LINEAR = ("Linear", "Affine", "Conv1d", "Conv2d", "Scale", "Flatten", "Delay")


@attrs.frozen(kw_only=True)
class Flat:
    """Primitives by name in data-flow order, what each reads, and for neurons the maps of what comes back to them."""

    nodes: Mapping[str, NirNode]
    inputs: Mapping[str, tuple[str, ...]]
    loops: Mapping[str, tuple[str, ...]]


def flatten(graph: NirGraph) -> Flat:
    """Return the primitives of a graph; InputError lists edges and nodes that make no network, UnsupportedError loops
    that have no form."""
    work: Any = nx.DiGraph()
    problems: list[str] = []
    nodes: dict[str, NirNode] = {}
    passing: list[str] = []
    _collect(graph, work, nodes, passing, problems, depth=0)
    if problems:
        raise InputError(problems[:20])
    for name in passing:
        for src in list(work.predecessors(name)):
            for dst in list(work.successors(name)):
                if work.has_edge(src, dst):
                    problems.append(f"two ways lead from {shown(src)} to {shown(dst)}, which would count twice")
                work.add_edge(src, dst)
        work.remove_node(name)
    loops = _cut_loops(work, nodes, problems)
    problems += _loose_ends(work, nodes, loops)
    if problems:
        raise InputError(problems[:20])
    rank = {name: i for i, name in enumerate(sorted(work, key=_natural))}
    order = list(nx.lexicographical_topological_sort(work, key=rank.__getitem__))
    inputs = {name: tuple(sorted(work.predecessors(name), key=rank.__getitem__)) for name in order}
    return Flat(nodes={name: nodes[name] for name in (*order, *_on(loops))}, inputs=inputs, loops=loops)


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sort key in which 2 comes before 10."""
    parts = [part for part in re.split(r"(\d{1,15})", name) if part]
    return [(0, int(p), "") if p.isdecimal() and p.isascii() else (1, 0, p) for p in parts]


def _on(loops: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    return (name for chain in loops.values() for name in chain)


def _collect(
    graph: NirGraph, work: Any, nodes: dict[str, NirNode], passing: list[str], problems: list[str], *, depth: int
) -> None:
    """Add the nodes and edges of a graph and of those inside it."""
    where = f"{shown(graph.name)}: " if graph.name else ""
    for node in graph.nodes.values():
        if isinstance(node, NirGraph):
            _collect(node, work, nodes, passing, problems, depth=depth + 1)
            continue
        if node.name in nodes:
            problems.append(f"{where}two nodes are called {shown(node.name)}")
        work.add_node(node.name)
        nodes[node.name] = node
        if depth and node.kind in ("Input", "Output"):
            passing.append(node.name)
    for edge, count in Counter(graph.edges).items():
        if count > 1:
            problems.append(f"{where}the edge {shown(edge[0])} -> {shown(edge[1])} is there twice")
        ends = [_end(graph, name, side) for name, side in zip(edge, ("Output", "Input"), strict=True)]
        why = [text for end in ends if isinstance(end, list) for text in end]
        problems += [f"{where}edge {shown(edge[0])} -> {shown(edge[1])}: {text}" for text in why]
        if not why:
            work.add_edge(*ends)


def _end(graph: NirGraph, name: str, side: str) -> str | list[str]:
    """The primitive at one end of an edge (of a subgraph: its only input or output), or why there is none."""
    node = _found(graph, name)
    if node is None and graph.name and name.startswith(f"{graph.name}."):  # by its whole name, inside of a subgraph
        node = _found(graph, name[len(graph.name) + 1 :])
    if node is None or (isinstance(node, NirGraph) and not node.nodes):
        return [f"{shown(name)!r} does not exist"]
    while isinstance(node, NirGraph):
        found = [n for n in node.nodes.values() if isinstance(n, NirNode) and n.kind == side]
        if len(found) != 1:
            return [f"{shown(name)!r} has {len(found)} nodes of type {side}; name the one that is meant"]
        node = found[0]
    return node.name


def _found(graph: NirGraph, name: str) -> NirNode | NirGraph | None:
    """The node of this name in a graph, or behind a subgraph's name and a dot; every part has to be there."""
    if name in graph.nodes:
        return graph.nodes[name]
    for at in (i for i, letter in enumerate(name) if letter == "."):
        inner = graph.nodes.get(name[:at])
        if isinstance(inner, NirGraph) and (node := _found(inner, name[at + 1 :])) is not None:
            return node
    return None


def _cut_loops(work: Any, nodes: Mapping[str, NirNode], problems: list[str]) -> dict[str, tuple[str, ...]]:
    """Take the maps that feed a neuron back out of the graph; what is left has no cycle."""
    loops: dict[str, tuple[str, ...]] = {}
    refused: list[str] = []
    for group in list(nx.strongly_connected_components(work)):
        if len(group) == 1 and not work.has_edge(*(next(iter(group)),) * 2):
            continue
        firing = [name for name in group if nodes[name].kind in FIRING]
        others = [name for name in group if nodes[name].kind not in (*FIRING, *LINEAR)]
        names = ", ".join(shown(n) for n in sorted(group, key=_natural)[:6])
        if not firing:
            problems.append(f"the loop over {names} has no neuron, so nothing delays it")
        elif len(firing) > 1 or others:
            what = f"{len(firing)} populations" if len(firing) > 1 else f"a {nodes[others[0]].kind}"
            refused.append(f"the loop over {names} goes through {what}; one population may feed itself back")
        else:
            chain = _chain(work, firing[0], group)
            if chain is None:
                refused.append(f"the loop over {names} branches; one way back to {shown(firing[0])} has a form")
                continue
            loops[firing[0]] = chain
            work.remove_nodes_from(chain)
            if work.has_edge(firing[0], firing[0]):
                work.remove_edge(firing[0], firing[0])
    if problems or refused:
        raise InputError(problems) if problems else UnsupportedError(refused)
    return loops


def _chain(work: Any, neuron: str, group: set[str]) -> tuple[str, ...] | None:
    """The maps on the only way back to a neuron, in order; None if there are several or others read them."""
    chain: list[str] = []
    here = neuron
    while True:
        following = [n for n in work.successors(here) if n in group]
        if len(following) != 1 or (here != neuron and (work.in_degree(here) != 1 or work.out_degree(here) != 1)):
            return None
        here = following[0]
        if here == neuron:
            return tuple(chain) if len(chain) == len(group) - 1 else None
        chain.append(here)


def _loose_ends(work: Any, nodes: Mapping[str, NirNode], loops: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Nodes that nothing feeds or nothing reads: an exporter that loses a connection leaves such a file behind."""
    bad = []
    looped = set(_on(loops))
    for name in sorted(set(nodes) - looped, key=_natural):
        if name not in work:
            continue
        kind = nodes[name].kind
        if kind != "Input" and not work.in_degree(name):
            bad.append(f"{nodes[name].label}: nothing feeds it; a connection is missing")
        if kind != "Output" and not work.out_degree(name):
            bad.append(f"{nodes[name].label}: nothing reads it; a connection is missing")
        if kind == "Input" and work.in_degree(name):
            bad.append(f"{nodes[name].label}: an input reads something")
        if kind == "Output" and work.out_degree(name):
            bad.append(f"{nodes[name].label}: something reads an output")
    for kind in ("Input", "Output"):
        count = sum(nodes[name].kind == kind for name in work)
        if count != 1:
            bad.append(f"the network has {count} nodes of type {kind}; exactly one can be compiled")
    return bad
