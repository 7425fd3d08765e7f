"""The float side of a comparison: the graph of a checkpoint or module, and its real model with its preprocessing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from snn2chip.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from snn2chip.checks.fidelity import Predict
    from snn2chip.ir.graph import LayerGraph
    from snn2chip.ir.program import Program

SAMPLES = 4
"""Raw samples that a module is traced on."""


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


def module_side(program: Program, module: Any, inputs: Any, *, time_axis: bool = False) -> tuple[LayerGraph, Predict]:
    """The float graph of the module that was compiled to `program`, and a function from raw samples to its logits.

    x = (raw*scale - mean)/std in the layout that `compile` wrote into the program. `inputs`: raw samples `[N, ...]`
    or `[T, N, ...]` with `time_axis`; the first few are traced. Raises InputError for no module, and what tracing
    raises.
    """
    import torch
    from torch import nn

    from snn2chip.compiler import float_graph
    from snn2chip.frontends.torch_checks import reset_neurons

    if not isinstance(module, nn.Module):
        raise InputError(f"the float model is an nn.Module or a LayerGraph, got {type(module).__name__}")
    how: Mapping[str, Any] = program.meta.get("model_input", {})
    layout, norm = str(how.get("layout", "TB" if time_axis else "B")), dict(how.get("normalise", {}))

    def sample(raw: Any) -> Tensor:
        x = torch.as_tensor(np.asarray(raw, dtype=np.float32))
        if layout in ("FB", "BF"):  # event frames that the model averages: a program takes them as one sample
            x = x.transpose(0, 1)
        else:
            x = x if time_axis else x.unsqueeze(0).expand(program.steps, *x.shape)
        spread = [-1, *[1] * max(x.dim() - 3, 0)]
        mean, std = (torch.as_tensor(norm.get(key, plain)).to(x) for key, plain in (("mean", 0.0), ("std", 1.0)))
        x = (x * float(norm.get("scale", 1.0)) - mean.reshape(spread)) / std.reshape(spread)
        if layout == "B":
            return x[0].contiguous()
        return (x if layout in ("TB", "FB") else x.transpose(0, 1)).contiguous()

    @torch.no_grad()
    def logits(raw: Any) -> Any:
        modes = {part: part.training for part in module.modules()}
        module.eval()
        reset_neurons(module)
        try:
            return module(sample(raw)).float().cpu().numpy()
        finally:
            reset_neurons(module)
            for part, mode in modes.items():
                part.training = mode

    if layout == "B" and time_axis:
        raise InputError("the module takes one frame per sample, but the samples hold every step; give [N, ...]")
    first = inputs[:, :SAMPLES] if time_axis else inputs[:SAMPLES]
    own = "parallel" in program.meta.get("choices", {})  # another form than the module's, with other steps
    graph = float_graph(module, sample(first), steps=None if own else program.steps, normalise=norm or None)
    return graph, logits
