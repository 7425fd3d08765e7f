"""The activations of a traced network, found without exception, and their exchange for spiking neurons.

Every ReLU (module or functional) and every QCFS of the graph is an activation to convert. Anything else that fires
is reported: an activation that conversion passes over would leave a network that is neither an ANN nor spiking.
What has no float layer at all (GELU, max-pool over activations, ..) the tracer has refused before.
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
    """Return all activations in topological order; UnsupportedError that lists every one of another kind.

    The source is an ANN: one step, without spiking neurons.
    """
    found, breaches = [], []
    for layer in graph.of_kind("relu", "neuron"):
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
        breaches.append("the network has no ReLU and no QCFS: there is nothing to convert")
    if breaches:
        raise UnsupportedError(breaches)
    return tuple(found)


def exchange(graph: LayerGraph, somas: Mapping[str, FloatSoma], *, steps: int, by: str) -> LayerGraph:
    """Return the graph of `steps` steps whose activations `somas` names are these neurons.

    A graph of several steps returns the mean over them; a note says of every neuron where it came from.
    """
    missing = sorted({a.name for a in find(graph)} ^ set(somas))
    assert not missing, missing
    layers: list[Layer] = []
    notes = list(graph.notes)
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
