"""Read a `.nir` file (HDF5) into plain records, with h5py alone and without trusting the file.

Layout: `/version`, `/node/{type, edges, nodes/<name>/{type, <field>}}`, a node of type NIRGraph holds nodes again,
`metadata` groups hold anything. Only hard links to plain datasets of bounded size and known filters are read, so a file
can neither pull in other files or code nor exhaust memory. Source: nir, `serialization.py`, version 1.0.8.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import h5py
import numpy as np

from snn2chip.errors import FileFormatError
from snn2chip.frontends.netx_file import MAX_ELEMENTS, MAX_RATIO, READ_ERRORS, SMALL, broken
from snn2chip.frontends.netx_heap import unreadable
from snn2chip.frontends.nir_texts import Damaged, Texts

MAX_NODES, MAX_EDGES, MAX_DEPTH = 10_000, 100_000, 8
MAX_NAME = 500
MAX_TEXT = 1 << 24
FILTERS = (1, 2, 3, 32000)
"""Deflate, shuffle, checksum, LZF: the filters that come with h5py; others would be loaded from somewhere."""
GRAPH = "NIRGraph"


@attrs.frozen(kw_only=True)
class NirNode:
    """A primitive: its type, its fields by name (arrays or texts), and its dotted name in the file."""

    name: str
    kind: str
    fields: Mapping[str, Any]

    @property
    def label(self) -> str:
        """Name and type, for messages."""
        return f"{shown(self.name)} ({self.kind})"


@attrs.frozen(kw_only=True)
class NirGraph:
    """Nodes by name (primitives or graphs), edges as pairs of names, and the metadata of the graph."""

    name: str
    nodes: Mapping[str, NirNode | NirGraph]
    edges: tuple[tuple[str, str], ...]
    metadata: Mapping[str, Any]
    version: str = ""


def shown(name: str) -> str:
    """A name of the file as a message may show it."""
    text = name.encode("unicode_escape").decode("ascii")
    return text if len(text) <= 80 else f"{text[:77]}..."


def read_nir(path: str | os.PathLike[str]) -> NirGraph:
    """Read the graph of a `.nir` file.

    Raises FileFormatError, naming all places at once, for a file that is missing, truncated, damaged or hostile.
    """
    if not Path(path).is_file():
        what = "is a folder, not a file" if Path(path).is_dir() else "no such file"
        raise FileFormatError(f"{path}: {what}")
    reason = unreadable(Path(path), kind=".nir", writer="nir")
    if reason:
        raise FileFormatError(f"{path}: {reason}")
    try:
        with h5py.File(path, "r") as file:
            reader = _Reader(Texts(Path(path)))
            graph = reader.file(file)
    except (*READ_ERRORS, RecursionError) as error:
        raise FileFormatError(f"{path}: damaged, truncated or not a .nir (HDF5) file ({shown(str(error))})") from error
    if reader.problems:
        raise broken(path, reader.problems[:20])
    return graph


class _Reader:
    """Reads groups and datasets, counts their sizes, and collects what is wrong instead of stopping."""

    def __init__(self, texts: Texts) -> None:
        self.problems: list[str] = []
        self.left = MAX_ELEMENTS
        self.nodes = MAX_NODES
        self.texts = texts

    def file(self, file: Any) -> NirGraph:
        root = self._member(file, "node", h5py.Group)
        if root is None:
            self.problems.append("/node: missing; not a NIR graph")
            return NirGraph(name="", nodes={}, edges=(), metadata={})
        version = self._value(file, "version", "/version") if "version" in file else ""
        if self._kind(root, "/node") != GRAPH:
            self.problems.append("/node: expected a NIRGraph; a file of a single node has no input and output")
            return NirGraph(name="", nodes={}, edges=(), metadata={})
        graph = self._graph(root, "", depth=0)
        return attrs.evolve(graph, version=version if isinstance(version, str) else "")

    def _graph(self, group: Any, name: str, *, depth: int) -> NirGraph:
        where = f"/node/{shown(name)}".rstrip("/")
        found = self._member(group, "nodes", h5py.Group)
        if found is None:
            self.problems.append(f"{where}: the graph has no group `nodes`")
        nodes: dict[str, NirNode | NirGraph] = {}
        for key in found if found is not None else ():
            self.nodes -= 1
            if self.nodes < 0 or depth >= MAX_DEPTH:
                self.problems.append(f"{where}: more than {MAX_NODES} nodes or {MAX_DEPTH} graphs inside each other")
                break
            inner = self._member(found, key, h5py.Group)
            if inner is None or len(key) > MAX_NAME:
                self.problems.append(f"{where}: node {shown(key)!r} is no group of this file, or its name is too long")
                continue
            path = f"{name}.{key}" if name else key
            kind = self._kind(inner, f"/node/{shown(path)}")
            if kind == GRAPH:
                nodes[key] = self._graph(inner, path, depth=depth + 1)
            else:
                nodes[key] = NirNode(name=path, kind=kind, fields=self._fields(inner, path))
        metadata = self._member(group, "metadata", h5py.Group) if "metadata" in group else None
        own = None if metadata is None or depth else self._member(metadata, "snn2chip", h5py.Group)
        kept = {} if own is None else {"snn2chip": self._tree(own, "/node/metadata/snn2chip", depth=0)}
        return NirGraph(name=name, nodes=nodes, edges=self._edges(group, where), metadata=kept)

    def _fields(self, group: Any, path: str) -> dict[str, Any]:
        fields = {}
        for key in (k for k in group if k not in ("type", "metadata")):
            value = self._value(group, key, f"/node/{shown(path)}/{shown(key)}")
            if value is not None:
                fields[key] = value
        return fields

    def _tree(self, group: Any, where: str, *, depth: int) -> dict[str, Any]:
        """A metadata group as nested values."""
        found: dict[str, Any] = {}
        for key in group:
            self.nodes -= 1
            if self.nodes < 0 or depth >= MAX_DEPTH:
                self.problems.append(f"{where}: too many entries")
                break
            inner = self._member(group, key, h5py.Group)
            at = f"{where}/{shown(key)}"
            found[key] = self._value(group, key, at) if inner is None else self._tree(inner, at, depth=depth + 1)
        return found

    def _edges(self, group: Any, where: str) -> tuple[tuple[str, str], ...]:
        data = self._member(group, "edges", h5py.Dataset)
        if data is None or data.shape is None:
            self.problems.append(f"{where}/edges: missing, or no plain dataset")
            return ()
        if data.size == 0:
            return ()
        if len(data.shape) != 2 or data.shape[1] != 2 or data.shape[0] > MAX_EDGES:
            self.problems.append(f"{where}/edges: expected up to {MAX_EDGES} pairs of names, got {data.shape}")
            return ()
        names = self._texts(data, f"{where}/edges", longest=MAX_NAME * (MAX_DEPTH + 1))
        return tuple(zip(names[::2], names[1::2], strict=True))

    def _texts(self, data: Any, where: str, *, longest: int) -> list[str]:
        """Texts of a dataset, of fixed or variable length."""
        info = h5py.check_string_dtype(data.dtype)
        if info is None or not self._plain(data, where):
            self.problems += [f"{where}: expected texts, got {data.dtype}"] if info is None else []
            return []
        try:
            if info.length is None:
                return self.texts.of(data, longest=longest)
            return [v.decode("utf8", "replace") for v in np.ravel(data[()]).tolist()]
        except (Damaged, *READ_ERRORS) as error:
            self.problems.append(f"{where}: damaged: {shown(str(error))}")
            return []

    def _kind(self, group: Any, where: str) -> str:
        value = self._value(group, "type", f"{where}/type")
        if isinstance(value, str):
            return shown(value)
        self.problems.append(f"{where}/type: missing, or no text")
        return "?"

    def _member(self, group: Any, key: str, kind: Any) -> Any:
        """A member behind a hard link, if it is of this kind."""
        if key not in group or not isinstance(group.get(key, getlink=True), h5py.HardLink):
            return None
        found = group[key]
        return found if isinstance(found, kind) else None

    def _plain(self, data: Any, where: str) -> bool:
        """Whether a dataset may be read: stored here, of bounded size, without foreign filters."""
        if data.shape is None or data.is_virtual or data.external:
            self.problems.append(f"{where}: expected a plain dataset stored in this file")
            return False
        if data.size > self.left:
            self.problems.append(f"{where}: declares {data.shape}; a file may hold {MAX_ELEMENTS} numbers in all")
            return False
        self.left -= int(data.size)
        plan = data.id.get_create_plist()
        filters = [plan.get_filter(i)[0] for i in range(plan.get_nfilters())]
        if any(f not in FILTERS for f in filters):
            self.problems.append(f"{where}: compressed in a way that nir does not write (filters {filters})")
            return False
        stored = data.id.get_storage_size()
        if data.size > SMALL and stored * MAX_RATIO < data.nbytes:
            self.problems.append(f"{where}: declares {data.shape}, but the file stores only {stored} bytes of it")
            return False
        chunk = data.chunks
        if chunk is not None and math.prod(chunk) > max(4 * data.size, SMALL):
            self.problems.append(f"{where}: holds {data.shape} in chunks of {chunk}")
            return False
        return True

    def _value(self, group: Any, key: str, where: str) -> Any:
        """A text, or an array of finite numbers; None, and a problem, for anything else."""
        data = self._member(group, key, h5py.Dataset)
        if data is None:
            self.problems.append(f"{where}: missing, or no plain dataset of this file")
            return None
        if h5py.check_string_dtype(data.dtype) is not None:
            if data.size != 1:
                self.problems.append(f"{where}: expected one text, got {data.shape}")
                return None
            return next(iter(self._texts(data, where, longest=MAX_TEXT)), None)
        if not self._plain(data, where):
            return None
        if data.dtype.kind not in "biuf":
            self.problems.append(f"{where}: expected numbers, got {data.dtype}")
            return None
        try:
            value = data[()]
        except READ_ERRORS as error:
            self.problems.append(f"{where}: damaged ({shown(str(error))})")
            return None
        array = np.asarray(value)
        if array.ndim > 6:
            self.problems.append(f"{where}: expected numbers, got {array.dtype} {array.shape}")
        elif array.dtype.kind == "f" and not np.isfinite(array).all():
            self.problems.append(f"{where}: holds NaN or infinite values")
        else:
            return array
        return None
