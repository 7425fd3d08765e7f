"""A draft of a graph that passes change and then freeze."""

from __future__ import annotations

from snn2chip.ir.graph import LayerGraph, Note
from snn2chip.ir.layers import Layer, OutputLayer, Shape


class GraphEdit:
    """Layers and edges of a graph under construction; `finish` drops what nothing reads and verifies."""

    def __init__(self, graph: LayerGraph, *, by: str) -> None:
        self._graph = graph
        self._by = by
        self.layers: dict[str, Layer] = {layer.name: layer for layer in graph.layers}
        self.inputs: dict[str, list[str]] = {name: list(sources) for name, sources in graph.inputs.items()}
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
        return [self.layers[dst] for dst, sources in self.inputs.items() for src in sources if src == name]

    def shape(self, name: str) -> Shape:
        """Return the shape of a layer's value as the draft stands."""
        return self.layers[name].out_shape([self.shape(src) for src in self.inputs.get(name, ())])[0]

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
        self.layers = dict([*order[:at], (layer.name, layer), *order[at:]])
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
                todo += self.inputs.get(name, [])
        return LayerGraph(
            layers=tuple(layer for name, layer in self.layers.items() if name in kept),
            inputs={name: tuple(sources) for name, sources in self.inputs.items() if name in kept},
            steps=self._graph.steps,
            notes=tuple(self.notes),
        )
