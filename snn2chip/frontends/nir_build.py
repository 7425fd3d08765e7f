"""The layers of a `.nir` file's primitives, as a profile computes them, and everything that has no form at once."""

from __future__ import annotations

import math

import attrs
import numpy as np

from snn2chip.frontends.nir_fields import FIELDS, NEURONS, field_breaches, shape_breaches
from snn2chip.frontends.nir_file import NirGraph, NirNode, shown
from snn2chip.frontends.nir_flat import Flat
from snn2chip.frontends.nir_layers import MAPS, delay_layer
from snn2chip.frontends.nir_loops import feedback_of, late_bias
from snn2chip.frontends.nir_neurons import Unfit, settled, soma_of
from snn2chip.frontends.nir_profiles import Profile
from snn2chip.ir.channel_layers import ScaleLayer
from snn2chip.ir.graph import LayerGraph, Note
from snn2chip.ir.layers import AddLayer, FloatSoma, InputLayer, Layer, OutputLayer, Shape
from snn2chip.ir.linear_layers import AffineLayer
from snn2chip.ir.neuron_layer import NeuronLayer

MAX_NUMBERS = 1 << 26
"""Numbers of one layer and one sample beyond which a file is taken for damaged, before memory is touched."""


class Unsound(Exception):
    """What is wrong with the nodes, all of it."""


@attrs.define
class Build:
    """Layers so far, their shapes, and what is wrong or has no form."""

    flat: Flat
    profile: Profile
    steps: int
    layers: list[Layer] = attrs.field(factory=list)
    inputs: dict[str, tuple[str, ...]] = attrs.field(factory=dict)
    shapes: dict[str, Shape] = attrs.field(factory=dict)
    notes: list[Note] = attrs.field(factory=list)
    bad: list[str] = attrs.field(factory=list)
    refused: list[str] = attrs.field(factory=list)

    def graph(self, read: str | None, source: NirGraph) -> LayerGraph:
        """The float graph; raises Unsound."""
        self.profile, told = settled(self.profile, list(self.flat.nodes.values()))
        broken = set()
        for node in self.flat.nodes.values():
            if bad := field_breaches(node):
                broken.add(node.name)
                self.bad += [f"{node.label}: {text}" for text in bad]
        for name in self.flat.inputs:
            node = self.flat.nodes[name]
            if not broken.isdisjoint((name, *self.flat.loops.get(name, ()))):
                continue
            try:
                self._node(node, read)
            except Unfit as error:
                where = self.refused if error.refused else self.bad
                where += [f"{node.label}: {text}" for text in error.texts]
                self.shapes.pop(name, None)
        self._read_potentials()
        if self.bad or self.refused:
            raise Unsound(self.bad + self.refused)
        said = [Note(by="nir", layer="", text=text) for text in (*provenance(self.profile, source), *told)]
        return LayerGraph(
            layers=tuple(self.layers), inputs=self.inputs, steps=self.steps, notes=tuple(said + self.notes)
        )

    def _node(self, node: NirNode, read: str | None) -> None:
        sources = self.flat.inputs[node.name]
        if any(src not in self.shapes for src in sources):
            return  # what feeds it is already reported
        if node.kind == "Input":
            shape = self._declared(node)
            self._add(InputLayer(name=node.name, path=node.name, shape=shape, layout="TB"), (), shape)
            return
        shape, sources = self._summed(node, sources)
        if node.kind == "Output":
            self._output(node, sources, shape, read)
        elif node.kind in NEURONS:
            soma = soma_of(node, shape, self.profile, steps=self.steps)
            self._neuron(node, sources, shape, soma)
        elif node.kind == "Delay":
            self._map(delay_layer(node, node.name, dt=self.profile.dt, steps=self.steps), sources)
        elif node.kind in MAPS:
            if bad := shape_breaches(node, shape):
                raise Unfit(*bad)
            self._map(MAPS[node.kind](node, node.name, shape), sources)
        else:
            known = ", ".join(kind for kind in FIELDS if kind not in ("Input", "Output"))
            raise Unfit(f"type {node.kind} is not known; there are {known}", refused=True)

    def _summed(self, node: NirNode, sources: tuple[str, ...]) -> tuple[Shape, tuple[str, ...]]:
        """The shape a node reads; several sources are added up first."""
        shape = self.shapes[sources[0]]
        if len(sources) == 1:
            return shape, sources
        if len({self.shapes[src] for src in sources}) > 1:
            shown_shapes = ", ".join(f"{shown(src)} {list(self.shapes[src])}" for src in sources)
            raise Unfit(f"adds values of different shapes: {shown_shapes}")
        name = f"{node.name}.sum"
        self._add(AddLayer(name=name, path=node.name), sources, shape)
        return shape, (name,)

    def _neuron(self, node: NirNode, sources: tuple[str, ...], shape: Shape, soma: FloatSoma) -> None:
        feedback: AffineLayer | ScaleLayer | None = None
        if node.name in self.flat.loops:
            chain = [self.flat.nodes[name] for name in self.flat.loops[node.name]]
            feedback = feedback_of(node, chain, shape, dt=self.profile.dt, steps=self.steps)
            if not self.profile.recurrent_bias:
                feedback, soma = late_bias(feedback, soma, shape, steps=self.steps)
        self._add(NeuronLayer(name=node.name, path=node.name, soma=soma, feedback=feedback), sources, shape)

    def _output(self, node: NirNode, sources: tuple[str, ...], shape: Shape, read: str | None) -> None:
        declared = node.fields.get("shape")
        if declared is not None and not isinstance(declared, str):
            want = tuple(int(n) for n in np.ravel(declared))[-1 if self.profile.batched else 0 :]
            if math.prod(want) != math.prod(shape):
                raise Unfit(f"declares the shape {list(want)}, but {shown(sources[0])} gives {list(shape)}")
        source = next(layer for layer in self.layers if layer.name == sources[0])
        silent = isinstance(source, NeuronLayer) and source.soma.fire == "membrane"
        reduce = read or ("last" if silent else "sum")
        self._add(OutputLayer(name=node.name, path=node.name, reduce=reduce), sources, shape)

    def _declared(self, node: NirNode) -> Shape:
        """The shape of the input, without the batch and the time that some frameworks leave in front of it."""
        sizes = np.ravel(node.fields["shape"])
        if self.profile.batched and sizes.size > 1:
            text = f"shape {sizes.tolist()} holds batch or time, read as {sizes[-1:].tolist()}"
            self.notes.append(Note(by="nir", layer=node.name, text=f"{shown(node.name)}: {text}"))
            sizes = sizes[-1:]
        if not 1 <= sizes.size <= 3 or (sizes != np.rint(sizes)).any() or sizes.min() < 1:
            raise Unfit(f"shape {sizes[:6].tolist()}, expected 1 to 3 positive sizes without batch and time")
        shape = tuple(int(n) for n in sizes)
        if math.prod(shape) > MAX_NUMBERS:
            raise Unfit(f"shape {list(shape)} is more than {MAX_NUMBERS} numbers")
        return shape

    def _read_potentials(self) -> None:
        """Refuse neurons that never fire where other layers would read their potential at every step."""
        for layer in self.layers:
            if isinstance(layer, NeuronLayer) and layer.soma.fire == "membrane":
                users = [by for by in self.layers if layer.name in self.inputs.get(by.name, ())]
                if others := [shown(by.path) for by in users if not isinstance(by, OutputLayer)]:
                    self.refused.append(
                        f"{self.flat.nodes[layer.name].label}: the potential of a neuron that does not fire is read "
                        f"after the last step, not at every step by {', '.join(others)}"
                    )

    def _map(self, layer: Layer, sources: tuple[str, ...]) -> None:
        made, bad = layer.out_shape([self.shapes[src] for src in sources])
        if bad:
            raise Unfit(*bad)
        if math.prod(made) > MAX_NUMBERS:
            raise Unfit(f"gives {list(made)}, more than {MAX_NUMBERS} numbers")
        self._add(layer, sources, made)

    def _add(self, layer: Layer, sources: tuple[str, ...], shape: Shape) -> None:
        self.layers.append(layer)
        if sources:
            self.inputs[layer.name] = sources
        self.shapes[layer.name] = shape


def provenance(profile: Profile, source: NirGraph) -> list[str]:
    """What was read and assumed, a line each."""
    version = f"nir {shown(source.version)}" if source.version else "nir"
    return [f"{version}, read with profile {profile.name}", *profile.described()]
