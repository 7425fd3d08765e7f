"""PyTorch front end: record an eager run of a module and turn it into a `LayerGraph`.

The model runs once, in eval mode, on the sample; every operation is recorded (`torch_recorder`), interpreted as
float layers (`torch_build`, `torch_layers`, `torch_functions`, `torch_arithmetic`, `torch_leaves`) and proved on a
second input (`torch_checks`). Everything that cannot be expressed is reported at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs
import torch
from torch import Tensor, nn

from snn2chip.errors import InputError, TraceError
from snn2chip.frontends.torch_arithmetic import FUNCTIONS
from snn2chip.frontends.torch_build import LAYOUTS, Builder, Layout
from snn2chip.frontends.torch_checks import check_trace, reset_neurons
from snn2chip.frontends.torch_finish import Built, finish
from snn2chip.frontends.torch_leaves import leaf_rule
from snn2chip.frontends.torch_qat import bind_unbound
from snn2chip.frontends.torch_recorder import Recorder
from snn2chip.frontends.torch_tape import Tape
from snn2chip.ir.graph import LayerGraph


def trace(model: nn.Module, sample: Tensor, *, steps: int | None = None, replay: bool = True) -> LayerGraph:
    """Return the float graph of `model`, recorded on `sample` in eval mode; the model is left as it was.

    `sample` is `[B,...]`, `[T,B,...]` or `[B,T,...]`, whichever the model takes: found out from what it does with it,
    and kept as `layout` of the graph's input; a single sample is recorded twice over, so that its axis is told from
    axes of size 1. `steps`, if given, must be the T that is found, or is the T of a network without any steps.
    `replay` proves the trace on a second input and records the spike rates as notes of the graph.

    Raises InputError when the model itself fails on the sample, TraceError with every reason: operations without an
    integer form (with the layer path and source line), a neuron shared by two layers, steps that run different
    layers, or a replay that differs.
    """
    if not isinstance(model, nn.Module) or not isinstance(sample, Tensor) or sample.dim() < 2:
        raise InputError("trace needs an nn.Module and a sample tensor [B,...] or [T,B,...]")
    if not sample.is_floating_point():
        raise InputError(f"the sample is {sample.dtype}; give the model's own float input, such as sample.float()")
    _refuse_not_finite(model, sample)
    bind_unbound(model, sample)
    training = {module: module.training for module in model.modules()}
    model.eval()
    reset_neurons(model)
    try:
        tape, x, built, names = _record(model, sample.detach(), steps)
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


def _refuse_not_finite(model: nn.Module, sample: Tensor) -> None:
    """Raise InputError that names every tensor with NaN or infinity: no integer stands for either."""
    tensors: list[tuple[str, Tensor]] = [("the sample", sample)]
    for path, module in model.named_modules():
        own = list(module.named_parameters(recurse=False))
        if leaf_rule(module) is not None:  # other modules may keep buffers that nothing reads
            own += module.named_buffers(recurse=False)
        tensors += [(f"{path}.{name}" if path else name, tensor.detach()) for name, tensor in own]
    breaches = []
    for name, tensor in tensors:
        bad = int((~torch.isfinite(tensor)).sum())
        if bad:
            breaches.append(f"{name}: {bad} of {tensor.numel()} values are NaN or infinite; give finite ones")
    if breaches:
        raise InputError(breaches)


def _record(model: nn.Module, sample: Tensor, steps: int | None) -> tuple[Tape, Tensor, Built, dict[int, str]]:
    """Record the model and interpret the tape; of a single sample, two copies if the model takes them.

    The first recording and layout without problems is meant. Without any such, the layout with the fewest problems,
    and of those the one understood longest, is reported.
    """
    attempts: list[_Attempt] = []
    for x, layouts in _recordings(sample):
        reset_neurons(model)
        try:
            tape = Recorder(model, is_leaf=lambda module: leaf_rule(module) is not None).run(x.clone())
        except InputError:
            if x is sample:
                raise
            continue  # the model takes no second sample along this axis
        finally:
            reset_neurons(model)
        found = _build(tape, x, layouts, owner=type(model).__name__, steps=steps)
        if isinstance(found, tuple):
            return tape, x.clone(), *found
        attempts += found
    raise TraceError(min(attempts, key=lambda attempt: attempt.rank).problems)


def _recordings(sample: Tensor) -> Iterator[tuple[Tensor, tuple[Layout, ...]]]:
    """What to record, with the layouts it may have: two copies along an axis of size 1 that may be the batch."""
    if sample.shape[0] == 1:
        yield torch.cat([sample, sample]), ("B", "BT", "BF")
    yield sample, tuple(LAYOUTS)
    if sample.dim() > 2 and sample.shape[1] == 1:
        yield torch.cat([sample, sample], 1), ("TB", "FB")


@attrs.frozen
class _Attempt:
    rank: tuple[int, int]
    problems: list[str]


def _build(
    tape: Tape, sample: Tensor, layouts: Sequence[Layout], *, owner: str, steps: int | None
) -> tuple[Built, dict[int, str]] | list[_Attempt]:
    """Interpret the tape for every layout the sample may have: the first without problems, or all problems."""
    attempts: list[_Attempt] = []
    for layout in layouts:
        if sample.dim() <= len(LAYOUTS[layout]):
            continue
        builder = Builder(tape, layout=layout, shape=tuple(sample.shape))
        builder.interpret(lambda op: None if op.module is None else leaf_rule(op.module), FUNCTIONS)
        built = finish(builder, owner=owner, steps=steps)
        if built is not None:
            return built, builder.neurons
        if builder.frames is not None and not builder.averaged:
            continue  # nothing averages its frames: they were none
        understood = len(tape.ops) if builder.understood is None else builder.understood
        attempts.append(_Attempt((len(builder.problems), -understood), builder.problems))
    return attempts


def _rounding(model: nn.Module, names: dict[int, str], *, steps: int) -> dict[str, float]:
    """Return how far integer training may move a potential, in units of theta, per neuron layer trained so."""
    grids = {id(module): getattr(module, "qat", None) for module in model.modules()}
    return {
        name: 4.0 * steps / 2.0**grid.theta_bits for key, name in names.items() if (grid := grids.get(key)) is not None
    }
