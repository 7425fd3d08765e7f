"""Lowering: a float LayerGraph in normal form becomes an integer Program.

Walks the graph in data-flow order, carrying the float value of one payload unit of every source:
linear maps become synapses (shared where two somas need the same integers), sums of currents become several
synapses into one soma, neurons become somas, a current that is read becomes a non-firing read-out soma.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np

from snn2chip.errors import QuantizeError, UnsupportedError
from snn2chip.ir.attention_layers import BandLayer
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import InputLayer, Layer, OutputLayer
from snn2chip.ir.linear_layers import AffineLayer, WeightParts
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.ir.nodes import Output
from snn2chip.ir.program import Program
from snn2chip.quantize.attention import lower_score, mean_unit
from snn2chip.quantize.calibrate import Ranges
from snn2chip.quantize.feeds import Feed, Feeds
from snn2chip.quantize.fusible import only_sums, whole_gain
from snn2chip.quantize.hosts import host_node, host_prefix
from snn2chip.quantize.inputs import input_node
from snn2chip.quantize.readout import lower_membrane, lower_readout
from snn2chip.quantize.refusals import check_layers
from snn2chip.quantize.relays import common_unit
from snn2chip.quantize.spec import FloatArray, QuantSpec, record
from snn2chip.quantize.trained import lower_trained, mismatch
from snn2chip.quantize.units import Reach, lower_maximum, lower_soma, payload_scale
from snn2chip.quantize.weights import array
from snn2chip.stages import staged


@staged("quantize and lower")
def lower(
    graph: LayerGraph,
    ranges: Ranges,
    *,
    spec: QuantSpec | None = None,
    target: str = "loihi2",
    coding: str | Mapping[str, str] = "repeat",
    spare: dict[str, int] | None = None,
    fitted: Mapping[str, WeightParts] | None = None,
    meta: dict[str, Any] | None = None,
) -> Program:
    """Make the integer program of `graph` (normal form) with ranges from calibration data.

    `coding`: how samples are given (`repeat` one frame, `steps` a frame per step), of several inputs by
    name. `spare` adds spare bits for single somas, `fitted` holds integers that were chosen on calibration samples
    (`calibrated`). Raises QuantizeError and UnsupportedError naming every layer that cannot be lowered.
    """
    breaches = graph.normal_form_breaches()
    if breaches:
        raise QuantizeError(breaches)
    spec = spec or QuantSpec()
    maps = [(layer.name, layer.path) for layer in graph.layers if _chosen(layer)]
    if unused := spec.unused(maps):
        known = ", ".join(path or name for name, path in maps)
        raise QuantizeError([f"no layer with weights is called {p!r}; there are {known}" for p in unused])
    check_layers(graph, target, strict=spec.strict)
    work = _Lowering(graph, ranges, spec, spare or {}, sums_only=only_sums(graph), fitted=fitted or {})
    for given in graph.input_layers:
        work.input(given, coding if isinstance(coding, str) else coding[given.name])
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
        meta={
            **(meta or {}),
            "units": work.units_meta(),
            "layers": work.layers_meta(),
            **({"trained": work.trained} if work.trained else {}),
        },
    )


def _chosen(layer: Layer) -> bool:
    """Whether the width of a layer's weights can be asked for."""
    return isinstance(layer, AffineLayer) and not isinstance(layer, BandLayer)


@attrs.define
class _Lowering(Feeds):
    """Inputs, somas and read-outs on top of their feeds."""

    trained: dict[str, str] = attrs.field(factory=dict)  # neurons trained on integers: "exact", or why not

    def input(self, layer: InputLayer, coding: str) -> None:
        """An Input node: whole numbers as they are, real values on a grid of `input_bits`."""
        name = self.fresh(layer.name)
        node = input_node(layer, self.ranges, name=name, coding=coding, bits=self.spec.input_bits)
        scale = node.scale
        prefix = host_prefix(self.graph, layer.name)
        if layer.frames is None and prefix is None:
            self.nodes.append(node)
            self.names[layer.name], self.units[layer.name] = name, np.array([scale])
        else:
            largest = () if prefix is None else self.ranges.hosts[prefix.name]
            host, unit, records = host_node(
                node, frames=layer.frames, layer=prefix, largest=largest, bits=self.spec.input_bits
            )
            self.nodes.append(host)
            self.records += records
            source = layer.name if prefix is None else prefix.name
            self.names[source], self.units[source] = name, unit
        self.records.append(record(name, layer.path, "scale", unit="raw", source=scale, integer=1, lsb=scale))

    def neuron(self, layer: NeuronLayer) -> None:
        """One soma with its synapses; a relay into a sum waits until the sum's unit is known."""
        if layer.soma.fire == "relay":
            users = self.graph.users(layer.name)
            if all(u.kind == "scale" and self.graph.users(u.name)[0].kind == "add" for u in users):
                self.waiting[layer.name] = layer
            elif bands := [u for u in users if isinstance(u, BandLayer)]:
                self.relay(layer, mean_unit(bands[0], self.ranges.current[layer.name]))
            elif any(u.kind == "gate" for u in users):
                self.relay(layer, self.attended(layer))
            else:
                trained = any(getattr(u, "parts", None) is not None for u in users)
                delta = self.currents(self.graph.inputs[layer.name][0]).delta
                common = trained and not (delta == delta[0]).all()  # one unit for all channels, unless it is one anyway
                unit = common_unit(self.ranges.current[layer.name]) if common else None
                self.relay(layer, self.fitting(layer, unit))
            return
        name = self.fresh(layer.name)
        feed = self.looped(layer, name) if layer.feedback is not None else self.currents(self.inputs[layer.name][0])
        if layer.soma.fire == "sigmoid":
            shape, span = self.graph.shapes[layer.name], self.ranges.spans[layer.name]
            score = lower_score(name=name, path=layer.path, shape=shape, delta=feed.delta, bias=feed.bias, span=span)
            self.soma(layer.name, score, feed)
            return
        if layer.soma.fire == "membrane":
            self.membrane(layer, name, feed)
            return
        if layer.soma.method == "maxpool":
            self.soma(layer.name, lower_maximum(layer, name=name, shape=self.graph.shapes[layer.name]), feed)
            return
        if layer.soma.trained is not None:
            self.trained[name] = mismatch(layer, feed) or "exact"
            if self.trained[name] == "exact":
                shape, current = self.graph.shapes[layer.name], self.ranges.current[layer.name]
                self.soma(layer.name, lower_trained(layer, feed, name=name, shape=shape, current=current), feed)
                return
        lowered = lower_soma(
            layer,
            name=name,
            shape=self.graph.shapes[layer.name],
            delta=feed.delta,
            bias=feed.bias,
            reach=self.reach(layer, feed.static),
            spec=self.spec,
            spare=self.spare.get(name, 0),
        )
        self.soma(layer.name, lowered, feed)

    def membrane(self, layer: NeuronLayer, name: str, feed: Feed) -> None:
        """A potential that is read at the end: a soma that never fires, in one unit for all channels."""
        others = [user.label for user in self.graph.users(layer.name) if not isinstance(user, OutputLayer)]
        output = self.graph.output
        ways = [output.how(i) for i, src in enumerate(self.graph.inputs[output.name]) if src == layer.name]
        reads = next((way for way in ways if way != "last"), "last")
        if others or reads != "last":
            how = f"at every step by {', '.join(others)}" if others else f"as the {reads} of its steps"
            raise UnsupportedError(
                f"{layer.label}: the potential of a neuron that does not fire is read after the last step, not {how}"
            )
        lowered = lower_membrane(
            layer,
            name=name,
            shape=self.graph.shapes[layer.name],
            delta=feed.delta,
            bias=feed.bias,
            reach=self.reach(layer, feed.static),
            spare=self.spare.get(name, 0),
        )
        self.soma(layer.name, lowered, feed)

    def looped(self, layer: NeuronLayer, name: str) -> Feed:
        """The feed of a neuron whose own payloads come back to it: their unit is known before its soma is."""
        fields, unit = payload_scale(layer.soma, np.ones(1), self.reach(layer, np.zeros(1)), self.spec.payload_bits)
        return self.fed_back(layer, name=name, unit=unit, top=int(fields["out_max"]))

    def reach(self, layer: NeuronLayer, static: FloatArray) -> Reach:
        """How far a soma reaches on calibration data, and at most."""
        window = layer.soma.window
        return Reach(
            potential=self.ranges.potential[layer.name],
            current=self.ranges.current[layer.name],
            static=static * (1.0 if window is None else float(np.abs(array(window)).sum(1).max())),
            payload=self.ranges.payload[layer.name],
            payloads=self.ranges.payloads.get(layer.name, np.zeros(0)),
        )

    def output(self) -> None:
        """The read-outs, one for every tensor that the model returns."""
        layer = self.graph.output
        names = layer.heads or (layer.name if layer.name != "output" else "out",)
        for i, (head, src) in enumerate(zip(names, self.graph.inputs[layer.name], strict=True)):
            self.read(layer, self.graph.layer(src), head=head, how=layer.how(i))

    def read(self, layer: OutputLayer, source: Layer, *, head: str, how: str) -> None:
        """One read-out: a non-firing soma for a current, payload sums for a neuron."""
        name = self.fresh(head)
        if isinstance(source, NeuronLayer) and source.soma.fire == "membrane":
            self.nodes.append(Output(name, "potential", layer=layer.path))
            self.edges.append((self.names[source.name], name))
            return
        if isinstance(source, NeuronLayer):
            if self.units[source.name].size > 1 and how != "count":
                raise QuantizeError(
                    f"{source.label}: classes have different payload units; read a linear layer instead, or count "
                    "spikes (readout='count')"
                )
            if how == "last":
                raise QuantizeError(f"{layer.label}: the last step of spikes is read through a synapse; run the passes")
            self.nodes.append(Output(name, "count" if how == "count" else "payload", layer=layer.path))
            self.edges.append((self.names[source.name], name))
            return
        if how == "steps":
            raise QuantizeError(
                f"{layer.label}: the model returns every step; return their mean, sum or the last one, or choose how "
                "they are read (readout='sum', 'last')"
            )
        feed, reach = self.currents(source.name), self.ranges.readouts[source.name]
        readout = self.fresh("readout")
        lowered = lower_readout(
            name=readout,
            path=source.path,
            shape=self.graph.shapes[source.name],
            delta=feed.delta,
            bias=feed.bias,
            reach=reach,
            last=how == "last",
            idle=None if layer.over is None else (layer.over, self.graph.steps),
            spare=self.spare.get(readout, 0),
            whole=whole_gain(feed.delta, feed.bias, feed.static, reach, steps=self.graph.steps)
            if self.sums_only and how != "last"
            else 0,
        )
        self.soma(layer.name if not layer.heads else f"{layer.name}.{head}", lowered, feed)
        self.nodes.append(Output(name, "potential", layer=layer.path))
        self.edges.append((lowered.soma.name, name))

    def units_meta(self) -> dict[str, Any]:
        """Float value of one payload unit and of one LSB of the potential, by node name."""
        payload = {self.names[k]: v.ravel().tolist() for k, v in self.units.items() if k in self.names}
        payload |= {name: v.ravel().tolist() for name, v in self.relays.items()}
        return {"payload": payload, "potential": {k: v.ravel().tolist() for k, v in self.mus.items()}}

    def layers_meta(self) -> dict[str, str]:
        """Node name of every layer of the float graph."""
        return dict(self.names)
