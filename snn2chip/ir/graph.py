"""LayerGraph: a traced network as a frozen directed acyclic graph of float layers.

Values are `[T,B,*shape]`; shapes here leave out steps and batch. networkx (order, cycles) stays inside.

Normal form, what the quantizer takes (`normal_form_breaches` lists what is missing):

    payload sources   input, neuron, host (a stem outside of the chip; then nothing else reads the input),
                      delay                                       of a payload source, in front of linear maps
    current sources   linear, conv2d, sumpool, scale (the identity synapse)     from one payload source each
    (resample, too)   add                                                      from linear maps
                      gate                                                     from two payload sources
    a neuron reads one current source; an output reads a current or a payload source

So a synapse never feeds a synapse, and every edge into a soma is one synapse. A current source may feed
several neurons, but a linear map that an add reads is read by nothing else. The input has no normalisation
left but an integer `offset`. A relay is a neuron with `fire="relay"`: it passes a current on as a payload.
Somas may have a gain and bias per channel, also negative gains: a norm behind a sum is folded there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import attrs
import networkx as nx
import torch
from torch import Tensor

from snn2chip.errors import InputError, TraceError
from snn2chip.ir.float_run import FloatRun
from snn2chip.ir.layers import InputLayer, Layer, OutputLayer, Shape
from snn2chip.ir.neuron_layer import NeuronLayer

LINEAR_MAPS = ("linear", "conv2d", "sumpool", "resample", "scale")
ADVICE = {"relu": "convert it to a neuron", "maxpool": "pool binary spikes, or use average pooling"}
PAYLOADS = ("input", "neuron", "host", "delay")


@attrs.frozen(kw_only=True)
class Note:
    """Something a front end or pass decided or measured: who, at which layer, what, and a figure if any."""

    by: str
    layer: str
    text: str
    value: float | None = None


def _frozen_inputs(inputs: Mapping[str, Sequence[str]]) -> Mapping[str, tuple[str, ...]]:
    return MappingProxyType({name: tuple(sources) for name, sources in inputs.items()})


@attrs.frozen(kw_only=True, eq=False)
class LayerGraph:
    """Layers, their ordered inputs by name, and the number of steps T.

    `layers` are kept in topological order, ties in the order given. Raises TraceError with all breaches.
    """

    layers: tuple[Layer, ...]
    inputs: Mapping[str, tuple[str, ...]] = attrs.field(converter=_frozen_inputs)
    steps: int = 1
    notes: tuple[Note, ...] = ()
    shapes: Mapping[str, Shape] = attrs.field(init=False, default=MappingProxyType({}))
    _by_name: Mapping[str, Layer] = attrs.field(init=False, default=MappingProxyType({}))
    _users: Mapping[str, tuple[str, ...]] = attrs.field(init=False, default=MappingProxyType({}))

    def __attrs_post_init__(self) -> None:
        breaches = _edge_breaches(self.layers, self.inputs)
        graph: Any = nx.MultiDiGraph()
        graph.add_nodes_from(layer.name for layer in self.layers)
        graph.add_edges_from((src, dst) for dst, sources in self.inputs.items() for src in sources)
        if not breaches and not nx.is_directed_acyclic_graph(graph):
            cycle = " -> ".join(edge[0] for edge in nx.find_cycle(graph))
            breaches = [f"cycle {cycle}: recurrent connections are not supported"]
        if breaches:
            raise TraceError(breaches)
        rank = {layer.name: i for i, layer in enumerate(self.layers)}
        order = list(nx.lexicographical_topological_sort(graph, key=rank.__getitem__))
        by_name = {layer.name: layer for layer in self.layers}
        users: dict[str, list[str]] = {name: [] for name in order}
        for name in order:
            for src in self.inputs.get(name, ()):
                users[src].append(name)
        set_field = object.__setattr__
        set_field(self, "layers", tuple(by_name[name] for name in order))
        set_field(self, "_by_name", MappingProxyType(by_name))
        set_field(self, "_users", MappingProxyType({k: tuple(v) for k, v in users.items()}))
        set_field(self, "shapes", MappingProxyType(self._infer_shapes()))

    def _infer_shapes(self) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {}
        breaches: list[str] = []
        for layer in self.layers:
            sources = self.inputs.get(layer.name, ())
            if any(src not in shapes for src in sources):
                continue  # what feeds it is already reported
            shape, bad = layer.out_shape([shapes[src] for src in sources])
            if isinstance(layer, NeuronLayer) and layer.soma.steps != self.steps:
                bad = [*bad, f"the soma runs {layer.soma.steps} steps, the graph {self.steps}"]
            if bad:
                breaches += [f"{layer.label}: {text}" for text in bad]
            else:
                shapes[layer.name] = shape
        if breaches:
            raise TraceError(breaches)
        return shapes

    @property
    def input(self) -> InputLayer:
        """The only input, or the first of several."""
        return self.input_layers[0]

    @property
    def input_layers(self) -> tuple[InputLayer, ...]:
        """All inputs, in the order in which the model takes them."""
        return tuple(layer for layer in self.layers if isinstance(layer, InputLayer))

    @property
    def output(self) -> OutputLayer:
        """The only output."""
        return next(layer for layer in self.layers if isinstance(layer, OutputLayer))

    def layer(self, name: str) -> Layer:
        """Return a layer by name; KeyError if there is none."""
        return self._by_name[name]

    def sources(self, name: str) -> tuple[Layer, ...]:
        """Return the layers that feed `name`, in order."""
        return tuple(self._by_name[src] for src in self.inputs.get(name, ()))

    def users(self, name: str) -> tuple[Layer, ...]:
        """Return the layers that read `name`, in topological order, once per edge."""
        return tuple(self._by_name[dst] for dst in self._users[name])

    def of_kind(self, *kinds: str) -> tuple[Layer, ...]:
        """Return all layers of these kinds in topological order."""
        return tuple(layer for layer in self.layers if layer.kind in kinds)

    def with_layers(self, *changed: Layer) -> LayerGraph:
        """Return the graph with layers of the same names exchanged."""
        new = {layer.name: layer for layer in changed}
        return attrs.evolve(self, layers=tuple(new.get(layer.name, layer) for layer in self.layers))

    def with_normalisation(
        self, *, scale: float, mean: Any | None = None, std: Any | None = None, input: str | None = None
    ) -> LayerGraph:
        """Return the graph of integer raw values, x = (raw*scale - mean)/std; mean and std are numbers or `[C]`.

        For 8-bit pixels and a model trained on [0, 1] with a mean and std: scale = 1/255. `input` names one of several.
        """
        cast = [None if v is None else torch.as_tensor(v, dtype=torch.float64) for v in (mean, std)]
        given = next(layer for layer in self.input_layers if input in (None, layer.name))
        return self.with_layers(attrs.evolve(given, scale=float(scale), mean=cast[0], std=cast[1]))

    def text(self, *, sources: bool = False) -> str:
        """Return one line per layer in topological order; `sources` adds the file and line of each."""
        lines = [f"graph steps={self.steps}"]
        for layer in self.layers:
            call = f"{layer.kind}({', '.join(self.inputs.get(layer.name, ()))})"
            shape = "x".join(map(str, self.shapes[layer.name])) or "scalar"
            parts = [f"  {layer.name} = {call} : {shape}", *layer.details()]
            where = f"{layer.path} {layer.source}".strip() if sources else layer.path
            lines.append("  ".join(parts) + (f"  # {where}" if where else ""))
        return "\n".join(lines) + "\n"

    @torch.no_grad()
    def run(
        self, x: Tensor | Mapping[str, Tensor], *, collect: bool = False, forced: Mapping[str, Tensor] | None = None
    ) -> FloatRun:
        """Return the float output for raw inputs `[T,B,*shape]`, or `[B,*shape]` repeated at every step.

        Several inputs are given by name. Computes in x's floating type (float32 for integers). `collect` keeps every
        layer's value and the neurons' potentials. `forced` is teacher forcing: readers of a named layer get the given
        value `[T or 1, B, *shape]` instead of the computed one, which is still reported. Raises InputError for
        another shape or unknown names.
        """
        fed = self._fed(x)
        forced = {} if forced is None else forced
        if unknown := sorted(set(forced) - set(self._by_name)):
            raise InputError([f"forced value for {name!r}: the graph has no such layer" for name in unknown])
        left = {name: len(users) for name, users in self._users.items()}
        seen: dict[str, Tensor] = {}  # what readers get
        values: dict[str, Tensor] = {}
        before: dict[str, Tensor] = {}
        after: dict[str, Tensor] = {}
        currents: dict[str, Tensor] = {}
        output = fed[self.input.name]
        for layer in self.layers:
            names = self.inputs.get(layer.name, ())
            given = [seen[name] for name in names] if names else [fed[layer.name]]
            if isinstance(layer, NeuronLayer):
                soma = layer.simulate(given[0], sent=forced.get(layer.name))
                value = soma.payload
                if collect:
                    before[layer.name], after[layer.name] = soma.before, soma.after
                    if layer.feedback is not None or layer.soma.syn_leak is not None:
                        currents[layer.name] = soma.current
            else:
                if isinstance(layer, OutputLayer):
                    given = [v.expand(self.steps, *v.shape[1:]) for v in given]
                value = layer.apply(given)
            if isinstance(layer, OutputLayer):
                output = value
            elif collect:
                values[layer.name] = value.expand(self.steps, *value.shape[1:])
            seen[layer.name] = forced[layer.name].to(value) if layer.name in forced else value
            for name in names:
                left[name] -= 1
                if not left[name]:
                    del seen[name]
        return FloatRun(output=output, values=values, before=before, after=after, currents=currents)

    def _fed(self, x: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Raw values of every input as `[T or 1, B, *shape]`."""
        layers = self.input_layers
        given = x if isinstance(x, Mapping) else {layers[0].name: x}
        if set(given) != {layer.name for layer in layers}:
            wanted = ", ".join(f"{layer.name} {['B', *layer.raw_shape]}" for layer in layers).replace("'", "")
            raise InputError(f"the network takes inputs {wanted}; got {', '.join(map(str, given))}")
        found = {layer.name: self._steps_first(layer, given[layer.name]) for layer in layers}
        sizes = {name: value.shape[1] for name, value in found.items()}
        if len(set(sizes.values())) > 1:
            raise InputError(f"inputs have different numbers of samples: {sizes}")
        return found

    def _steps_first(self, layer: InputLayer, x: Tensor) -> Tensor:
        shape, frames = layer.raw_shape, layer.frames
        x = x if x.is_floating_point() else x.to(torch.float32)
        if frames is None and x.dim() == len(shape) + 1 and tuple(x.shape[1:]) == shape:
            return x.reshape(1, len(x), *layer.shape)
        steps = (1, self.steps) if frames is None else (frames,)
        if x.dim() == len(shape) + 2 and tuple(x.shape[2:]) == shape and x.shape[0] in steps:
            return x.reshape(*x.shape[:2], *layer.shape)
        if frames is not None:
            raise InputError(
                f"{layer.name}: expected {frames} event frames {[frames, 'B', *shape]}, got {list(x.shape)}"
            )
        raise InputError(
            f"{layer.name}: expected {[self.steps, 'B', *shape]} or {['B', *shape]}, got {list(x.shape)}; "
            "give one batch of samples, the steps first"
        )

    def normal_form_breaches(self) -> list[str]:
        """Return what keeps the graph from the normal form described above; empty if nothing does."""
        breaches = [
            f"{layer.name}: scale, mean or std is left; run the default passes"
            for layer in self.input_layers
            if layer.normalises
        ]
        currents = (*LINEAR_MAPS, "add", "gate")
        allowed = {**dict.fromkeys(LINEAR_MAPS, PAYLOADS), "add": LINEAR_MAPS, "gate": PAYLOADS, "neuron": currents}
        allowed |= {"input": (), "host": ("input",), "delay": PAYLOADS}
        allowed["output"] = tuple(kind for kind in (*PAYLOADS, *currents) if kind != "delay")
        for layer in self.layers:
            if layer.kind not in allowed:
                advice = ADVICE.get(layer.kind, "run the default passes")
                breaches.append(f"{layer.label}: {layer.kind} has no integer form; {advice}")
                continue
            breaches += [
                f"{layer.label}: this {layer.kind} cannot read {src.label}, a {src.kind}; run the default passes"
                for src in self.sources(layer.name)
                if src.kind not in allowed[layer.kind] and src.kind in allowed
            ]
            if layer.kind == "host" and len(self._users[self.inputs[layer.name][0]]) > 1:
                breaches.append(f"{layer.label}: other layers read the input too; a host stem is the only reader")
            if layer.kind == "add":
                shared = [src for src in self.sources(layer.name) if len(self._users[src.name]) > 1]
                breaches += [f"{layer.label}: {src.label} feeds other layers than this sum" for src in shared]
        return breaches


def _edge_breaches(layers: tuple[Layer, ...], inputs: Mapping[str, tuple[str, ...]]) -> list[str]:
    names = [layer.name for layer in layers]
    known = set(names)
    breaches = [f"{name}: two layers have this name" for name, n in sorted(Counter(names).items()) if n > 1]
    breaches += [f"{dst}: edges into a layer that does not exist" for dst in inputs if dst not in known]
    edges = [(src, dst) for dst, sources in inputs.items() for src in sources]
    breaches += [f"{dst}: reads {src!r}, which does not exist" for src, dst in edges if src not in known]
    for layer in layers:
        count = len(inputs.get(layer.name, ()))
        if (layer.arity is None and count < 1) or (layer.arity is not None and count != layer.arity):
            breaches.append(f"{layer.label}: expected {layer.arity or 'some'} inputs of this {layer.kind}, got {count}")
    if (outputs := sum(isinstance(layer, OutputLayer) for layer in layers)) != 1:
        breaches.append(f"a graph has one output, got {outputs}")
    if not any(isinstance(layer, InputLayer) for layer in layers):
        breaches.append("a graph has one input or more, got 0")
    used = {src for src, _ in edges}
    breaches += [
        f"{layer.label}: nothing reads it"
        for layer in layers
        if layer.name not in used and not isinstance(layer, OutputLayer)
    ]
    return breaches
