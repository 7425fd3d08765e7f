"""Ranges on real data: the largest potentials and currents of the float network, streamed block by block."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import numpy as np
import torch

from snn2chip.errors import InputError
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.raw import ByStep, batch_axis, count, named
from snn2chip.quantize.seen import Seen, blocks_seen
from snn2chip.quantize.spec import FloatArray
from snn2chip.shards import current
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
    whole = {name: _whole(a, batch_axis(name, time_axis)) for name, a in x.items()}
    block = samples_at_once(graph) if block is None else block
    seen = Seen()
    for found in _blocks(graph, x, time_axis, total=total, block=block):
        seen.join(found)
    return Ranges(
        potential=seen.potential,
        current=seen.current,
        payload=seen.payload,
        maps=seen.maps,
        moments=seen.moments,
        readouts=seen.readouts,
        spans=seen.spans,
        payloads=seen.payloads,
        driven=seen.driven,
        hosts=seen.hosts,
        raw={name: (float(a.min()), float(a.max())) for name, a in x.items()},
        whole=whole,
        samples=total,
        input_range=_by_name(graph, input_range),
    )


def _blocks(
    graph: LayerGraph, x: Mapping[str, torch.Tensor], time_axis: ByStep, *, total: int, block: int
) -> Iterator[Seen]:
    """What every block shows, in order; shared among workers inside `snn2chip.shards.current.sharing`."""
    workers = current.workers()
    if workers is None:
        yield from blocks_seen(graph, x, time_axis, total=total, block=block)
        return
    from snn2chip.shards.calibrating import seen_sharded

    yield from seen_sharded(graph, x, time_axis, total=total, block=block, workers=workers)


def _by_name(graph: LayerGraph, input_range: Any) -> dict[str, tuple[float, float]]:
    if input_range is None or isinstance(input_range, Mapping):
        return dict(input_range or {})
    return {graph.input.name: input_range}


def _samples(data: Any, axis: int) -> torch.Tensor:
    """The samples as they are given, not copied, if they are real numbers."""
    array = data if isinstance(data, torch.Tensor) else np.asarray(data)
    if not isinstance(array, torch.Tensor) and array.dtype.kind not in "biuf":
        raise InputError(f"calibration samples must be real numbers, got {array.dtype}")
    x = torch.as_tensor(array)
    if x.is_complex():
        raise InputError(f"calibration samples must be real numbers, got {x.dtype}")
    if x.dim() <= axis or x.numel() == 0:
        raise InputError("calibration needs at least one sample")
    return x


def _whole(x: torch.Tensor, axis: int) -> bool:
    """Whether all values are whole numbers; InputError where some are none. A block of samples at a time."""
    whole = True
    for block in torch.split(x, MOST_AT_ONCE, axis) if x.is_floating_point() else ():
        if not bool(torch.isfinite(block).all()):
            raise InputError("calibration samples contain NaN or infinity")
        whole = whole and bool((block == block.round()).all())
    return whole


def check_varied(data: Any, *, time_axis: ByStep = False) -> None:
    """Refuse samples from which no range can be learnt: all values equal, or one sample over and over; InputError."""
    for name, values in named(data).items():
        axis = batch_axis(name, time_axis)
        x, of = _samples(values, axis), f" of {name}" if name else ""
        _whole(x, axis)
        blocks, first = torch.split(x, MOST_AT_ONCE, axis), x.narrow(axis, 0, 1)
        value = first.flatten()[0]
        if x.numel() > 1 and all(bool((block == value).all()) for block in blocks):
            raise InputError(
                f"all {x.numel():,} values of the calibration samples{of} are {float(value):g}, so they say "
                "nothing about the ranges; give real samples with calibration=... (the default is the sample used for "
                "tracing)"
            )
        if x.shape[axis] > 1 and all(bool((block == first).all()) for block in blocks):
            raise InputError(
                f"all {x.shape[axis]} calibration samples{of} are the same; give different real samples with "
                "calibration=..."
            )
