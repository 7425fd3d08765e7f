"""Damage to a `.nir` file that keeps it one of nodes: fields of other lengths, missing or too many, ghost edges."""

from __future__ import annotations

import io
import random
from typing import Any

import h5py
import numpy as np

FIELDS = ("bias", "w_in", "v_leak", "tau", "v_threshold", "padding_mode", "ceil_mode", "input_shape", "foo")
ENDS = ("q.{0}", "{0}.lif", "{0}.{0}", "nowhere", "{0}.", ".{0}")


def nir_damage(data: bytes, rng: random.Random) -> bytes:
    """One or two fields or edges of a sound file changed; the kinds of its nodes stay."""
    stream = io.BytesIO(data)
    with h5py.File(stream, "r+") as file:
        graphs, nodes = _groups(file["node"])
        for _ in range(rng.choice((1, 1, 2))):
            node = rng.choice(nodes)
            fields = sorted(key for key in node if key != "type" and isinstance(node[key], h5py.Dataset))
            way = rng.randrange(6)
            if way == 0:
                graph = rng.choice(graphs)
                _edge(graph, sorted(graph["nodes"]), rng)
            elif way == 1:
                _put(node, rng.choice(FIELDS), rng.choice((1, 0.5, "circular", np.ones(3))))
            elif fields and way == 2:
                del node[rng.choice(fields)]
            elif fields:
                key = rng.choice(fields)
                _put(node, key, _resized(node[key], rng))
    return stream.getvalue()


def _groups(graph: Any) -> tuple[list[Any], list[Any]]:
    """A graph and those inside it, and all their primitives."""
    graphs, nodes = [graph], []
    for key in sorted(graph["nodes"]):
        inner = graph["nodes"][key]
        if "nodes" in inner:
            more = _groups(inner)
            graphs += more[0]
            nodes += more[1]
        else:
            nodes.append(inner)
    return graphs, nodes


def _put(node: Any, key: str, value: Any) -> None:
    if key in node:
        del node[key]
    node.create_dataset(key, data=value)


def _resized(old: Any, rng: random.Random) -> Any:
    """One row more or less, a plane turned, an axis too many, or one number for all."""
    if old.dtype.kind not in "biuf":
        return "other"
    array = np.asarray(old[()])
    rows = array.reshape(1) if not array.ndim else array
    made = (rows[:-1], np.concatenate([rows, rows[:1]]), rows.T, rows[None], rows[:1], np.resize(rows, rows.size + 1))
    return rng.choice(made)


def _edge(group: Any, names: list[str], rng: random.Random) -> None:
    """An end of an edge moved to where nothing is, to another node, or to the edge's own other end."""
    texts = [[end.decode("utf8", "replace") for end in edge] for edge in group["edges"][()].tolist()]
    if not texts:
        return
    edge, side = rng.randrange(len(texts)), rng.randrange(2)
    ghost = rng.choice(ENDS).format(texts[edge][side])
    texts[edge][side] = rng.choice((ghost, ghost, rng.choice(names), texts[edge][1 - side]))
    del group["edges"]
    group.create_dataset("edges", data=np.array(texts, dtype=object), dtype=h5py.string_dtype())
