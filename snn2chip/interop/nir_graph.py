"""A float graph as a `.nir` file: `export_graph(graph, path)`; what NIR cannot say of it is returned and printed.

What no primitive exists for (windows, ladders, graded payloads, attention) is refused, all of it in one error. Reset,
compare, levels, floor and initial potential have no words in NIR: they are listed, and kept in our metadata.
"""

from __future__ import annotations

import os
from typing import Any

import attrs
import numpy as np

from snn2chip.frontends.nir_loops import bias_of_late
from snn2chip.interop.nir_nodes import (
    DT,
    Fields,
    Made,
    conv_fields,
    flatten_fields,
    full,
    linear_fields,
    neuron_fields,
    pool_fields,
)
from snn2chip.interop.nir_write import write_nir
from snn2chip.ir.channel_layers import ScaleLayer, SumPoolLayer
from snn2chip.ir.delay_layer import DelayLayer
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import FloatSoma, InputLayer, Layer
from snn2chip.ir.linear_layers import AffineLayer, Conv2dLayer
from snn2chip.ir.neuron_layer import NeuronLayer

PLAIN = (
    "input",
    "linear",
    "conv2d",
    "sumpool",
    "avgpool",
    "flatten",
    "scale",
    "add",
    "neuron",
    "delay",
    "identity",
    "dropout",
    "output",
)


def export_graph(graph: LayerGraph, path: str | os.PathLike[str]) -> list[str]:
    """Write the graph; return what NIR cannot say of it. Norms and other layers are folded first where they stand.

    Raises UnsupportedError that lists every layer without a primitive.
    """
    from snn2chip.interop.nir_own import metadata_of
    from snn2chip.passes import run_passes

    if any(layer.kind not in PLAIN for layer in graph.layers) or graph.input.normalises:
        graph = run_passes(graph)
    made = graph_nodes(graph).checked(str(path))
    write_nir(path, made.nodes, made.edges, metadata=metadata_of(graph))
    return made.losses


def graph_nodes(graph: LayerGraph) -> Made:
    """Nodes and edges of a graph."""
    return _Writer(graph).made()


@attrs.define
class _Writer:
    """What every layer became: the node that gives its value, and the factor `unit` its value still has to get."""

    graph: LayerGraph
    file: Made = attrs.field(factory=Made)
    at: dict[str, str] = attrs.field(factory=dict)
    unit: dict[str, float] = attrs.field(factory=dict)

    def made(self) -> Made:
        for layer in self.graph.layers:
            sources = self.graph.inputs.get(layer.name, ())
            units = {self.unit[src] for src in sources}
            if len(units) > 1:
                self.file.refused.append(f"{layer.label}: adds spikes of different worth")
            unit = next(iter(units), 1.0)
            self.unit[layer.name] = unit
            self._layer(layer, [self.at[src] for src in sources], unit, sources)
        return self.file

    def _layer(self, layer: Layer, sources: list[str], unit: float, names: Any) -> None:
        file, shapes = self.file, self.graph.shapes
        if isinstance(layer, InputLayer):
            if layer.offset is not None or layer.normalises or layer.frames is not None:
                file.refused.append(f"{layer.label}: raw values that are shifted, scaled or averaged first")
            self.at[layer.name] = file.add(layer.name, {"type": "Input", "shape": np.array(layer.shape)}, [])
        elif isinstance(layer, AffineLayer):
            self._put(layer, self._affine(layer, shapes[names[0]], unit), sources, 1.0)
        elif isinstance(layer, NeuronLayer):
            self._neuron(layer, sources, unit)
        elif isinstance(layer, SumPoolLayer):
            self._pool(layer, sources, unit)
        elif isinstance(layer, ScaleLayer):
            self._scale(layer, sources)
        elif isinstance(layer, DelayLayer):
            fields: Fields = {"type": "Delay", "delay": full(layer.delay * DT, shapes[layer.name])}
            self._put(layer, fields, sources, unit)
        elif layer.kind == "flatten":
            self._put(layer, flatten_fields(shapes[names[0]]), sources, unit)
        elif layer.kind == "output":
            if unit != 1.0:
                file.losses.append(f"{layer.label}: its values are spikes, each worth {unit:g} in the trained network")
            reads = getattr(layer, "reduce", "steps")
            file.losses.append(f"{layer.label}: the {reads} over the steps is what is read; T = {self.graph.steps}")
            file.add(layer.name, {"type": "Output", "shape": np.array(shapes[names[0]])}, sources)
        elif layer.kind in ("add", "identity", "dropout"):
            if len(sources) == 1:
                self.at[layer.name] = sources[0]
            else:  # a sum is several edges into one node
                self.at[layer.name] = file.add(layer.name, {"type": "Scale", "scale": self._ones(layer)}, sources)
        else:
            file.refused.append(f"{layer.label}: a {layer.kind}")
            self.at[layer.name] = sources[0]

    def _ones(self, layer: Layer) -> Any:
        return np.ones(self.graph.shapes[layer.name], np.float32)

    def _put(self, layer: Layer, fields: Fields, sources: list[str], unit: float) -> None:
        self.at[layer.name], self.unit[layer.name] = self.file.add(layer.name, fields, sources), unit

    def _affine(self, layer: AffineLayer, shape: tuple[int, ...], unit: float) -> Fields:
        weight = layer.weight.double().numpy() * unit
        bias = None if layer.bias is None else layer.bias.double().numpy()
        if isinstance(layer, Conv2dLayer):
            geometry = {key: getattr(layer, key) for key in ("stride", "padding", "dilation", "groups")}
            return conv_fields(weight, bias, shape, **geometry)
        return linear_fields(weight, bias)

    def _pool(self, layer: SumPoolLayer, sources: list[str], unit: float) -> None:
        if len(self.graph.shapes[layer.name]) != 3:
            self.file.refused.append(f"{layer.label}: a pool over one axis")
        factor = layer.factor.double().numpy()
        taps = layer.kernel[0] * layer.kernel[1]
        average = bool((factor == 1.0 / taps).all())
        kind = "AvgPool2d" if average else "SumPool2d"
        self._put(layer, pool_fields(kind, layer.kernel, layer.stride, layer.padding), sources, unit)
        if not average and (factor != 1).any():
            scale = {"type": "Scale", "scale": full(factor, self.graph.shapes[layer.name])}
            self.at[layer.name] = self.file.add(f"{layer.name}.scale", scale, [self.at[layer.name]])

    def _scale(self, layer: ScaleLayer, sources: list[str]) -> None:
        factor = layer.factor.double().numpy()
        if layer.shift is not None and bool((layer.shift != 0).any()):
            self.file.refused.append(f"{layer.label}: a shift without weights")
        if (factor == 1).all():
            self.at[layer.name] = sources[0]
        else:
            scale = {"type": "Scale", "scale": full(factor, self.graph.shapes[layer.name])}
            self._put(layer, scale, sources, self.unit[layer.name])

    def _neuron(self, layer: NeuronLayer, sources: list[str], unit: float) -> None:
        shape, (soma, feedback) = self.graph.shapes[layer.name], _with_map_bias(layer)
        self.file.refused += [f"{layer.label}: {text}" for text in _no_node(soma, unit)]
        self.unit[layer.name] = float(soma.unit.flatten()[0])
        if soma.fire == "relay" and soma.reset == "drop":
            self.at[layer.name], self.unit[layer.name] = sources[0], unit
            return
        fields = _fields(soma, shape)
        if isinstance(fields, str):
            self.file.refused.append(f"{layer.label}: {fields}")
            fields = {"type": "IF"}
        self.file.losses += [f"{layer.label}: {text}" for text in _unsaid(soma)]
        name = self.at[layer.name] = self.file.add(layer.name, fields, sources)
        if feedback is not None:
            self.file.edges.append((self._back(feedback, shape, name, self.unit[layer.name]), name))
            said = "what comes back to it arrives one step later"
            if isinstance(feedback, AffineLayer) and feedback.bias is not None:
                said += f", its bias from the {'first' if feedback is layer.feedback else 'second'} step on"
            self.file.losses.append(f"{layer.label}: {said}")

    def _back(self, layer: AffineLayer | ScaleLayer, shape: tuple[int, ...], name: str, unit: float) -> str:
        """The node of what comes back to a neuron: its map, or itself where that is a factor of 1."""
        if isinstance(layer, AffineLayer):
            return self.file.add(layer.name, self._affine(layer, shape, unit), [name])
        factor = layer.factor.double().numpy() * unit
        if (factor == 1).all():
            return name
        return self.file.add(layer.name, {"type": "Scale", "scale": full(factor, shape)}, [name])


def _with_map_bias(layer: NeuronLayer) -> tuple[FloatSoma, AffineLayer | ScaleLayer | None]:
    """Soma and feedback; a current that starts in the second step becomes the bias of the map again."""
    soma, feedback = layer.soma, layer.feedback
    if isinstance(feedback, AffineLayer) and feedback.bias is None and (late := bias_of_late(soma)) is not None:
        return attrs.evolve(soma, bias=late[0]), attrs.evolve(feedback, bias=late[1])
    return soma, feedback


@np.errstate(over="ignore")
def _fields(soma: FloatSoma, shape: tuple[int, ...]) -> Fields | str:
    theta = soma.theta.double().numpy()
    if soma.fire == "levels" and soma.reset == "drop":
        gain, bias = soma.gain.double().numpy(), soma.bias.double().numpy()
        if (gain <= 0).any():
            return "a threshold on a current of negative gain"
        return {"type": "Threshold", "threshold": full(((theta - bias) / gain).ravel(), shape)}
    values = {key: _row(getattr(soma, key)) for key in ("leak", "gain", "bias")}
    reset = 0.0 if soma.v_reset is None else _row(soma.v_reset)
    firing = None if soma.fire == "membrane" else _row(soma.theta)
    syn = None if soma.syn_leak is None else _row(soma.syn_leak)
    return neuron_fields(shape, **values, syn_leak=syn, theta=firing, v_reset=reset)


def _row(value: Any) -> Any:
    """A scalar or `[C]` of a field that is the same at every step."""
    array = value.double().numpy()
    return array[0] if array.ndim == 2 else array


def _no_node(soma: FloatSoma, unit: float) -> list[str]:
    """What NIR has no primitive for."""
    bad = [] if soma.fire in ("levels", "membrane", "relay") else [f"a neuron that sends {soma.fire}"]
    bad += ["a temporal window"] if soma.window is not None else []
    bad += ["a neuron that keeps what it passes on"] if soma.fire == "relay" and soma.reset != "drop" else []
    bad += [
        f"{key} that changes from step to step"
        for key in ("theta", "leak", "gain", "bias")
        if (value := getattr(soma, key)).dim() == 2 and value.shape[0] > 1 and bool((value != value[:1]).any())
    ]
    bad += ["spikes of different worth per channel"] if bool((soma.unit != soma.unit.flatten()[0]).any()) else []
    bad += ["spikes of different worth into one neuron"] if unit != 1.0 and soma.fire != "relay" else []
    return bad


def _unsaid(soma: FloatSoma) -> list[str]:
    """What the primitive leaves to its reader."""
    if soma.fire == "membrane":
        return []
    compare = ">" if soma.strict else ">="
    found = [f"fires at v {compare} theta, reset {soma.reset}"]
    found += [f"up to {soma.levels} spikes in one step"] if soma.levels > 1 else []
    found += ["a potential that starts elsewhere than at 0"] if bool((soma.v_init != 0).any()) else []
    found += ["a floor of the potential"] if soma.v_min is not None else []
    return found
