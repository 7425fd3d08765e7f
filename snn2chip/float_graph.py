"""The float network of a model in normal form: traced, read through another framework's export, or a graph already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from snn2chip.calibration_samples import as_numpy
from snn2chip.errors import InputError

if TYPE_CHECKING:
    from snn2chip.ir.graph import LayerGraph
    from snn2chip.ir.layers import InputLayer


def model_steps(module: Any) -> int | None:
    """T of a module: its own `T` or `steps`, else that of its first neuron, else None."""
    neurons = (m for m in module.modules() if callable(getattr(m, "float_soma", None)))
    return next((found for holder in (module, *neurons) if (found := declared_steps(holder)) is not None), None)


def float_graph(
    model: Any, sample: Any, *, steps: int | None = None, normalise: Mapping[str, Any] | None = None
) -> LayerGraph:
    """The traced float network of raw values in normal form: what the quantizer lowers and fidelity is held against.

    A converted network, which is a graph already, is not traced.
    """
    from snn2chip.convert.activations import GraphNet
    from snn2chip.frontends.modules import framework_of, module_graph
    from snn2chip.frontends.torch import trace
    from snn2chip.ir.graph import LayerGraph
    from snn2chip.passes import run_passes

    model = model.graph if isinstance(model, GraphNet) else model
    if framework_of(model) is not None:  # another framework's layers: through its own export
        model = module_graph(model, sample, steps=steps)
    graph = model if isinstance(model, LayerGraph) else trace(model, sample, steps=steps)
    if graph.steps == 1 and steps is None and not isinstance(model, LayerGraph) and model_steps(model) is None:
        raise InputError(
            f"{type(model).__name__}: the model says no number of steps T (no attribute T or steps, no neuron, no axis "
            "of steps); pass steps=T, steps=1 for a network of a single step"
        )
    return run_passes(_normalised(graph, normalise or {}))


def _normalised(graph: LayerGraph, normalise: Mapping[str, Any]) -> LayerGraph:
    names = [layer.name for layer in graph.input_layers]
    if len(names) == 1:
        return graph.with_normalisation(**dict(normalise)) if normalise else graph
    if unknown := [str(key) for key in normalise if key not in names]:
        raise InputError(f"normalise of {', '.join(unknown)}: the inputs are {', '.join(names)}, each with its own")
    for name, values in normalise.items():
        graph = graph.with_normalisation(**dict(values), input=name)
    return graph


def declared_steps(model: Any) -> int | None:
    """T as the model itself says it (`T` or `steps`); the trace must run as many."""
    found = (getattr(model, key, None) for key in ("T", "steps"))
    return next((value for value in found if isinstance(value, int) and not isinstance(value, bool)), None)


def model_input(graph: LayerGraph, normalise: Mapping[str, Any] | None) -> dict[str, Any]:
    """How raw samples become the model's own input, as plain values: its layout and its normalisation.

    Of several inputs, the same for each under `inputs`.
    """

    def plain(layer: InputLayer, said: Mapping[str, Any]) -> dict[str, Any]:
        norm = {key: np.asarray(as_numpy(value)).tolist() for key, value in said.items() if value is not None}
        return {"layout": layer.layout, "normalise": norm}

    if len(graph.input_layers) == 1:
        return plain(graph.input, normalise or {})
    return {"inputs": {layer.name: plain(layer, (normalise or {}).get(layer.name, {})) for layer in graph.input_layers}}
