"""A draft of a graph that passes change and then freeze."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any

from snn2chip.ir.graph import LayerGraph, Note
from snn2chip.ir.layers import Layer, OutputLayer, Shape


class _Sources(dict[str, tuple[str, ...]]):
    """What every layer reads, and the other way round: who reads a layer, without a search."""

    def __init__(self, inputs: Iterable[tuple[str, Sequence[str]]]) -> None:
        super().__init__()
        self._readers: dict[str, dict[str, int]] = {}  # source -> reader -> edges
        self._rank: dict[str, int] = {}
        self._next = count()
        self.shapes: dict[str, Shape] = {}  # a layer's is known only where those of its sources are
        for name, sources in inputs:
            self[name] = sources

    def __setitem__(self, name: str, sources: Any) -> None:
        for src in self.get(name, ()):
            self._readers[src].pop(name, None)
        super().__setitem__(name, tuple(sources))
        self._rank.setdefault(name, next(self._next))
        for src in sources:
            readers = self._readers.setdefault(src, {})
            readers[name] = readers.get(name, 0) + 1
        self.forget(name)

    def __delitem__(self, name: str) -> None:
        for src in self[name]:
            self._readers[src].pop(name, None)
        self.forget(name)
        super().__delitem__(name)
        del self._rank[name]

    def readers(self, name: str) -> list[str]:
        """Who reads `name`, once per edge, in the order in which they came."""
        found = self._readers.get(name, {})
        return [reader for reader in sorted(found, key=self._rank.__getitem__) for _ in range(found[reader])]

    def forget(self, name: str) -> None:
        """The shape of a layer and of what follows it may be another one now."""
        todo = [name]
        while todo:
            if self.shapes.pop(at := todo.pop(), None) is not None:
                todo += self._readers.get(at, ())


class _Layers(dict[str, Layer]):
    """Layers by name; exchanging one forgets its shape."""

    def __init__(self, layers: Iterable[tuple[str, Layer]], sources: _Sources) -> None:
        super().__init__(layers)
        self._sources = sources

    def __setitem__(self, name: str, layer: Layer) -> None:
        super().__setitem__(name, layer)
        self._sources.forget(name)


class GraphEdit:
    """Layers and edges of a graph under construction; `finish` drops what nothing reads and verifies.

    Readers and shapes are kept while the draft changes: no pass over a graph of n layers searches n times.
    """

    def __init__(self, graph: LayerGraph, *, by: str) -> None:
        self._graph = graph
        self._by = by
        self.inputs = _Sources(graph.inputs.items())
        self.layers: dict[str, Layer] = _Layers(((layer.name, layer) for layer in graph.layers), self.inputs)
        self.notes: list[Note] = list(graph.notes)

    def of_kind(self, *kinds: str) -> list[Layer]:
        """Return the layers of these kinds, in the order of the graph."""
        return [layer for layer in self.layers.values() if layer.kind in kinds]

    def source(self, name: str) -> Layer:
        """Return the layer that a one-input layer reads."""
        (src,) = self.inputs[name]
        return self.layers[src]

    def users(self, name: str) -> list[Layer]:
        """Return the layers that read `name`, once per edge."""
        return [self.layers[reader] for reader in self.inputs.readers(name)]

    def shape(self, name: str) -> Shape:
        """Return the shape of a layer's value as the draft stands."""
        shapes, todo = self.inputs.shapes, [name]
        while todo:
            sources = self.inputs.get(todo[-1], ())
            unknown = [src for src in sources if src not in shapes]
            todo += unknown
            if not unknown:
                at = todo.pop()
                shapes[at] = self.layers[at].out_shape([shapes[src] for src in sources])[0]
        return shapes[name]

    def fresh(self, prefix: str) -> str:
        """Return a name that no layer has: the prefix with the next free number."""
        number = 1
        while f"{prefix}{number}" in self.layers:
            number += 1
        return f"{prefix}{number}"

    def replace(self, layer: Layer) -> None:
        """Exchange the layer of the same name."""
        assert layer.name in self.layers
        self.layers[layer.name] = layer

    def insert(self, layer: Layer, *, source: str, users: list[str] | None = None) -> None:
        """Put a one-input layer behind `source`; `users` (None: all readers of it) read the new layer instead."""
        readers = [user.name for user in self.users(source)] if users is None else users
        order = list(self.layers.items())
        at = next(i for i, (name, _) in enumerate(order) if name == source) + 1
        self.layers = _Layers([*order[:at], (layer.name, layer), *order[at:]], self.inputs)
        for user in readers:
            self.rewire(user, source, layer.name)
        self.inputs[layer.name] = [source]

    def rewire(self, user: str, old: str, new: str) -> None:
        """Let `user` read `new` wherever it read `old`."""
        self.inputs[user] = [new if src == old else src for src in self.inputs[user]]

    def bypass(self, name: str) -> None:
        """Let the readers of a one-input layer read its source, and drop it."""
        source = self.source(name).name
        for user in self.users(name):
            self.rewire(user.name, name, source)
        del self.layers[name], self.inputs[name]

    def note(self, layer: str, text: str, *, value: float | None = None) -> None:
        """Record what was done to a layer."""
        self.notes.append(Note(by=self._by, layer=layer, text=text, value=value))

    def finish(self) -> LayerGraph:
        """Return the graph without layers that nothing reads."""
        kept: set[str] = set()
        todo = [layer.name for layer in self.layers.values() if isinstance(layer, OutputLayer)]
        while todo:
            name = todo.pop()
            if name not in kept:
                kept.add(name)
                todo += self.inputs.get(name, ())
        return LayerGraph(
            layers=tuple(layer for name, layer in self.layers.items() if name in kept),
            inputs={name: sources for name, sources in self.inputs.items() if name in kept},
            steps=self._graph.steps,
            notes=tuple(self.notes),
        )
