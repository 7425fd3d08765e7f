"""PyTorch front end: record an eager run of a module and turn it into a `LayerGraph`.

The model runs once, in eval mode, on the sample; every operation is recorded (`torch_recorder`), interpreted as
float layers (`torch_build`, `torch_layers`, `torch_functions`, `torch_arithmetic`, `torch_leaves`) and proved on a
second input (`torch_checks`). Everything that cannot be expressed is reported at once.
"""

from __future__ import annotations

import attrs
from torch import Tensor, nn

from snn2chip.errors import InputError, TraceError
from snn2chip.frontends.torch_arithmetic import FUNCTIONS
from snn2chip.frontends.torch_build import LAYOUTS, Builder
from snn2chip.frontends.torch_checks import check_trace, reset_neurons
from snn2chip.frontends.torch_finish import Built, finish
from snn2chip.frontends.torch_leaves import leaf_rule
from snn2chip.frontends.torch_recorder import Recorder
from snn2chip.frontends.torch_tape import Tape
from snn2chip.ir.graph import LayerGraph


def trace(model: nn.Module, sample: Tensor, *, steps: int | None = None, replay: bool = True) -> LayerGraph:
    """Return the float graph of `model`, recorded on `sample` in eval mode; the model is left as it was.

    `sample` is `[B,...]`, `[T,B,...]` or `[B,T,...]`, whichever the model takes (found out from what it does with it);
    two or more samples in the batch make the recording unambiguous. `steps`, if given, must be the T that is
    found. `replay` proves the trace on a second input and records the spike rates as notes of the graph.

    Raises TraceError with every reason: operations without an integer form (with the layer path and source line),
    a neuron shared by two layers, steps that run different layers, or a replay that differs.
    """
    if not isinstance(model, nn.Module) or not isinstance(sample, Tensor) or sample.dim() < 2:
        raise InputError("trace needs an nn.Module and a sample tensor [B,...] or [T,B,...]")
    if not sample.is_floating_point():
        raise InputError(f"the sample is {sample.dtype}; give the model's own float input, such as sample.float()")
    training = {module: module.training for module in model.modules()}
    model.eval()
    reset_neurons(model)
    try:
        x = sample.detach().clone()
        tape = Recorder(model, is_leaf=lambda module: leaf_rule(module) is not None).run(x.clone())
        reset_neurons(model)
        built, names = _build(tape, sample, owner=type(model).__name__)
        graph = built.graph
        if steps is not None and graph.steps != steps:
            raise TraceError(f"the model runs {graph.steps} steps, expected {steps}")
        if replay:
            qat = _rounding(model, names, steps=graph.steps)
            graph = attrs.evolve(graph, notes=tuple(check_trace(model, tape, built, x, qat=qat)))
        return graph
    finally:
        reset_neurons(model)
        for module, mode in training.items():
            module.training = mode


def _build(tape: Tape, sample: Tensor, *, owner: str) -> tuple[Built, dict[int, str]]:
    """Interpret the tape for every layout the sample may have; the first one without problems is meant.

    Without any such, the layout with the fewest problems, and of those the one understood longest, is reported.
    """
    attempts: list[tuple[int, int, list[str]]] = []
    for layout, lead in LAYOUTS.items():
        if sample.dim() <= len(lead):
            continue
        builder = Builder(tape, layout=layout, shape=tuple(sample.shape))
        builder.interpret(lambda op: None if op.module is None else leaf_rule(op.module), FUNCTIONS)
        built = finish(builder, owner=owner)
        if built is not None:
            return built, builder.neurons
        understood = len(tape.ops) if builder.understood is None else builder.understood
        attempts.append((len(builder.problems), -understood, builder.problems))
    raise TraceError(min(attempts, key=lambda attempt: attempt[:2])[2])


def _rounding(model: nn.Module, names: dict[int, str], *, steps: int) -> dict[str, float]:
    """Return how far integer training may move a potential, in units of theta, per neuron layer trained so."""
    grids = {id(module): getattr(module, "qat", None) for module in model.modules()}
    return {
        name: 4.0 * steps / 2.0**grid.theta_bits for key, name in names.items() if (grid := grids.get(key)) is not None
    }
