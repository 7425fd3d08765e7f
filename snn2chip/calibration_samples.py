"""Calibration samples in the layout that a program takes: arrays by input, and every step first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from snn2chip.errors import InputError
from snn2chip.ir.raw import ByStep

if TYPE_CHECKING:
    from snn2chip.ir.graph import LayerGraph
    from snn2chip.ir.layers import InputLayer


def by_input(graph: LayerGraph, data: Any) -> Any:
    """Samples as an array, or of several inputs (given by name, or in their order) as arrays by name."""
    names = [layer.name for layer in graph.input_layers]
    if len(names) == 1:
        return np.asarray(as_numpy(next(iter(data.values())) if isinstance(data, Mapping) and len(data) == 1 else data))
    given = data if isinstance(data, Mapping) else dict(zip(names, data, strict=False))
    if set(given) != set(names) or len(data) != len(names):
        got = ", ".join(map(str, given)) if isinstance(data, Mapping) else f"{len(data)} arrays"
        raise InputError(f"the network takes samples of {', '.join(names)}; got {got}")
    return {name: np.asarray(as_numpy(given[name])) for name in names}


def which_hold_steps(graph: LayerGraph, data: Any, time_axis: bool | None = None) -> ByStep:
    """Whether the samples hold every step, by `time_axis` or else by their axes; of several inputs which of them do."""
    if not isinstance(data, Mapping):
        return bool(data.ndim == len(graph.input.raw_shape) + 2) if time_axis is None else time_axis
    axes = {layer.name: len(layer.raw_shape) + 2 for layer in graph.input_layers}
    return frozenset(n for n, x in data.items() if (x.ndim == axes[n] if time_axis is None else time_axis))


def steps_first(graph: LayerGraph, data: Any, *, time_axis: bool | None = None, batch_first: bool | None = None) -> Any:
    """Raw samples `[N, *shape]` as they are, and with every step as `[T, N, *shape]`; of several inputs by name.

    `time_axis`: whether they hold every step (None: by the number of axes); `batch_first`: whether those are
    `[N, T, ...]` (None: as the model itself takes its input). Raises InputError for another shape.
    """
    ways = {"time_axis": time_axis, "batch_first": batch_first}
    if isinstance(data, Mapping):
        return {x.name: _steps_first(graph, x, data[x.name], of=f" of {x.name}", **ways) for x in graph.input_layers}
    return _steps_first(graph, graph.input, data, of="", **ways)


def _steps_first(
    graph: LayerGraph, layer: InputLayer, data: Any, *, of: str, time_axis: bool | None, batch_first: bool | None
) -> Any:
    shape, T = layer.raw_shape, layer.frames or graph.steps
    rank = len(shape)
    per_step = data.ndim == rank + 2 if time_axis is None else time_axis
    if data.ndim != rank + 1 + per_step or tuple(data.shape[data.ndim - rank :]) != shape:
        want = " or ".join(str([*lead, *shape]).replace("'", "") for lead in (["N"], ["T", "N"], ["N", "T"]))
        raise InputError(f"calibration samples{of} have the shape {list(data.shape)}, expected {want}".replace("'", ""))
    if not per_step:
        return data
    first = layer.layout in ("BT", "BF") if batch_first is None else batch_first
    at = 1 if first else 0
    if layer.reads is not None and data.shape[at] == layer.reads:  # the frames behind those mean nothing
        data = np.pad(data, [(0, T - layer.reads if axis == at else 0) for axis in range(data.ndim)])
    if data.shape[at] != T:
        order = "[N, T, ...]" if first else "[T, N, ...]"
        hint = f"; they fit as batch_first={not first}" if data.shape[1 - at] == T else ""
        raise InputError(
            f"calibration samples{of} {list(data.shape)} are read as {order} with T={data.shape[at]}, but the model "
            f"runs {T} steps{hint}"
        )
    return np.moveaxis(data, 1, 0) if first else data


def as_numpy(value: Any) -> Any:
    """A tensor's numbers, or what it is."""
    return value.detach().cpu().numpy() if hasattr(value, "detach") else value
