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

from torch import nn

from snn2chip.api import by_step, raw_samples
from snn2chip.checks.fidelity_outputs import labels_by_output
from snn2chip.checks.fidelity_result import Fidelity, LayerFidelity, OutputFidelity
from snn2chip.checks.fidelity_sums import Predict, Sums
from snn2chip.checks.float_side import module_side
from snn2chip.errors import InputError
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.program import Program
from snn2chip.ir.raw import count, part
from snn2chip.ir.soma import Soma
from snn2chip.quantize.choices import as_compiled
from snn2chip.quantize.payload_steps import with_payloads

__all__ = ["Fidelity", "LayerFidelity", "OutputFidelity", "Predict", "fidelity"]


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
    rounded to the program's codes, and answers are that network's own. Samples of several inputs, and labels of several
    outputs, are given by name. Raises InputError if the program was not
    lowered from this graph or the labels do not fit.
    """
    x = raw_samples(program, inputs)
    stepped = by_step(program, x, time_axis=time_axis)
    time_axis = stepped if isinstance(stepped, bool) else time_axis
    if not isinstance(graph, LayerGraph):
        graph, own = module_side(program, graph, x, time_axis=time_axis)
        model = own if model is None else model
    graph = as_compiled(program, graph)
    if same_payloads:
        graph, model = with_payloads(program, graph), None
    names: Mapping[str, str] = program.meta.get("layers", {})
    shapes = {**graph.shapes, **_heads(graph)}
    pairs = [(name, names[name]) for name in names if name in shapes and names[name] in program.by_name]
    if not any(isinstance(program[node], Soma) for _, node in pairs):
        raise InputError("this program was not lowered from this float graph; compile it again to measure fidelity")
    other = [f"{n}: {shapes[n]}, in the program {program.shapes[node]}" for n, node in pairs
             if shapes[n] != program.shapes[node]]  # fmt: skip
    if other or graph.steps != program.steps:
        where = "; ".join(other) or f"it runs {graph.steps} steps, the program {program.steps}"
        raise InputError(f"the float model is another network than the one that was compiled: {where}")
    total = count(x, stepped)
    y = labels_by_output(program, labels, total)
    sums = Sums(model=model)
    for start in range(0, total, block):
        cut = slice(start, start + block)
        labelled = {name: values[cut] for name, values in y.items()}
        sums.add(program, graph, pairs, part(x, start, start + block, stepped), labelled, time_axis)
    return sums.result(program, pairs)


def _heads(graph: LayerGraph) -> dict[str, tuple[int, ...]]:
    """Shapes of the read-outs of several outputs, under the names that lowering gives them."""
    output = graph.output
    sources = graph.inputs[output.name]
    return {f"{output.name}.{head}": graph.shapes[src] for head, src in zip(output.heads, sources, strict=False)}
