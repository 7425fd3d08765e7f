"""What drives a soma: linear maps as synapses, in one common unit of current per channel.

One linear map sets its own unit. In a sum one map keeps its integers (times a power of two) and sets the unit, the
others follow directly or through relays that write in it (`sums`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
from scipy.sparse import csr_matrix

from snn2chip.ir.attention_layers import BandLayer
from snn2chip.ir.channel_layers import ScaleLayer, SumPoolLayer
from snn2chip.ir.delay_layer import DelayLayer
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import Layer, Shape
from snn2chip.ir.linear_layers import AffineLayer, Conv2dLayer, WeightParts
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.ir.nodes import Host, Input, Node, Product, Synapse
from snn2chip.ir.soma import Soma
from snn2chip.ir.space_layers import ResampleLayer
from snn2chip.ir.types import V_MAX
from snn2chip.quantize.attention import attended_unit, product_shift
from snn2chip.quantize.calibrate import Ranges
from snn2chip.quantize.fusible import on_sum_grid
from snn2chip.quantize.relays import lower_relay, own_unit
from snn2chip.quantize.resampling import resampling
from snn2chip.quantize.spec import FloatArray, QuantRecord, QuantSpec
from snn2chip.quantize.sums import Branch, plan_sum, whole_units
from snn2chip.quantize.units import LoweredSoma
from snn2chip.quantize.weights import IntWeights, array, fitted_weights, folded, on_grid, quantize_weights, width_of

CHANNELWISE = (ScaleLayer, SumPoolLayer, ResampleLayer)
WINDOW_ROOM = 6
"""Bits of a sum's current that are left to the entries of a temporal window behind it."""


@attrs.frozen(kw_only=True)
class Feed:
    """What drives one soma: its synapses, the float value `delta [C]` of one unit of their summed current, the
    linear maps' bias `[C]` (float), and a static bound `[C]` of the integer current.
    """

    synapses: list[str]
    delta: FloatArray
    bias: FloatArray
    static: FloatArray


@attrs.define
class Feeds:
    """The state of one lowering: nodes and edges made so far, and the float unit of every payload."""

    graph: LayerGraph
    ranges: Ranges
    spec: QuantSpec
    spare: dict[str, int]
    nodes: list[Node] = attrs.field(factory=list)
    indexed: dict[str, Node] = attrs.field(factory=dict)
    edges: list[tuple[str, str] | tuple[str, str, int]] = attrs.field(factory=list)
    records: list[QuantRecord] = attrs.field(factory=list)
    units: dict[str, FloatArray] = attrs.field(factory=dict)
    mus: dict[str, FloatArray] = attrs.field(factory=dict)
    names: dict[str, str] = attrs.field(factory=dict)
    made: dict[Any, str] = attrs.field(factory=dict)
    taken: set[str] = attrs.field(factory=set)
    feeds: dict[str, Feed] = attrs.field(factory=dict)
    waiting: dict[str, NeuronLayer] = attrs.field(factory=dict)  # relays whose unit a sum will choose
    biased: set[str] = attrs.field(factory=set)  # maps whose bias a relay of their own carries
    sums_only: bool = False  # nothing but sums over the steps counts: round nothing at single steps
    relays: dict[str, FloatArray] = attrs.field(factory=dict)  # relays without a float layer, and their unit
    tops: dict[str, float] = attrs.field(factory=dict)  # largest payload of somas that are still to be made
    inputs: dict[str, tuple[str, ...]] = attrs.field(init=False)  # the graph's, and those of what feeds neurons back
    shapes: dict[str, Shape] = attrs.field(init=False)
    fitted: Mapping[str, WeightParts] = attrs.field(factory=dict)  # integers chosen on calibration samples
    delays: dict[str, int] = attrs.field(factory=dict)  # steps by which linear maps read late

    def __attrs_post_init__(self) -> None:
        self.inputs, self.shapes = dict(self.graph.inputs), dict(self.graph.shapes)
        for name, (source, *others) in ((n, s) for n, s in self.graph.inputs.items() if s):
            layer = self.graph.layer(source)
            while isinstance(layer, DelayLayer) and not others:  # a delay is one of the edge into the synapse
                self.delays[name] = self.delays.get(name, 0) + layer.delay
                (layer,) = self.graph.sources(layer.name)
                self.inputs[name] = (layer.name,)

    def fresh(self, wanted: str) -> str:
        """A unique legal node name."""
        base = re.sub(r"[^A-Za-z0-9_.\-]", "_", wanted)
        base = base if re.match(r"[A-Za-z_]", base) else f"n_{base}"
        name, n = base[:180], 2
        while name in self.taken:
            name, n = f"{base[:180]}_{n}", n + 1
        self.taken.add(name)
        return name

    def node(self, name: str) -> Node:
        """A node made so far."""
        for made in self.nodes[len(self.indexed) :]:
            self.indexed[made.name] = made
        return self.indexed[name]

    def relay(self, layer: NeuronLayer, unit: FloatArray | None) -> None:
        """Lower a relay with payloads in `unit` (None: exactly, in the current's own unit)."""
        self.waiting.pop(layer.name, None)
        feed = self.currents(self.inputs[layer.name][0])
        current = self.ranges.current[layer.name]
        shape = self.shapes[layer.name]
        self.soma(layer.name, self.lowered_relay(self.fresh(layer.name), layer, shape, feed, current, unit), feed)

    def lowered_relay(
        self, name: str, layer: Layer, shape: tuple[int, ...], feed: Feed, current: FloatArray, unit: FloatArray | None
    ) -> LoweredSoma:
        """A relay soma for the current of `feed`."""
        return lower_relay(
            name=name,
            label=layer.label,
            path=layer.path,
            shape=shape,
            delta=feed.delta,
            bias=feed.bias,
            current=current,
            unit=unit,
            spare_bits=self.spec.spare_bits + self.spare.get(name, 0),
        )

    def soma(self, layer: str | None, lowered: LoweredSoma, feed: Feed) -> None:
        """Register a lowered soma (under its layer, if it has one) and connect its synapses."""
        name = lowered.soma.name
        self.edges.extend((synapse, name) for synapse in feed.synapses)
        self.nodes.append(lowered.soma)
        self.mus[name] = lowered.mu
        if layer is not None:
            self.names[layer], self.units[layer] = name, lowered.unit
        self.records.extend(lowered.records)

    def currents(self, source: str) -> Feed:
        """The synapses behind a current, made on first use, in one common unit per channel."""
        if source not in self.feeds:
            self.feeds[source] = self.make_feed(source)
        return self.feeds[source]

    def make_feed(self, source: str) -> Feed:
        """Synapses of one linear map, or of all maps into a sum."""
        layer = self.graph.layer(source)
        channels = (self.shapes[source] or (1,))[0]
        if layer.kind == "gate":
            return self.gated(layer)
        if layer.kind != "add":
            weights = self.integers(layer)
            if self.sums_only and not weights.exact and self.graph.users(source) == (self.graph.output,):
                weights = on_grid(weights, np.full(channels, weights.delta.max()))  # one unit for all classes
            return self.feed([(self.synapse(layer, weights), self.static(layer, weights))], weights.delta, [layer])
        return self.sum_feed(list(self.graph.sources(source)), room=self.room(source))

    def fed_back(self, neuron: NeuronLayer, *, name: str, unit: FloatArray, top: int) -> Feed:
        """What drives a soma `name` whose own payloads, of a known unit and range, come back one step later."""
        assert neuron.feedback is not None
        self.names[neuron.name], self.units[neuron.name], self.tops[name] = name, unit, float(top)
        self.inputs[neuron.feedback.name] = (neuron.name,)
        self.shapes[neuron.feedback.name] = self.shapes[neuron.name]
        (source,) = self.graph.sources(neuron.name)
        maps = list(self.graph.sources(source.name)) if source.kind == "add" else [source]
        feed = self.sum_feed([*maps, neuron.feedback], room=self.room(source.name))
        self.edges = [(edge[0], edge[1], 1) if edge[0] == name else edge for edge in self.edges]
        return feed

    def sum_feed(self, maps: list[Layer], *, room: float) -> Feed:
        """Synapses of several maps into one soma, in one unit per channel."""
        channels = (self.shapes[maps[0].name] or (1,))[0]
        reach = [np.broadcast_to(self.ranges.maps[m.name], (channels,)) for m in maps]
        late = {m.name for m in maps if self.inputs[m.name][0] in self.waiting}
        if len(late) == len(maps):  # nothing else sets a unit: the first relay keeps its own
            self.relay(self.waiting[self.inputs[maps[0].name][0]], None)
            late.discard(maps[0].name)
        direct = [m for m in maps if m.name not in late]
        branches, shift = [self.branch(m) for m in direct], self.spec.residual_shift
        plan = plan_sum(branches, np.sum(reach, axis=0), limit=room, shift=shift)
        own = {m.name: branch.weights for m, branch in zip(direct, branches, strict=True)}
        chosen = {m.name: weights for m, weights in zip(direct, plan.weights, strict=True)}
        made = []
        for m in maps:
            placed = chosen.get(m.name)
            if placed is not None:
                made.append((self.synapse(m, placed), self.static(m, placed)))
            elif m.name in late:
                made.append(self.relayed(m, plan.delta))
            else:
                made.append(self.own_relay(m, own[m.name], plan.delta))
        return self.feed(made, plan.delta, maps)

    def gated(self, gate: Layer) -> Feed:
        """The product of two payloads, the second one number per channel."""
        first, second = (self.units[src] for src in self.inputs[gate.name])
        unit = np.broadcast_to(first * second, self.shapes[gate.name][:1])
        shift = product_shift(unit, self.ranges.maps[gate.name], self.room(gate.name))
        name = self.fresh(gate.name)
        self.nodes.append(Product(name, shift=shift, layer=gate.path))
        sources = [self.names[src] for src in self.inputs[gate.name]]
        self.edges.extend((src, name) for src in sources)
        most = np.prod([self.largest(src) for src in sources])
        delta = unit * 2.0**shift
        static = np.full(delta.shape, float(most) / 2.0**shift + 1)
        return Feed(synapses=[name], delta=delta, bias=np.zeros(delta.shape), static=static)

    def fitting(self, relay: NeuronLayer, unit: FloatArray | None) -> FloatArray | None:
        """`unit` of a relay, or a larger one where linear maps that read it would leave 24 bits on calibration data."""
        feed, current = self.currents(self.graph.inputs[relay.name][0]), self.ranges.current[relay.name]
        spare = self.spec.spare_bits
        own = own_unit(feed.delta, feed.bias, current, spare_bits=spare) if unit is None else unit
        limit, worst = float(V_MAX) / 2**spare, 1.0
        for user in self.graph.users(relay.name):
            if isinstance(user, AffineLayer):
                source, out = (self.graph.shapes[name] or (1,) for name in (relay.name, user.name))
                made = quantize_weights(user, folded(user, own, source, out), own, self.spec.mode_of(user))
                worst = max(worst, float((self.ranges.driven[user.name] / made.delta).max()) / limit)
        return unit if worst <= 1.0 else own * 2.0 ** np.ceil(np.log2(worst))

    def attended(self, relay: NeuronLayer) -> FloatArray:
        """Payload unit `[C]` of a relay whose current is multiplied: its sums over space must fit, too."""
        delta, current = self.currents(self.inputs[relay.name][0]).delta, self.ranges.current[relay.name]
        sums = np.zeros(delta.shape)
        for pool in self.graph.users(relay.name):
            if isinstance(pool, SumPoolLayer):
                means = [self.ranges.current[user.name] for user in self.graph.users(pool.name)]
                sums = np.maximum.reduce([sums, *(mean / array(pool.factor) for mean in means)])
        return attended_unit(delta, current, sums, spare_bits=self.spec.spare_bits)

    def branch(self, layer: Layer) -> Branch:
        """One linear map into a sum, as the choice of the sum's unit sees it."""
        channels = (self.shapes[layer.name] or (1,))[0]
        mean, power = self.ranges.moments[layer.name]
        unit = float(self.units[self.inputs[layer.name][0]].mean())
        return Branch(
            weights=self.integers(layer),
            payload=self.magnitude(layer),
            mean=mean / unit,
            power=power / unit**2,
            reach=np.array(np.broadcast_to(self.ranges.maps[layer.name], (channels,))),
            width=width_of(self.spec.mode(layer.name, layer.path)),
            identity=isinstance(layer, CHANNELWISE),
        )

    def room(self, source: str) -> float:
        """Largest integer current of a sum that leaves its soma, and a window in it, their own bits."""
        users = self.graph.users(source)
        mixed = any(isinstance(u, NeuronLayer) and u.soma.window is not None for u in users)
        return float(V_MAX) / 2 ** (self.spec.spare_bits + 1 + WINDOW_ROOM * mixed)

    def feed(self, made: list[tuple[str, FloatArray]], delta: FloatArray, maps: list[Layer]) -> Feed:
        """Put synapses, unit, static bound and the maps' bias together."""
        static = np.sum([bound for _, bound in made], axis=0)
        bias = np.zeros(delta.shape)
        for m in maps:
            shift = m.bias if isinstance(m, AffineLayer) else getattr(m, "shift", None)
            if shift is not None and m.name not in self.biased:
                bias = bias + array(shift)
        return Feed(synapses=[name for name, _ in made], delta=delta, bias=bias, static=static)

    def relayed(self, scale: Layer, delta: FloatArray) -> tuple[str, FloatArray]:
        """An identity branch from a waiting relay: the relay writes in this sum's unit, the weights are ±1."""
        assert isinstance(scale, ScaleLayer)
        factor = np.broadcast_to(array(scale.factor), delta.shape)
        source = self.inputs[scale.name][0]
        if source in self.waiting:  # another branch may have lowered it already
            self.relay(self.waiting[source], delta / np.where(factor == 0.0, 1.0, np.abs(factor)))
        weights = whole_units(np.broadcast_to(self.units[source], delta.shape) * factor)
        if not np.allclose(weights.delta[factor != 0.0], delta[factor != 0.0]):
            return self.own_relay(scale, weights, delta)
        weights = attrs.evolve(weights, delta=delta)
        return self.synapse(scale, weights), self.static(scale, weights)

    def own_relay(self, layer: Layer, weights: IntWeights, delta: FloatArray) -> tuple[str, FloatArray]:
        """A branch that keeps its integers: its current goes through a relay that writes in the sum's unit."""
        if self.sums_only and (not weights.exact or isinstance(layer, CHANNELWISE)):
            return self.whole_relay(layer, weights, delta)
        self.biased.discard(layer.name)
        current = self.ranges.maps[layer.name]
        weights = attrs.evolve(weights, delta=np.maximum(weights.delta, current * (4.0 / V_MAX)))  # next to no weights
        shape = self.shapes[layer.name]
        inner = self.feed([(self.synapse(layer, weights), self.static(layer, weights))], weights.delta, [layer])
        self.biased.add(layer.name)  # its bias is inside the relay now
        name = self.fresh(f"{layer.name}_relay")
        lowered = self.lowered_relay(name, layer, shape, inner, current, delta)
        self.soma(None, lowered, inner)
        self.relays[name] = delta
        identity = self.fresh(f"{name}_identity")
        self.nodes.append(Synapse(identity, "identity", 1, bits=1, layer=layer.path))
        self.edges.append((name, identity))
        return identity, np.full(delta.shape, float(lowered.soma.payload_type().magnitude))

    def whole_relay(self, layer: Layer, weights: IntWeights, delta: FloatArray) -> tuple[str, FloatArray]:
        """A branch through a relay that rounds nothing: its gain is the whole factor to the sum's unit."""
        static = self.static(layer, weights)
        sums = self.graph.steps * max(float(static.max()), 1.0)
        weights, factor, exponent = on_sum_grid(weights, delta, most=V_MAX / sums)
        static = self.static(layer, weights)
        plain = Feed(
            synapses=[self.synapse(layer, weights)], delta=weights.delta, bias=np.zeros(delta.shape), static=static
        )
        name, shape = self.fresh(f"{layer.name}_relay"), self.graph.shapes[layer.name]
        lowered = self.lowered_relay(name, layer, shape, plain, self.ranges.maps[layer.name], None)
        top = int(max((static * factor).max(), 1))
        lowered = attrs.evolve(lowered, soma=attrs.evolve(lowered.soma, gain=factor, out_max=top, out_min=-top))
        self.soma(None, lowered, plain)
        self.relays[name] = delta * 2.0**exponent
        identity = self.fresh(f"{name}_identity")
        self.nodes.append(Synapse(identity, "identity", 1, bits=1, exponent=exponent, layer=layer.path))
        self.edges.append((name, identity))
        return identity, np.full(delta.shape, top * 2.0**exponent)

    def static(self, linear: Layer, weights: IntWeights) -> FloatArray:
        """Largest integer current per channel that weights and payload range allow."""
        taps = linear.kernel[0] * linear.kernel[1] if isinstance(linear, SumPoolLayer) else 1
        taps = linear.taps if isinstance(linear, ResampleLayer) else taps
        per_output = np.abs(weights.values).reshape(len(weights.values), -1).sum(1, dtype=np.int64) * taps
        bound: FloatArray = per_output * 2.0**weights.exponent * self.magnitude(linear)
        return bound

    def magnitude(self, linear: Layer) -> float:
        """Largest payload of what a linear map reads."""
        return self.largest(self.names[self.inputs[linear.name][0]])

    def largest(self, name: str) -> float:
        """Largest payload of a node."""
        if name in self.tops:
            return self.tops[name]
        source = self.node(name)
        assert isinstance(source, (Input, Host, Soma))
        return float(source.payload_type().magnitude)

    def integers(self, layer: Layer) -> IntWeights:
        """Integer weights of one linear map on its source's payload units."""
        source = self.inputs[layer.name][0]
        unit = self.units[source]
        shapes = self.shapes
        target = folded(layer, unit, shapes[source] or (1,), shapes[layer.name] or (1,))
        if isinstance(layer, CHANNELWISE):
            return whole_units(target)
        if (fitted := self.fitted.get(layer.name)) is not None:
            return fitted_weights(fitted, target, unit, self.spec.mode_of(layer))
        return quantize_weights(layer, target, unit, self.spec.mode_of(layer))

    def synapse(self, layer: Layer, weights: IntWeights) -> str:
        """The synapse node of a linear map; the same integers are made once and shared."""
        key = (layer.name, weights.exponent, hashlib.blake2b(weights.values.tobytes()).digest())
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
        elif isinstance(layer, ResampleLayer):
            node = resampling(name, layer, weights, shape=self.shapes[layer.name])
        else:
            if isinstance(layer, BandLayer):  # zeros are neither stored nor counted
                values = csr_matrix(values)
            node = Synapse(name, "identity" if isinstance(layer, ScaleLayer) else "linear", values, **common)
        self.nodes.append(node)
        delay = self.delays.get(layer.name, 0)
        source = self.names[self.inputs[layer.name][0]]
        self.edges.append((source, name, delay) if delay else (source, name))
        self.records.append(weights.record(name, layer.path))
        return name
