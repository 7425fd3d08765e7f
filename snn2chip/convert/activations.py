"""The activations of a traced network, found without exception, and their exchange for spiking neurons.

Every ReLU (module or functional) and every QCFS of the graph is an activation to convert. Anything else that fires
is reported: an activation that conversion passes over would leave a network that is neither an ANN nor spiking.
What has no float layer at all (GELU, ..) the tracer has refused before.

A maximum over spikes is not the spikes of a maximum. So a stem of convolutions, ReLUs and a max-pool in a row, as
ImageNet's ResNets have it, stays ordinary: it is computed once, outside of the chip. Any other max-pool is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs
from torch import Tensor, nn

from snn2chip.errors import InputError, UnsupportedError
from snn2chip.ir.graph import LayerGraph, Note
from snn2chip.ir.layers import FloatSoma, Layer, OutputLayer
from snn2chip.ir.neuron_layer import NeuronLayer


@attrs.frozen(kw_only=True, eq=False)
class Activation:
    """One activation of a source network: its layer, and for QCFS the range `vth` and its levels T~.

    `channels` is the length of the first feature axis, `spatial` whether it is a map `[C,H,W]`.
    """

    layer: Layer
    channels: int
    spatial: bool
    vth: Tensor | None = None
    levels: int | None = None

    @property
    def name(self) -> str:
        """The layer's name in the graph."""
        return self.layer.name

    @property
    def kind(self) -> str:
        """relu or qcfs."""
        return "relu" if self.vth is None else "qcfs"

    def value(self, z: Tensor) -> Tensor:
        """Return the activation of currents `[T or 1,B,C,...]`."""
        return self.layer.apply([z])


def source_graph(model: nn.Module | LayerGraph, sample: Tensor | None = None) -> LayerGraph:
    """Return the graph to convert: a graph as it is, or a module traced on `sample` in eval mode."""
    if isinstance(model, GraphNet):
        return model.graph
    if isinstance(model, LayerGraph):
        return model
    if sample is None:
        raise InputError("give a sample batch of the model's own input, to trace the module with")
    from snn2chip.frontends.torch import trace

    return trace(model, sample)


def find(graph: LayerGraph, *, kinds: tuple[str, ...] = ("relu", "qcfs")) -> tuple[Activation, ...]:
    """Return all activations to convert in topological order; UnsupportedError that lists every one of another kind.

    The source is an ANN: one step, without spiking neurons. The ReLU of an ordinary stem (`stem`) is left out.
    """
    found = []
    kept, breaches = stem(graph)
    for layer in graph.of_kind("relu", "neuron"):
        if layer.name in kept:
            continue
        shape = graph.shapes[layer.name]
        made = Activation(layer=layer, channels=shape[0] if shape else 1, spatial=len(shape) == 3)
        if isinstance(layer, NeuronLayer):
            soma = layer.soma
            if soma.method != "qcfs" or soma.window is not None:
                breaches.append(f"{layer.label}: a {soma.method or soma.fire} neuron is neither ReLU nor QCFS")
                continue
            made = attrs.evolve(made, vth=soma.theta * soma.levels, levels=soma.levels)
        if made.kind not in kinds:
            breaches.append(f"{layer.label}: {made.kind} activation, this conversion takes {', '.join(kinds)}")
        found.append(made)
    if graph.steps != 1:
        breaches.append(f"the source runs {graph.steps} steps; build it with T = 1, an ANN has one")
    if not found and not breaches:
        left = f" but the stem's ({', '.join(sorted(kept))})" if kept else ""
        breaches.append(f"the network has no ReLU and no QCFS{left}: there is nothing to convert")
    if breaches:
        raise UnsupportedError(breaches)
    return tuple(found)


def stem(graph: LayerGraph) -> tuple[frozenset[str], list[str]]:
    """Return the ReLUs that stay ordinary because a max-pool of the stem reads them, and what is wrong elsewhere."""
    kept: set[str] = set()
    breaches: list[str] = []
    for pool in graph.of_kind("maxpool"):
        above = ancestors(graph, pool.name)
        fired = [layer for layer in graph.of_kind("relu", "neuron") if layer.name in above]
        first = all(layer.name not in above for layer in graph.of_kind("maxpool"))
        in_a_row = len(fired) <= 1 or (first and all(len(graph.users(name)) == 1 for name in above))
        if not in_a_row or any(layer.kind != "relu" for layer in fired):
            breaches.append(
                f"{pool.label}: a maximum over spikes is not the spikes of a maximum; use average pooling behind "
                "activations (convolutions and ReLUs in a row, then a max-pool, may lead the network)"
            )
        else:
            kept.update(layer.name for layer in fired)
    return frozenset(kept), breaches


def ancestors(graph: LayerGraph, name: str) -> set[str]:
    """Return the names of all layers that feed a layer, directly or through others."""
    found: set[str] = set()
    todo = [name]
    while todo:
        for source in graph.inputs.get(todo.pop(), ()):
            if source not in found:
                found.add(source)
                todo.append(source)
    return found


def exchange(graph: LayerGraph, somas: Mapping[str, FloatSoma], *, steps: int, by: str) -> LayerGraph:
    """Return the graph of `steps` steps whose activations `somas` names are these neurons.

    A graph of several steps returns the mean over them; a note says of every neuron where it came from.
    """
    missing = sorted({a.name for a in find(graph)} ^ set(somas))
    assert not missing, missing
    layers: list[Layer] = []
    notes = list(graph.notes)
    for name in sorted(stem(graph)[0]):
        notes.append(Note(by=by, layer=name, text="stays ordinary: a max-pool reads it; computed outside of the chip"))
    for layer in graph.layers:
        if layer.name in somas:
            soma = somas[layer.name]
            layers.append(NeuronLayer(name=layer.name, path=layer.path, source=layer.source, soma=soma))
            notes.append(Note(by=by, layer=layer.name, text=f"{layer.kind} became {soma.method}"))
        elif isinstance(layer, OutputLayer) and steps > 1:
            layers.append(attrs.evolve(layer, reduce="mean"))
        else:
            layers.append(layer)
    return attrs.evolve(graph, layers=tuple(layers), steps=steps, notes=tuple(notes))


def somas_of(graph: LayerGraph, make: Callable[[Activation], FloatSoma]) -> dict[str, FloatSoma]:
    """Return a soma for every activation, by name."""
    return {a.name: make(a) for a in find(graph)}


class GraphNet(nn.Module):
    """A converted graph as a module, for evaluation: raw inputs to what the network returns, without gradients."""

    def __init__(self, graph: LayerGraph) -> None:
        super().__init__()
        self.graph = graph

    def forward(self, x: Tensor) -> Tensor:
        """Return the float output for `[B,...]`, or `[T,B,...]` with frames per step."""
        return self.graph.run(x).output

    def extra_repr(self) -> str:
        """Return what `print` shows."""
        return f"steps={self.graph.steps}, layers={len(self.graph.layers)}"
