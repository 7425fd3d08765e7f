"""Ranges on real data: the largest potentials and currents of the float network, streamed block by block."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import numpy as np
import torch

from snn2chip.errors import InputError
from snn2chip.ir.float_run import FloatRun
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.host_layer import HostLayer
from snn2chip.ir.layers import per_channel
from snn2chip.ir.linear_layers import AffineLayer
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.ir.raw import ByStep, batch_axis, count, named, part
from snn2chip.quantize.payload_steps import kept_payloads
from snn2chip.quantize.spec import FloatArray
from snn2chip.stages import staged


@attrs.frozen(kw_only=True)
class Ranges:
    """Largest magnitudes seen, per channel, in float units.

    `potential[neuron]` before the reset, `current[neuron]` the (mixed) current, `payload[neuron]` the largest
    payload value, `maps[layer]` the current of one linear map into a sum, `moments[layer]` mean and mean square of
    the payload values that it is fed, `spans` smallest and largest potential of sigmoid
    neurons, `payloads` some of the real payloads of neurons, `driven` the current without bias
    of linear maps that read relays,
    `hosts` the largest magnitude behind each part of a host stem,
    `readouts[layer]` the running sum of a returned value; of every input by name: `raw` its smallest and largest
    raw value, `whole` whether all of them were whole numbers, `input_range` what the user says they may be.
    """

    potential: dict[str, FloatArray]
    current: dict[str, FloatArray]
    payload: dict[str, float]
    maps: dict[str, FloatArray]
    moments: dict[str, tuple[float, float]]
    readouts: dict[str, FloatArray]
    spans: dict[str, tuple[float, float]]
    payloads: dict[str, FloatArray]
    driven: dict[str, FloatArray]
    hosts: dict[str, tuple[float, ...]]
    raw: dict[str, tuple[float, float]]
    whole: dict[str, bool]
    samples: int
    input_range: dict[str, tuple[float, float]] = attrs.field(factory=dict)


BLOCK_BYTES = 16 << 20
"""Values and potentials of all layers that one block keeps; small blocks also stay in the caches."""
MOST_AT_ONCE = 64


def samples_at_once(graph: LayerGraph) -> int:
    """Samples whose values and potentials at all layers and steps fit `BLOCK_BYTES`."""
    kept = {True: 3, False: 1}  # a neuron's value and its potentials before and after firing
    numbers = sum(kept[layer.kind == "neuron"] * math.prod(graph.shapes[layer.name]) for layer in graph.layers)
    return min(max(1, BLOCK_BYTES // (4 * graph.steps * numbers)), MOST_AT_ONCE)


def _reads_relay(graph: LayerGraph, layer: AffineLayer) -> bool:
    (source,) = graph.sources(layer.name)
    return isinstance(source, NeuronLayer) and source.soma.fire == "relay"


def _top(value: torch.Tensor) -> FloatArray:
    """Largest magnitude per channel of `[T, B, C, ...]`."""
    flat = value.abs().transpose(0, 2).flatten(1)
    return flat.amax(1).double().cpu().numpy()


@staged("calibrate")
@torch.no_grad()
def calibrate(
    graph: LayerGraph,
    data: Any,
    *,
    time_axis: ByStep = False,
    input_range: tuple[float, float] | Mapping[str, tuple[float, float]] | None = None,
    block: int | None = None,
) -> Ranges:
    """Run the float graph over raw samples `[N, ...]` (`[T, N, ...]` with `time_axis`) and keep the ranges.

    Several inputs are given by name, and `time_axis` is True, False or the names of those that hold every step.
    `block` samples at a time (default: as many as keep their values within `BLOCK_BYTES`). Raises InputError for no
    samples or for NaN and infinity.
    """
    given_as = data if isinstance(data, Mapping) else {graph.input.name: data}
    x = {name: _samples(values, batch_axis(name, time_axis)) for name, values in given_as.items()}
    total = count(x, time_axis)
    block = samples_at_once(graph) if block is None else block
    potential: dict[str, FloatArray] = {}
    current: dict[str, FloatArray] = {}
    payload: dict[str, float] = {}
    maps: dict[str, FloatArray] = {}
    moments: dict[str, tuple[float, float]] = {}
    spans: dict[str, tuple[float, float]] = {}
    payloads: dict[str, FloatArray] = {}
    driven: dict[str, FloatArray] = {}
    hosts: dict[str, tuple[float, ...]] = {}
    readouts: dict[str, FloatArray] = {}
    for start in range(0, total, block):
        run = graph.run({n: a.float() for n, a in part(x, start, start + block, time_axis).items()}, collect=True)
        for layer in graph.layers:
            if isinstance(layer, NeuronLayer):
                source = run.currents.get(layer.name, run.values[graph.inputs[layer.name][0]])
                if layer.soma.window is not None:
                    mixed = layer.soma.window.to(source) @ source.flatten(1)
                    source = mixed.view(source.shape)
                current[layer.name] = np.maximum(current.get(layer.name, 0.0), _top(source))
                payload[layer.name] = max(payload.get(layer.name, 0.0), float(run.values[layer.name].abs().max()))
                potential[layer.name] = np.maximum(potential.get(layer.name, 0.0), _top(run.before[layer.name]))
                if layer.soma.fire == "excess" and layer.soma.out_max is None:
                    kept = payloads.get(layer.name, np.zeros(0))
                    payloads[layer.name] = np.concatenate([kept, kept_payloads(run.values[layer.name])])
                if layer.soma.fire == "sigmoid":
                    before = run.before[layer.name]
                    seen = spans.get(layer.name, (float("inf"), -float("inf")))
                    spans[layer.name] = min(seen[0], float(before.min())), max(seen[1], float(before.max()))
            elif isinstance(layer, AffineLayer) and _reads_relay(graph, layer):
                shift = per_channel(layer.bias_or_zero(), run.values[layer.name], lead=2)
                driven[layer.name] = np.maximum(driven.get(layer.name, 0.0), _top(run.values[layer.name] - shift))
            elif layer.kind == "gate":
                maps[layer.name] = np.maximum(maps.get(layer.name, 0.0), _top(run.values[layer.name]))
            elif isinstance(layer, HostLayer):
                given = run.values[graph.inputs[layer.name][0]]
                given = given if given.stride(0) else given[:1]  # one frame for all steps
                tops = [float(value.abs().max()) for value in layer.each(given)]
                hosts[layer.name] = tuple(map(max, tops, hosts.get(layer.name, tops)))
        share = min(block, total - start) / total
        for name, given, made in _branches(graph, run):
            maps[name] = np.maximum(maps.get(name, 0.0), _top(made))
            fed, (first, second) = given.double(), moments.get(name, (0.0, 0.0))
            moments[name] = (first + share * float(fed.mean()), second + share * float(fed.square().mean()))
        for src in graph.inputs[graph.output.name]:
            readouts[src] = np.maximum(readouts.get(src, 0.0), _top(run.values[src][: graph.output.over].cumsum(0)))
    return Ranges(
        potential=potential,
        current=current,
        payload=payload,
        maps=maps,
        moments=moments,
        readouts=readouts,
        spans=spans,
        payloads=payloads,
        driven=driven,
        hosts=hosts,
        raw={name: (float(a.min()), float(a.max())) for name, a in x.items()},
        whole={name: bool((a == a.round()).all()) for name, a in x.items()},
        samples=total,
        input_range=_by_name(graph, input_range),
    )


def _by_name(graph: LayerGraph, input_range: Any) -> dict[str, tuple[float, float]]:
    if input_range is None or isinstance(input_range, Mapping):
        return dict(input_range or {})
    return {graph.input.name: input_range}


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


def _samples(data: Any, axis: int) -> torch.Tensor:
    """The samples as floating-point numbers, if ranges can be taken from them."""
    array = data if isinstance(data, torch.Tensor) else np.asarray(data)
    if not isinstance(array, torch.Tensor) and array.dtype.kind not in "biuf":
        raise InputError(f"calibration samples must be real numbers, got {array.dtype}")
    x = torch.as_tensor(array)
    if x.is_complex():
        raise InputError(f"calibration samples must be real numbers, got {x.dtype}")
    if x.dim() <= axis or x.numel() == 0:
        raise InputError("calibration needs at least one sample")
    x = x if x.is_floating_point() else x.double()
    if not bool(torch.isfinite(x).all()):
        raise InputError("calibration samples contain NaN or infinity")
    return x


def check_varied(data: Any, *, time_axis: ByStep = False) -> None:
    """Refuse samples from which no range can be learnt: all values equal, or one sample over and over; InputError."""
    for name, values in named(data).items():
        axis = batch_axis(name, time_axis)
        x, of = _samples(values, axis), f" of {name}" if name else ""
        if x.numel() > 1 and bool((x == x.flatten()[0]).all()):
            raise InputError(
                f"all {x.numel():,} values of the calibration samples{of} are {float(x.flatten()[0]):g}, so they say "
                "nothing about the ranges; give real samples with calibration=... (the default is the sample used for "
                "tracing)"
            )
        if x.shape[axis] > 1 and bool((x == x.narrow(axis, 0, 1)).all()):
            raise InputError(
                f"all {x.shape[axis]} calibration samples{of} are the same; give different real samples with "
                "calibration=..."
            )
