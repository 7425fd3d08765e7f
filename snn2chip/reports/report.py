"""`snn2chip.report`: run samples through a program and say what they cost, and how far it is from its float network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from snn2chip.api import Progress, by_step
from snn2chip.ir.program import Program
from snn2chip.reports.measured import layer_rows, measure
from snn2chip.reports.result import LayerRow, Report

__all__ = ["LayerRow", "Report", "layer_rows", "measure", "report"]


def report(
    program: Program,
    inputs: Any,
    *,
    labels: Any = None,
    float_graph: Any = None,
    float_model: Any = None,
    time_axis: bool = False,
    device: str | None = None,
    progress: Progress | None = None,
    detail: bool = False,
    targets: Sequence[Any] = (),
    energy_models: Sequence[str] = (),
    neurobench: int | None = None,
    execution_rate: float | None = None,
    sensitivity: int = 0,
    board_power: float | None = None,
) -> Report:
    """Run `inputs` through `program` and report counts; with `float_graph` also fidelity to the float network.

    `float_graph` is the module that was compiled, or its float graph. `labels [N]` give accuracies. `float_model` is a
    function from raw samples to the real model's logits; without it and without a module the graph stands for the
    model. Without a float graph "float" and "agreement" are None. `detail` adds what `snn2chip.reports.detail` counts;
    `targets` (names, .toml files, Target objects) and `energy_models` also energies and times, and with a module its
    own beside them (`board_power` in W where its board is not known); `neurobench=n` the figures of NeuroBench with
    calls of n samples; `sensitivity=n` what each layer's bits matter, on n samples. Raises InputError.
    """
    whole = [(inputs, labels)]
    found = measure(
        program,
        whole,
        time_axis=time_axis,
        device=device,
        progress=progress,
        detail=detail,
        targets=targets,
        energy_models=energy_models,
        neurobench=neurobench,
        execution_rate=execution_rate,
    )
    if float_graph is None:
        return found
    return _with_float(
        found,
        float_graph,
        float_model,
        inputs,
        labels=labels,
        time_axis=time_axis,
        sensitivity=sensitivity,
        chips=targets,
        device=device,
        board_power=board_power,
    )


def _with_float(
    found: Report,
    graph: Any,
    model: Any,
    inputs: Any,
    *,
    labels: Any,
    time_axis: bool,
    sensitivity: int,
    chips: Sequence[Any],
    device: str | None,
    board_power: float | None,
) -> Report:
    from snn2chip.checks.fidelity import fidelity
    from snn2chip.checks.float_model import FloatModel
    from snn2chip.checks.float_side import module_side
    from snn2chip.ir.graph import LayerGraph
    from snn2chip.reports import float_parts

    program, single = found.program, len(found.program.inputs) == 1
    x = float_parts.one_array(inputs) if single else inputs
    axis = time_axis or program.inputs[0].coding == "steps"
    if single and not isinstance(graph, LayerGraph):
        by_step(program, x, time_axis=time_axis)  # says what of the samples does not fit
        graph, own = module_side(program, graph, x, time_axis=axis)
        model = own if model is None else model
    measured = fidelity(program, graph, x, labels=labels, time_axis=time_axis, model=model)
    found = float_parts.with_fidelity(found, measured)
    if not single:
        return float_parts.with_several_inputs(found)
    if sensitivity:
        found = float_parts.with_sensitivity(found, graph, x, labels=labels, time_axis=axis, samples=sensitivity)
    if isinstance(model, FloatModel):
        found = float_parts.with_float_model(
            found, model, x, chips=chips, time_axis=axis, device=device, board_power=board_power
        )
    return found
