"""Float fidelity: the integer program against the trained float network, measured on data.

Two runs per layer tell its own error from an inherited one: `free` (each integer layer is fed by the integer
layers before it) and `forced` (teacher forcing: each integer layer is fed the float network's own payloads, rounded
to the unit in which they are sent). Truth is the float value itself, never rounded to the unit of what is measured:
a relay in a coarse unit shows its error. Predictions are those of the user's model where it is given.
Nothing here is a statement about backends; those are compared with `==` in `compare`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import nn

from snn2chip.api import by_step
from snn2chip.checks.fidelity_result import Fidelity, LayerFidelity
from snn2chip.checks.fidelity_sums import Predict, Sums
from snn2chip.checks.float_side import module_side
from snn2chip.errors import InputError
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.quantize.choices import as_compiled
from snn2chip.quantize.payload_steps import with_payloads

__all__ = ["Fidelity", "LayerFidelity", "Predict", "fidelity"]


def fidelity(
    program: Program,
    graph: LayerGraph | nn.Module,
    inputs: Any,
    *,
    labels: Any = None,
    time_axis: bool = False,
    block: int = 64,
    model: Predict | None = None,
    same_payloads: bool = False,
) -> Fidelity:
    """Compare `program` with the float network it was lowered from on raw samples `[N, ...]` (`[T, N, ...]` by step).

    `graph` is that network: the module that was compiled, or its float graph. `model` gives the real model's logits
    `[n, classes]` of raw samples (`[T, n, ...]` with `time_axis`): accuracy and agreement are then its own, and the
    graph serves the layers only; a module is its own `model`. `same_payloads`: real payloads of the float network are
    rounded to the program's codes, and answers are that network's own. Raises InputError if the program was not
    lowered from this graph or the labels do not fit.
    """
    if isinstance(inputs, Mapping):
        (inputs,) = inputs.values()
    x = np.asarray(inputs.detach().cpu().numpy() if hasattr(inputs, "detach") else inputs)
    time_axis = by_step(program, x, time_axis=time_axis)
    if not isinstance(graph, LayerGraph):
        graph, own = module_side(program, graph, x, time_axis=time_axis)
        model = own if model is None else model
    graph = as_compiled(program, graph)
    if same_payloads:
        graph, model = with_payloads(program, graph), None
    if graph.output.heads:
        raise InputError(f"the model returns several tensors ({', '.join(graph.output.heads)}); fidelity reads one")
    names: Mapping[str, str] = program.meta.get("layers", {})
    pairs = [(name, names[name]) for name in names if name in graph.shapes and names[name] in program.by_name]
    if not any(isinstance(program[node], Soma) for _, node in pairs):
        raise InputError("this program was not lowered from this float graph; compile it again to measure fidelity")
    other = [f"{n}: {graph.shapes[n]}, in the program {program.shapes[node]}" for n, node in pairs
             if graph.shapes[n] != program.shapes[node]]  # fmt: skip
    if other or graph.steps != program.steps:
        where = "; ".join(other) or f"it runs {graph.steps} steps, the program {program.steps}"
        raise InputError(f"the float model is another network than the one that was compiled: {where}")
    axis = 1 if time_axis else 0
    y = None if labels is None else np.asarray(labels)
    if y is not None and len(y) != x.shape[axis]:
        raise InputError(f"{len(y)} labels for {x.shape[axis]} samples")
    sums = Sums(model=model)
    for start in range(0, x.shape[axis], block):
        part = x[:, start : start + block] if time_axis else x[start : start + block]
        sums.add(program, graph, pairs, part, None if y is None else y[start : start + block], time_axis)
    return sums.result(program, pairs, labelled=y is not None)
