"""NIR files as float graphs: `import_nir(path, profile="snntorch", steps=T)`.

A file does not say what its neurons compute: the profile of the framework that wrote it does (`nir_profiles`), and what
was assumed is kept in the graph's notes. Files that snn2chip wrote carry their own network, which is taken as it is
while the nodes beside it are unchanged (`interop.nir_own`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np

from snn2chip.errors import InputError, Snn2ChipError, TraceError, UnsupportedError
from snn2chip.frontends.nir_fields import FIELDS, NEURONS, field_breaches, shape_breaches
from snn2chip.frontends.nir_file import NirGraph, NirNode, read_nir, shown
from snn2chip.frontends.nir_flat import Flat, flatten
from snn2chip.frontends.nir_layers import MAPS, delay_layer
from snn2chip.frontends.nir_loops import feedback_of, late_bias
from snn2chip.frontends.nir_neurons import Unfit, soma_of
from snn2chip.frontends.nir_profiles import PROFILES, Profile, profile_of
from snn2chip.ir.channel_layers import ScaleLayer
from snn2chip.ir.graph import LayerGraph, Note
from snn2chip.ir.layers import AddLayer, FloatSoma, InputLayer, Layer, OutputLayer, Shape
from snn2chip.ir.linear_layers import AffineLayer
from snn2chip.ir.neuron_layer import NeuronLayer

READS = ("sum", "mean", "last", "count")
MAX_STEPS = 1 << 16
MAX_NUMBERS = 1 << 26
"""Numbers of one layer and one sample beyond which a file is taken for damaged, before memory is touched."""


def import_nir(
    source: str | os.PathLike[str] | NirGraph,
    *,
    profile: str | None = None,
    steps: int | None = None,
    options: Mapping[str, Any] | None = None,
    read: str | None = None,
) -> LayerGraph:
    """Return the float graph of a `.nir` file over `steps` steps, as `profile` computes it.

    `options` override single conventions of the profile (`nir_profiles.OPTIONS`). `read`: sum or mean of the output's
    spikes over the steps, its last step, or count, the steps with a spike (default: sum of spikes, last potential).
    A file of snn2chip needs neither.
    Raises FileFormatError for a damaged file, InputError for a missing profile and for values that do not fit it,
    UnsupportedError that lists every node without a form; each with everything in it.
    """
    from snn2chip.interop.nir_own import own_network

    name = "the graph" if isinstance(source, NirGraph) else str(source)
    graph = source if isinstance(source, NirGraph) else read_nir(source)
    if profile is None:
        own = own_network(graph, path=name)
        if isinstance(own, LayerGraph):
            return own
        if own is not None:
            raise InputError(f"{name}: holds an integer program; load it with import_nir_program, or name a profile")
        raise InputError(f"{name}: {_which(graph)}")
    if steps is None or not 1 <= steps <= MAX_STEPS:
        raise InputError(f"{name}: a .nir file has no number of steps; give steps=T, 1..{MAX_STEPS}, got {steps}")
    if read is not None and read not in READS:
        raise InputError(f"read={read!r} is none of {', '.join(READS)}")
    chosen = profile_of(profile, options)
    build = _Build(flatten(graph), chosen, steps)
    try:
        return build.graph(read, graph)
    except _Unsound as error:
        kind = UnsupportedError if build.refused and not build.bad else InputError
        raise kind([f"{name}: {text}" for text in error.args[0][:40]]) from None
    except TraceError as error:
        raise InputError([f"{name}: {text}" for text in error.breaches]) from error


def fitting_profiles(graph: NirGraph) -> list[str]:
    """Profiles that the values of a graph fit; raises InputError and UnsupportedError where there is no network."""
    fits = []
    flat = flatten(graph)
    for name in PROFILES:
        try:
            _Build(flat, PROFILES[name], 2).graph(None, graph)
        except (_Unsound, TraceError):
            continue
        fits.append(name)
    return fits


def _which(graph: NirGraph) -> str:
    """What to say where no profile was named: those that the values would fit."""
    try:
        fits = fitting_profiles(graph)
    except Snn2ChipError as error:
        return str(error)
    known = f"its values fit {', '.join(fits)}" if fits else "its values fit none of them as they are"
    return (
        "a .nir file does not say how its neurons compute; name the framework that wrote it, profile= or --nir-profile "
        f"{'|'.join(PROFILES)} ({known})"
    )


class _Unsound(Exception):
    """What is wrong with the nodes, all of it."""


@attrs.define
class _Build:
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
        """The float graph; raises _Unsound."""
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
        if self.bad or self.refused:
            raise _Unsound(self.bad + self.refused)
        said = [Note(by="nir", layer="", text=text) for text in provenance(self.profile, source)]
        return LayerGraph(
            layers=tuple(self.layers), inputs=self.inputs, steps=self.steps, notes=tuple(said + self.notes)
        )

    def _node(self, node: NirNode, read: str | None) -> None:
        sources = self.flat.inputs[node.name]
        if any(src not in self.shapes for src in sources):
            return  # what feeds it is already reported
        if node.kind == "Input":
            shape = _declared(node)
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
            want = tuple(int(n) for n in np.ravel(declared))
            if math.prod(want) != math.prod(shape):
                raise Unfit(f"declares the shape {list(want)}, but {shown(sources[0])} gives {list(shape)}")
        source = next(layer for layer in self.layers if layer.name == sources[0])
        silent = isinstance(source, NeuronLayer) and source.soma.fire == "membrane"
        reduce = read or ("last" if silent else "sum")
        self._add(OutputLayer(name=node.name, path=node.name, reduce=reduce), sources, shape)

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


def _declared(node: NirNode) -> Shape:
    value = node.fields.get("shape")
    if value is None or isinstance(value, str):
        raise Unfit("the input has no shape")
    sizes = np.ravel(value)
    if not 1 <= sizes.size <= 3 or (sizes != np.rint(sizes)).any() or sizes.min() < 1:
        raise Unfit(f"shape {sizes[:6].tolist()}, expected 1 to 3 positive sizes without batch and time")
    shape = tuple(int(n) for n in sizes)
    if math.prod(shape) > MAX_NUMBERS:
        raise Unfit(f"shape {list(shape)} is more than {MAX_NUMBERS} numbers")
    return shape
