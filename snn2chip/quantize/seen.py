"""What blocks of calibration samples show of a float network: largest magnitudes, means, some of the payloads.

Blocks are joined in the order of the samples, so that it does not matter who ran them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import numpy as np
import torch

from snn2chip.ir.float_run import FloatRun
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.host_layer import HostLayer
from snn2chip.ir.layers import per_channel
from snn2chip.ir.linear_layers import AffineLayer
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.ir.raw import ByStep, part
from snn2chip.quantize import payload_steps
from snn2chip.quantize.spec import FloatArray

LARGEST = ("potential", "current", "maps", "readouts", "driven")
"""Largest magnitudes per channel."""


@attrs.define(kw_only=True)
class Seen:
    """Fields are those of `Ranges`; `moments` are parts of means, each with its share of all samples."""

    potential: dict[str, FloatArray] = attrs.field(factory=dict)
    current: dict[str, FloatArray] = attrs.field(factory=dict)
    payload: dict[str, float] = attrs.field(factory=dict)
    maps: dict[str, FloatArray] = attrs.field(factory=dict)
    moments: dict[str, tuple[float, float]] = attrs.field(factory=dict)
    readouts: dict[str, FloatArray] = attrs.field(factory=dict)
    spans: dict[str, tuple[float, float]] = attrs.field(factory=dict)
    payloads: dict[str, FloatArray] = attrs.field(factory=dict)
    driven: dict[str, FloatArray] = attrs.field(factory=dict)
    hosts: dict[str, tuple[float, ...]] = attrs.field(factory=dict)
    every: dict[str, int] = attrs.field(factory=dict)  # which of the payloads kept from a block stay: each n-th

    def join(self, other: Seen) -> None:
        """Add what the samples show that come next."""
        for field in LARGEST:
            mine = getattr(self, field)
            for name, top in getattr(other, field).items():
                mine[name] = np.maximum(mine.get(name, 0.0), top)
        for name, value in other.payload.items():
            self.payload[name] = max(self.payload.get(name, 0.0), value)
        for name, (first, second) in other.moments.items():
            before = self.moments.get(name, (0.0, 0.0))
            self.moments[name] = (before[0] + first, before[1] + second)
        for name, (lo, hi) in other.spans.items():
            far = self.spans.get(name, (lo, hi))
            self.spans[name] = min(far[0], lo), max(far[1], hi)
        for name, kept in other.payloads.items():
            every = self.every.setdefault(name, 1)
            joined = np.concatenate([self.payloads.get(name, np.zeros(0)), kept[::every]])
            while len(joined) > payload_steps.MOST:  # as thinly spread as what comes next
                joined, self.every[name] = joined[::2].copy(), 2 * self.every[name]
            self.payloads[name] = joined
        for name, tops in other.hosts.items():
            self.hosts[name] = tuple(map(max, tops, self.hosts.get(name, tops)))

    def state(self) -> dict[str, Any]:
        """The same as dicts, lists and arrays."""
        return attrs.asdict(self)

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> Seen:
        """What `state` gave."""
        pairs = {key: {name: tuple(x) for name, x in state[key].items()} for key in ("moments", "spans", "hosts")}
        return cls(**{**state, **pairs})


@torch.no_grad()
def blocks_seen(
    graph: LayerGraph,
    x: Mapping[str, torch.Tensor],
    time_axis: ByStep,
    *,
    total: int,
    block: int,
    start: int = 0,
    stop: int | None = None,
) -> Iterator[Seen]:
    """What every block of samples `start` to `stop` of all `total` shows; blocks begin on multiples of `block`."""
    for first in range(start, total if stop is None else stop, block):
        run = graph.run({n: a.float() for n, a in part(x, first, first + block, time_axis).items()}, collect=True)
        yield _seen(graph, run, share=min(block, total - first) / total)


def _seen(graph: LayerGraph, run: FloatRun, *, share: float) -> Seen:
    seen = Seen()
    for layer in graph.layers:
        if isinstance(layer, NeuronLayer):
            source = run.currents.get(layer.name, run.values[graph.inputs[layer.name][0]])
            if layer.soma.window is not None:
                mixed = layer.soma.window.to(source) @ source.flatten(1)
                source = mixed.view(source.shape)
            seen.current[layer.name] = _top(source)
            seen.payload[layer.name] = float(run.values[layer.name].abs().max())
            seen.potential[layer.name] = _top(run.before[layer.name])
            if layer.soma.fire == "excess" and layer.soma.out_max is None:
                seen.payloads[layer.name] = payload_steps.kept_payloads(run.values[layer.name])
            if layer.soma.fire == "sigmoid":
                before = run.before[layer.name]
                seen.spans[layer.name] = float(before.min()), float(before.max())
        elif isinstance(layer, AffineLayer) and _reads_relay(graph, layer):
            shift = per_channel(layer.bias_or_zero(), run.values[layer.name], lead=2)
            seen.driven[layer.name] = _top(run.values[layer.name] - shift)
        elif layer.kind == "gate":
            seen.maps[layer.name] = _top(run.values[layer.name])
        elif isinstance(layer, HostLayer):
            given = run.values[graph.inputs[layer.name][0]]
            given = given if given.stride(0) else given[:1]  # one frame for all steps
            seen.hosts[layer.name] = tuple(float(value.abs().max()) for value in layer.each(given))
    for name, given, made in _branches(graph, run):
        seen.maps[name] = np.maximum(seen.maps.get(name, 0.0), _top(made))
        fed, (first, second) = given.double(), seen.moments.get(name, (0.0, 0.0))
        seen.moments[name] = (first + share * float(fed.mean()), second + share * float(fed.square().mean()))
    for src in graph.inputs[graph.output.name]:
        seen.readouts[src] = _top(run.values[src][: graph.output.over].cumsum(0))
    return seen


def _reads_relay(graph: LayerGraph, layer: AffineLayer) -> bool:
    (source,) = graph.sources(layer.name)
    return isinstance(source, NeuronLayer) and source.soma.fire == "relay"


def _top(value: torch.Tensor) -> FloatArray:
    """Largest magnitude per channel of `[T, B, C, ...]`."""
    flat = value.abs().transpose(0, 2).flatten(1)
    return flat.amax(1).double().cpu().numpy()


def _branches(graph: LayerGraph, run: FloatRun) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    """The linear maps that meet in sums: name, payloads read, current; of a neuron's own payloads a step later."""
    met = {name for add in graph.of_kind("add") for name in graph.inputs[add.name]}
    for layer in graph.of_kind("neuron"):
        if isinstance(layer, NeuronLayer) and layer.feedback is not None:
            sent = run.values[layer.name]
            past = torch.cat([torch.zeros_like(sent[:1]), sent[:-1]])
            yield layer.feedback.name, past, layer.feedback.apply([past])
            met |= {src for src in graph.inputs[layer.name] if graph.layer(src).kind != "add"}
    for name in met:
        yield name, run.values[graph.inputs[name][0]], run.values[name]
