"""The float side of a comparison: the graph of a checkpoint or module, and its real model with its preprocessing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from snn2chip.errors import InputError
from snn2chip.ir.raw import part

if TYPE_CHECKING:
    from torch import Tensor

    from snn2chip.checks.float_model import FloatModel
    from snn2chip.ir.graph import LayerGraph
    from snn2chip.ir.program import Program

SAMPLES = 4
"""Raw samples that a module is traced on."""


def float_side(
    path: str | os.PathLike[str], *, model: str | None = None, data: str | None = None, time_axis: bool = False
) -> tuple[LayerGraph, FloatModel]:
    """Return the float graph of a checkpoint and its model, from raw samples to logits `[n, classes]`.

    That runs `model(x)` itself, x made as the checkpoint's header says; with `time_axis` it takes
    `[T, n, ...]`. Raises what `checkpoint_graph` raises.
    """
    from snn2chip.checkpoint import load_model
    from snn2chip.checkpoint_compile import checkpoint_graph
    from snn2chip.checks.float_model import FloatModel

    graph, found = checkpoint_graph(path, model=model, data=data)
    module, _ = load_model(path, model=model)
    spec = found.spec
    if spec is None:
        raise InputError(f"{path}: takes several inputs; measure it with snn2chip.fidelity(program, module, inputs)")

    def prepare(raw: Any) -> Tensor:
        samples = np.asarray(raw)
        return spec.apply(np.moveaxis(samples, 0, 1) if time_axis else samples)

    return graph, FloatModel(module=module, prepare=prepare)


def source_doubt(program: Program, path: str | os.PathLike[str]) -> str:
    """Why `path` may not be what `program` was compiled from, "" if it is: shapes alone cannot tell two trainings."""
    from snn2chip.checkpoint_tensors import file_sha256

    name, known, found = program.meta.get("checkpoint"), program.meta.get("checkpoint_sha256"), file_sha256(path)
    if known == found:
        return ""
    if known is None:
        return (
            f"the program does not say which file it was compiled from; that it is {Path(path).name} is taken on trust"
        )
    return (
        f"{Path(path).name} is not the file this program was compiled from: that was {name} (sha256 {known[:12]}..., "
        f"here {found[:12]}...); shapes agree, so differences may be those of two trainings"
    )


def module_side(
    program: Program, module: Any, inputs: Any, *, time_axis: bool = False
) -> tuple[LayerGraph, FloatModel]:
    """The float graph of the module that was compiled to `program`, and its model on raw samples.

    x = (raw*scale - mean)/std in the layout that `compile` wrote into the program. `inputs`: raw samples `[N, ...]`
    or `[T, N, ...]` with `time_axis`, of several inputs by name; the first few are traced. Raises InputError for no
    module, and what tracing raises.
    """
    import torch
    from torch import nn

    from snn2chip.checks.float_model import FloatModel
    from snn2chip.float_graph import float_graph

    if not isinstance(module, nn.Module):
        raise InputError(f"the float model is an nn.Module or a LayerGraph, got {type(module).__name__}")
    how: Mapping[str, Any] = program.meta.get("model_input", {})
    stepped = {node.name for node in program.inputs if time_axis or node.coding == "steps"}
    ways = how.get("inputs") or {program.inputs[0].name: how}

    def one(name: str, raw: Any) -> Tensor:
        by_step = name in stepped
        layout = str(ways[name].get("layout", "TB" if by_step else "B"))
        norm = dict(ways[name].get("normalise", {}))
        if layout == "B" and by_step:
            raise InputError("the module takes one frame per sample, but the samples hold every step; give [N, ...]")
        x = torch.as_tensor(np.asarray(raw, dtype=np.float32))
        if layout in ("FB", "BF"):  # event frames that the model averages: a program takes them as one sample
            x = x.transpose(0, 1)
        else:
            x = x if by_step else x.unsqueeze(0).expand(program.steps, *x.shape)
        spread = [-1, *[1] * max(x.dim() - 3, 0)]
        mean, std = (torch.as_tensor(norm.get(key, plain)).to(x) for key, plain in (("mean", 0.0), ("std", 1.0)))
        x = (x * float(norm.get("scale", 1.0)) - mean.reshape(spread)) / std.reshape(spread)
        if layout == "B":
            return x[0].contiguous()
        return (x if layout in ("TB", "FB") else x.transpose(0, 1)).contiguous()

    def sample(raw: Any) -> Any:
        found = {name: one(name, raw[name] if isinstance(raw, Mapping) else raw) for name in ways}
        return tuple(found.values()) if len(found) > 1 else next(iter(found.values()))

    first = part(inputs, 0, SAMPLES, stepped if isinstance(inputs, Mapping) else bool(stepped))
    norm = {name: way.get("normalise", {}) for name, way in ways.items() if way.get("normalise")}
    norm = norm if len(ways) > 1 else dict(how.get("normalise", {}))
    own = "parallel" in program.meta.get("choices", {})  # another form than the module's, with other steps
    graph = float_graph(module, sample(first), steps=None if own else program.steps, normalise=norm or None)
    return graph, FloatModel(module=module, prepare=sample)
