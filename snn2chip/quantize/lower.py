"""Lowering: a float LayerGraph in normal form becomes an integer Program.

Walks the graph in data-flow order, carrying the float value of one payload unit of every source:
linear maps become synapses (shared where two somas need the same integers), sums of currents become several
synapses into one soma, neurons become somas, a current that is read becomes a non-firing read-out soma.
"""

from __future__ import annotations

import re
from typing import Any

import attrs
import numpy as np

from snn2chip.errors import QuantizeError
from snn2chip.ir.channel_layers import ScaleLayer, SumPoolLayer
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import Layer
from snn2chip.ir.linear_layers import AffineLayer, Conv2dLayer
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.ir.nodes import Input, Node, Output, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.quantize.calibrate import Ranges
from snn2chip.quantize.spec import FloatArray, QuantRecord, QuantSpec, half_up, record
from snn2chip.quantize.units import LoweredSoma, Reach, lower_readout, lower_soma
from snn2chip.quantize.weights import IntWeights, array, folded, quantize_weights, share_unit


def lower(
    graph: LayerGraph,
    ranges: Ranges,
    *,
    spec: QuantSpec | None = None,
    target: str = "loihi2",
    coding: str = "repeat",
    spare: dict[str, int] | None = None,
    meta: dict[str, Any] | None = None,
) -> Program:
    """Make the integer program of `graph` (normal form) with ranges from calibration data.

    `coding`: how samples are given (`repeat` one frame, `steps` a frame per step). `spare` adds spare bits
    for single somas. Raises QuantizeError and UnsupportedError naming every layer that cannot be lowered.
    """
    breaches = graph.normal_form_breaches()
    if breaches:
        raise QuantizeError(breaches)
    work = _Lowering(graph, ranges, spec or QuantSpec(), spare or {})
    work.input(coding)
    for layer in graph.layers:
        if isinstance(layer, NeuronLayer):
            work.neuron(layer)
    work.output()
    return Program(
        nodes=work.nodes,
        edges=work.edges,
        steps=graph.steps,
        target=target,
        records=[r.as_dict() for r in work.records],
        meta={**(meta or {}), "units": work.units_meta(), "layers": work.layers_meta()},
    )


@attrs.define
class _Lowering:
    graph: LayerGraph
    ranges: Ranges
    spec: QuantSpec
    spare: dict[str, int]
    nodes: list[Node] = attrs.field(factory=list)
    edges: list[tuple[str, str]] = attrs.field(factory=list)
    records: list[QuantRecord] = attrs.field(factory=list)
    units: dict[str, FloatArray] = attrs.field(factory=dict)
    mus: dict[str, FloatArray] = attrs.field(factory=dict)
    names: dict[str, str] = attrs.field(factory=dict)
    made: dict[Any, str] = attrs.field(factory=dict)
    taken: set[str] = attrs.field(factory=set)

    def fresh(self, wanted: str) -> str:
        """A unique legal node name."""
        base = re.sub(r"[^A-Za-z0-9_.\-]", "_", wanted)
        base = base if re.match(r"[A-Za-z_]", base) else f"n_{base}"
        name, n = base[:180], 2
        while name in self.taken:
            name, n = f"{base[:180]}_{n}", n + 1
        self.taken.add(name)
        return name

    def input(self, coding: str) -> None:
        """The Input node: whole numbers as they are, real values on a grid of `input_bits`."""
        layer = self.graph.input
        lo, hi = self.ranges.raw
        offset = np.zeros(1) if layer.offset is None else array(layer.offset).ravel()
        scale = 1.0
        if not self.ranges.whole and layer.offset is None:
            signed = lo < 0
            scale = max(abs(lo), abs(hi), 1e-30) / ((1 << (self.spec.input_bits - signed)) - 1)
        ints = half_up(offset)
        low = int(np.floor(min(lo, 0.0) / scale + 0.5)) - int(ints.max())
        high = int(np.floor(max(hi, 0.0) / scale + 0.5)) - int(ints.min())
        if self.ranges.whole and lo >= 0:  # raw integers: leave room up to the next power of two
            high = (1 << int(max(hi, 1.0)).bit_length()) - 1 - int(ints.min())
        name = self.fresh(layer.name)
        node = Input(
            name,
            layer.shape,
            min(low, 0),
            max(high, 1),
            coding=coding,
            scale=scale,
            offset=ints if ints.size > 1 else int(ints[0]),
            layer=layer.path,
        )
        self.nodes.append(node)
        self.names[layer.name], self.units[layer.name] = name, np.array([scale])
        self.records.append(record(name, layer.path, "scale", unit="raw", source=scale, integer=1, lsb=scale))

    def neuron(self, layer: NeuronLayer) -> None:
        """One soma with its synapses."""
        branches, delta, bias = self.currents(self.graph.inputs[layer.name][0])
        name = self.fresh(layer.name)
        lowered = lower_soma(
            layer,
            name=name,
            shape=self.graph.shapes[layer.name],
            delta=delta,
            bias=bias,
            reach=Reach(
                potential=self.ranges.potential[layer.name],
                current=self.ranges.current[layer.name],
                static=self.static(branches, layer, delta),
                payload=self.ranges.payload[layer.name],
            ),
            spec=self.spec,
            spare=self.spare.get(name, 0),
        )
        self.soma(layer, lowered, branches)

    def soma(self, layer: Layer, lowered: LoweredSoma, branches: list[tuple[Layer, IntWeights]]) -> None:
        """Register a lowered soma under its layer and connect its synapses."""
        name = lowered.soma.name
        for linear, weights in branches:
            self.edges.append((self.synapse(linear, weights), name))
        self.nodes.append(lowered.soma)
        self.names[layer.name], self.units[layer.name], self.mus[name] = name, lowered.unit, lowered.mu
        self.records.extend(lowered.records)

    def currents(self, source: str) -> tuple[list[tuple[Layer, IntWeights]], FloatArray, FloatArray]:
        """Linear maps behind a current: their integers in one common unit `delta [C]`, and the bias `[C]`."""
        layer = self.graph.layer(source)
        maps = list(self.graph.sources(source)) if layer.kind == "add" else [layer]
        weights = share_unit([self.integers(m) for m in maps], shift=self.spec.residual_shift)
        channels = (self.graph.shapes[source] or (1,))[0]
        bias = np.zeros(channels)
        for m in maps:
            shift = m.bias if isinstance(m, AffineLayer) else getattr(m, "shift", None)
            if shift is not None:
                bias = bias + array(shift)
        return list(zip(maps, weights, strict=True)), np.broadcast_to(weights[0].delta, (channels,)), bias

    def static(self, branches: list[tuple[Layer, IntWeights]], layer: NeuronLayer, delta: FloatArray) -> FloatArray:
        """Largest integer current per channel that weights and payload ranges allow (mixed by the window)."""
        total = np.zeros(delta.shape)
        for linear, weights in branches:
            source = next(n for n in self.nodes if n.name == self.names[self.graph.inputs[linear.name][0]])
            assert isinstance(source, (Input, Soma))
            taps = linear.kernel[0] * linear.kernel[1] if isinstance(linear, SumPoolLayer) else 1
            per_output = np.abs(weights.values).reshape(len(weights.values), -1).sum(1) * taps
            total = total + per_output * 2.0**weights.exponent * source.payload_type().magnitude
        window = layer.soma.window
        return total if window is None else total * float(np.abs(array(window)).sum(1).max())

    def integers(self, layer: Layer) -> IntWeights:
        """Integer weights of one linear map on its source's payload units."""
        source = self.graph.inputs[layer.name][0]
        unit = self.units[source]
        shapes = self.graph.shapes
        target = folded(layer, unit, shapes[source] or (1,), shapes[layer.name] or (1,))
        if isinstance(layer, (ScaleLayer, SumPoolLayer)) and target.size and (target > 0).all():
            ones = np.ones(target.shape, dtype=np.int64)
            return IntWeights(values=ones, delta=target, bits=1, exact=True, target=target)
        return quantize_weights(layer, target, unit, self.spec.mode(layer.name, layer.path))

    def synapse(self, layer: Layer, weights: IntWeights) -> str:
        """The synapse node of a linear map; the same integers are made once and shared."""
        key = (layer.name, weights.exponent, weights.values.tobytes())
        if key in self.made:
            return self.made[key]
        name = self.made[key] = self.fresh(layer.name)
        common: dict[str, Any] = {"bits": weights.bits, "exponent": weights.exponent, "layer": layer.path}
        values: Any = weights.values
        if isinstance(layer, (ScaleLayer, SumPoolLayer)) and (values == values.flat[0]).all():
            values = int(values.flat[0])
        if isinstance(layer, Conv2dLayer):
            geometry: dict[str, Any] = {k: getattr(layer, k) for k in ("stride", "padding", "dilation", "groups")}
            node = Synapse(name, "conv2d", values, **common, **geometry)
        elif isinstance(layer, SumPoolLayer):
            node = Synapse(
                name, "sumpool", values, **common, kernel_size=layer.kernel, stride=layer.stride, padding=layer.padding
            )
        else:
            node = Synapse(name, "identity" if isinstance(layer, ScaleLayer) else "linear", values, **common)
        self.nodes.append(node)
        self.edges.append((self.names[self.graph.inputs[layer.name][0]], name))
        self.records.append(
            QuantRecord(
                node=name,
                layer=layer.path,
                field=f"weight ({weights.bits}{', as trained' if weights.exact else ''})",
                unit="delta",
                source=[float(weights.target.min()), float(weights.target.max())],
                integer=[int(weights.values.min()), int(weights.values.max())],
                error=weights.error,
            )
        )
        return name

    def output(self) -> None:
        """The read-out: a non-firing soma for a current, payload sums for a neuron."""
        layer = self.graph.output
        source = self.graph.layer(self.graph.inputs[layer.name][0])
        name = self.fresh(layer.name if layer.name != "output" else "out")
        if isinstance(source, NeuronLayer):
            if self.units[source.name].size > 1:
                raise QuantizeError(
                    f"{source.label}: classes have different payload units; read a linear layer instead"
                )
            if layer.reduce == "last":
                raise QuantizeError(f"{layer.label}: reading the last step of spikes is not supported; use mean or sum")
            self.nodes.append(Output(name, "payload", layer=layer.path))
            self.edges.append((self.names[source.name], name))
            return
        if layer.reduce == "steps":
            raise QuantizeError(f"{layer.label}: the model returns every step; return their mean, sum or the last one")
        branches, delta, bias = self.currents(source.name)
        lowered = lower_readout(
            name=self.fresh("readout"),
            path=source.path,
            shape=self.graph.shapes[source.name],
            delta=delta,
            bias=bias,
            reach=self.ranges.readout,
            last=layer.reduce == "last",
        )
        self.soma(layer, lowered, branches)
        self.nodes.append(Output(name, "potential", layer=layer.path))
        self.edges.append((lowered.soma.name, name))

    def units_meta(self) -> dict[str, Any]:
        """Float value of one payload unit and of one LSB of the potential, by node name."""
        payload = {self.names[k]: v.ravel().tolist() for k, v in self.units.items() if k in self.names}
        return {"payload": payload, "potential": {k: v.ravel().tolist() for k, v in self.mus.items()}}

    def layers_meta(self) -> dict[str, str]:
        """Node name of every layer of the float graph."""
        return {k: v for k, v in self.names.items() if isinstance(self.soma_or_input(v), (Soma, Input))}

    def soma_or_input(self, name: str) -> Node | None:
        """The node called `name`."""
        return next((n for n in self.nodes if n.name == name), None)
