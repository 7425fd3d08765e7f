"""The float side of a comparison: a checkpoint's traced graph, and its real model with its own preprocessing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from snn2chip.checks.fidelity import Predict
    from snn2chip.ir.graph import LayerGraph


def float_side(
    path: str | os.PathLike[str], *, model: str | None = None, data: str | None = None, time_axis: bool = False
) -> tuple[LayerGraph, Predict]:
    """Return the float graph of a checkpoint and a function from raw samples to its model's logits `[n, classes]`.

    The function runs `model(x)` itself, x made as the checkpoint's header says; with `time_axis` it takes
    `[T, n, ...]`. Raises what `checkpoint_graph` raises.
    """
    from snn2chip.checkpoint import load_model
    from snn2chip.checkpoint_compile import checkpoint_graph
    from snn2chip.frontends.torch_checks import reset_neurons
    from snn2chip.train.accuracy import predict

    graph, found = checkpoint_graph(path, model=model, data=data)
    module, _ = load_model(path, model=model)

    def logits(raw: Any) -> Any:
        reset_neurons(module)
        samples = np.asarray(raw)
        samples = np.moveaxis(samples, 0, 1) if time_axis else samples
        return predict(module, samples, spec=found.spec, batch=len(samples))

    return graph, logits
