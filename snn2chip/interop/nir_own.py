"""What snn2chip keeps beside the nodes of a `.nir` file: the whole network, so that reading it back loses nothing.

    metadata/snn2chip/{kind: graph | program, version, header: JSON, arrays/<number>, note}

The header is that of a checkpoint's graph or of a program file, without anything that could run. It holds as long as
the nodes beside it are those it was written with; a file whose nodes were changed is read by a profile like any other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from snn2chip.errors import FileFormatError, InputError
from snn2chip.frontends.nir_file import NirGraph, NirNode
from snn2chip.ir.files import from_header, to_header
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.graph_files import from_parts, to_parts
from snn2chip.ir.program import Program
from snn2chip.ir.said import said

VERSION = 1
NOTE = "written by snn2chip; the nodes say what NIR can say, the header holds the whole network"


def metadata_of(network: LayerGraph | Program) -> dict[str, Any]:
    """The metadata of a network's file."""
    if isinstance(network, Program):
        header, stored = to_header(network)
        kind = "program"
    else:
        header, tensors = to_parts(network)
        kind, stored = "graph", {key: value.numpy() for key, value in tensors.items()}
    names = sorted(stored)
    arrays = {str(i): np.atleast_1d(stored[name]) for i, name in enumerate(names)}
    shapes = {name: list(np.shape(stored[name])) for name in names}
    text = json.dumps({"header": header, "arrays": names, "shapes": shapes}, sort_keys=True)
    return {"snn2chip": {"kind": kind, "version": VERSION, "header": text, "arrays": arrays, "note": NOTE}}


def own_network(graph: NirGraph, *, path: str) -> LayerGraph | Program | None:
    """The network in a file that snn2chip wrote, None for the files of others.

    Raises FileFormatError where it is damaged, InputError where it does not belong to the nodes beside it.
    """
    own = graph.metadata.get("snn2chip")
    if own is None:
        return None
    network = _network(own, path)
    from snn2chip.interop.nir_graph import graph_nodes
    from snn2chip.interop.nir_program import program_nodes

    made = program_nodes(network) if isinstance(network, Program) else graph_nodes(network)
    if changed := _changed(graph, made.nodes, made.edges):
        raise InputError(
            f"{path}: {changed} is no longer as snn2chip wrote it; name the profile of whoever changed the file, and "
            "the nodes are read instead"
        )
    return network


def _network(own: Any, path: str) -> LayerGraph | Program:
    try:
        if (version := int(np.asarray(own["version"]).reshape(()))) != VERSION:
            raise FileFormatError(f"{path}: written by another version of snn2chip ({version})")
        header = json.loads(own["header"])
        stored = {
            name: np.asarray(own["arrays"][str(i)]).reshape(header["shapes"][name])
            for i, name in enumerate(header["arrays"])
        }
        if own["kind"] == "program":
            return from_header(header["header"], stored, path=path)
        tensors = {name: torch.tensor(np.array(value, order="C")) for name, value in stored.items()}
        return from_parts(header["header"], tensors, path=path)
    except (LookupError, ValueError, TypeError, AttributeError, RecursionError, ArithmeticError) as error:
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError(f"{path}: what snn2chip kept in the metadata is damaged ({said(error)})") from error


def _changed(graph: NirGraph, nodes: Mapping[str, Any], edges: Any) -> str:
    """The first node that differs from what the network would be written as; empty if none does."""
    if set(graph.nodes) != set(nodes) or set(graph.edges) != {tuple(edge) for edge in edges}:
        return "the list of nodes or edges"
    for name, fields in nodes.items():
        node = graph.nodes[name]
        if not isinstance(node, NirNode) or node.kind != fields["type"]:
            return f"node {name!r}"
        for key, value in fields.items():
            if key == "type":
                continue
            found = node.fields.get(key)
            same = found == value if isinstance(value, str) else found is not None and np.array_equal(found, value)
            if not same:
                return f"{key} of node {name!r}"
    return ""
