"""What is in a `.nir` file, before anything is assumed about it: `snn2chip inspect X.nir`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from snn2chip.errors import Snn2ChipError
from snn2chip.frontends.nir import fitting_profiles
from snn2chip.frontends.nir_file import NirGraph, NirNode, read_nir, shown


def look(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A JSON-able description: nodes with the ranges of their fields, edges, and the profiles that the values fit."""
    graph = read_nir(path)
    nodes: list[dict[str, Any]] = [
        {"name": shown(node.name), "type": node.kind, "fields": {shown(k): _brief(v) for k, v in node.fields.items()}}
        for node in _primitives(graph)
    ]
    try:
        fits = fitting_profiles(graph)
        fit = f"values fit: {', '.join(fits) or 'no profile as they are'}"
    except Snn2ChipError as error:
        fits, fit = [], f"no network: {error}"
    own = graph.metadata.get("snn2chip")
    holds = own.get("kind") if isinstance(own, dict) else None
    edges = [[shown(a), shown(b)] for a, b in graph.edges]
    rows = [f"  {n['name']} = {n['type']}  {'  '.join(f'{k}={v}' for k, v in n['fields'].items())}" for n in nodes]
    text = "\n".join(["graph nir", *rows, *(f"  {a} -> {b}" for a, b in edges)])
    notes = [f"version {shown(graph.version) or 'not given'}", fit]
    notes += [f"written by snn2chip, holds its {holds}"] if isinstance(holds, str) else []
    return {
        "kind": "nir",
        "name": Path(path).stem,
        "version": shown(graph.version),
        "nodes": nodes,
        "edges": edges,
        "profiles": fits,
        "notes": notes,
        "text": text,
    }


def _primitives(graph: NirGraph) -> Iterator[NirNode]:
    for node in graph.nodes.values():
        if isinstance(node, NirGraph):
            yield from _primitives(node)
        else:
            yield node


def _brief(value: Any) -> str:
    if isinstance(value, str):
        return shown(value)
    array = np.asarray(value)
    if array.size <= 4:
        return f"{array.ravel().tolist() if array.ndim else array.item()}"
    low, high = array.min(), array.max()
    span = f"{low:.4g}" if low == high else f"{low:.4g}..{high:.4g}"
    return f"{list(array.shape)} {span}"
