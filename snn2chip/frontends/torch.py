"""PyTorch front end: record an eager run of a module and turn it into a `LayerGraph`.

The model runs once, in eval mode, on the sample; every operation is recorded (`torch_recorder`), interpreted as
float layers (`torch_build`, `torch_layers`, `torch_functions`, `torch_arithmetic`, `torch_leaves`) and proved on a
second input (`torch_checks`). Everything that cannot be expressed is reported at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from snn2chip.errors import InputError, TraceError
from snn2chip.frontends.torch_arithmetic import FUNCTIONS
from snn2chip.frontends.torch_build import LAYOUTS, Builder, Layout
from snn2chip.frontends.torch_checks import check_trace, reset_neurons
from snn2chip.frontends.torch_finish import Built, finish
from snn2chip.frontends.torch_frames import Square, close, square
from snn2chip.frontends.torch_leaves import leaf_rule
from snn2chip.frontends.torch_qat import bind_unbound
from snn2chip.frontends.torch_recorder import Recorder
from snn2chip.frontends.torch_tape import Tape, tensors_in
from snn2chip.ir.graph import LayerGraph, Note
from snn2chip.stages import staged

INPUT = "input"
Sample = Tensor | Sequence[Tensor] | Mapping[str, Tensor]


@staged("trace the model")
def trace(model: nn.Module, sample: Sample, *, steps: int | None = None, replay: bool = True) -> LayerGraph:
    """Return the float graph of `model`, recorded on `sample` in eval mode; the model is left as it was.

    `sample` is `[B,...]`, `[T,B,...]` or `[B,T,...]`, whichever the model takes: found out from what it does with it,
    and kept as `layout` of the graph's input; a single sample is recorded twice over, so that its axis is told from
    axes of size 1. A model of several inputs takes as many samples, in a row or by the names of forward's parameters,
    which are the names of the graph's inputs; each has a layout of its own. `steps`, if given, must be the T that is
    found, or is the T of a network without any steps.
    `replay` proves the trace on a second input and records the spike rates as notes of the graph.

    Raises InputError when the model itself fails on the sample, TraceError with every reason: operations without an
    integer form (with the layer path and source line), a neuron shared by two layers, steps that run different
    layers, or a replay that differs.
    """
    samples = by_parameter(model, sample) if isinstance(model, nn.Module) else {}
    if not samples or any(not isinstance(x, Tensor) or x.dim() < 2 for x in samples.values()):
        raise InputError("trace needs an nn.Module and a sample tensor [B,...] or [T,B,...]")
    for name, x in samples.items():
        if not x.is_floating_point():
            raise InputError(f"{_title(name)} is {x.dtype}; give the model's own float input, such as sample.float()")
    _refuse_not_finite(model, samples)
    if (found := square(model, samples)) is not None:
        return _trace_square(model, samples, found, steps=steps, replay=replay)
    bind_unbound(model, samples)
    training = {module: module.training for module in model.modules()}
    model.eval()
    reset_neurons(model)
    try:
        tape, x, built, names = _record(model, {name: x.detach() for name, x in samples.items()}, steps)
        graph = built.graph
        if steps is not None and graph.steps != steps:
            raise TraceError(f"the model runs {graph.steps} steps, expected {steps}")
        if replay:
            qat = _rounding(model, names, steps=graph.steps)
            graph = attrs.evolve(graph, notes=tuple(check_trace(model, tape, built, list(x.values()), qat=qat)))
        return graph
    finally:
        reset_neurons(model)
        for module, mode in training.items():
            module.training = mode


def _trace_square(
    model: nn.Module, samples: Mapping[str, Tensor], found: Square, *, steps: int | None, replay: bool
) -> LayerGraph:
    """The graph of a model whose first windows read F frames in T steps, held against the model itself."""
    if steps not in (None, found.counted, found.steps):
        raise TraceError(f"the model runs {found.counted} steps, expected {steps}")
    graph = trace(found.model, found.samples, replay=replay)
    if found.counted < found.steps:
        graph = graph.with_layers(attrs.evolve(graph.output, over=found.counted))
    else:
        graph = graph.with_layers(attrs.evolve(graph.input, reads=found.frames))
    training = {module: module.training for module in model.modules()}
    model.eval()
    reset_neurons(model)
    try:
        with torch.no_grad():
            want = tensors_in(model(*samples.values()))
    finally:
        reset_neurons(model)
        for module, mode in training.items():
            module.training = mode
    (x,) = found.samples.values()
    got = graph.run(x if graph.input.layout == "TB" else x.transpose(0, 1)).output
    lead = 2 if graph.output.reduce == "steps" else 1
    if not close(got.flatten(lead), torch.cat([value.flatten(lead) for value in want], lead)):
        raise TraceError(
            f"the network over {found.steps} steps gives another result than the model, so its forward does more than "
            f"run {found.counted} steps of a window over frames; use frames = steps"
        )
    text = f"windows of {found.counted} steps over {found.frames} frames, as {found.steps} steps"
    return attrs.evolve(graph, notes=(*graph.notes, Note(by="trace", layer=graph.input.name, text=text)))


def by_parameter(model: nn.Module, sample: Any) -> dict[str, Any]:
    """The samples by input name: `input` for a single one, else the names of the parameters of the model's forward.

    Raises InputError that names the parameters where the samples are others.
    """
    if isinstance(sample, Tensor) or not isinstance(sample, (Mapping, Sequence)):
        return {INPUT: sample}
    known, needed = _parameters(model)
    names = known[: len(sample)]
    given = dict(sample) if isinstance(sample, Mapping) else dict(zip(names, sample, strict=False))
    if len(sample) == 1 and len(needed) <= 1:
        return {INPUT: next(iter(given.values()))}
    if len(given) != len(sample) or set(given) != set(names) or not set(needed) <= set(names):
        got = ", ".join(map(str, sample)) if isinstance(sample, Mapping) else f"{len(sample)} samples"
        raise InputError(
            f"{type(model).__name__}.forward takes {', '.join(known)}; got {got}. Give a sample of each, by name or in "
            "this order"
        )
    if bad := sorted({"output", INPUT} & set(names)):
        raise InputError(f"{type(model).__name__}.forward: {', '.join(bad)} names another layer; rename the parameter")
    return {name: given[name] for name in names}


def several_inputs(model: nn.Module) -> tuple[str, ...]:
    """Names of the parameters that the model's forward needs, where there are several."""
    needed = _parameters(model)[1]
    return tuple(needed) if len(needed) > 1 else ()


def _parameters(model: nn.Module) -> tuple[list[str], list[str]]:
    """Names of the positional parameters of forward, and of those without a default."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    known = [p for p in inspect.signature(model.forward).parameters.values() if p.kind in kinds]
    return [p.name for p in known], [p.name for p in known if p.default is inspect.Parameter.empty]


def _title(name: str) -> str:
    return "the sample" if name == INPUT else f"the sample of {name}"


def _refuse_not_finite(model: nn.Module, samples: Mapping[str, Tensor]) -> None:
    """Raise InputError that names every tensor with NaN or infinity: no integer stands for either."""
    tensors: list[tuple[str, Tensor]] = [(_title(name), x) for name, x in samples.items()]
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


def _record(
    model: nn.Module, samples: dict[str, Tensor], steps: int | None
) -> tuple[Tape, dict[str, Tensor], Built, dict[int, str]]:
    """Record the model and interpret the tape; of a single sample, two copies if the model takes them.

    The first recording and layout without problems is meant. Without any such, the layout with the fewest problems,
    and of those the one understood longest, is reported.
    """
    attempts: list[_Attempt] = []
    for x, layouts in _recordings(samples):
        reset_neurons(model)
        try:
            recorder = Recorder(model, is_leaf=lambda module: leaf_rule(module) is not None)
            tape = recorder.run(*(value.clone() for value in x.values()))
        except InputError:
            if x is samples:
                raise
            continue  # the model takes no second sample along this axis
        finally:
            reset_neurons(model)
        found = _build(tape, x, layouts, owner=type(model).__name__, steps=steps)
        if isinstance(found, tuple):
            return tape, {name: value.clone() for name, value in x.items()}, *found
        attempts += found
    raise TraceError(min(attempts, key=lambda attempt: attempt.rank).problems)


Layouts = tuple[Layout, ...]


def _recordings(samples: dict[str, Tensor]) -> Iterator[tuple[dict[str, Tensor], Layouts]]:
    """What to record, with the layouts it may have: two copies along an axis of size 1 that may be the batch."""
    values = samples.values()
    if all(x.shape[0] == 1 for x in values):
        yield {name: torch.cat([x, x]) for name, x in samples.items()}, ("B", "BT", "BF")
    yield samples, tuple(LAYOUTS)
    if all(x.dim() > 2 and x.shape[1] == 1 for x in values):
        yield {name: torch.cat([x, x], 1) for name, x in samples.items()}, ("TB", "FB")
    elif len(samples) > 1 and any(x.shape[0] == 1 for x in values) and all(1 in x.shape[:2] for x in values):
        yield {name: torch.cat([x, x], int(x.shape[0] != 1)) for name, x in samples.items()}, ("B", "TB")


def _choices(samples: Mapping[str, Tensor], layouts: Layouts) -> Iterator[dict[str, Layout]]:
    """The layouts of all inputs together: the same ones first, then mixed ones whose batches and steps agree."""
    names = list(samples)
    for layout in layouts:
        yield dict.fromkeys(names, layout)
    if len(names) > 1:
        for mixed in product([layout for layout in layouts if "F" not in layout], repeat=len(names)):
            if len(set(mixed)) > 1:
                yield dict(zip(names, mixed, strict=True))


def _fits(samples: Mapping[str, Tensor], layouts: Mapping[str, Layout]) -> bool:
    """Whether the samples have the axes of these layouts, one batch and one number of steps."""
    sizes: dict[str, set[int]] = {"B": set(), "T": set(), "F": set()}
    for name, layout in layouts.items():
        if samples[name].dim() <= len(LAYOUTS[layout]):
            return False
        for axis, kind in enumerate(layout):
            sizes[kind].add(samples[name].shape[axis])
    several = len(samples) > 1
    return all(len(found) <= 1 for found in sizes.values()) and not (several and sizes["F"])


@attrs.frozen
class _Attempt:
    rank: tuple[int, int]
    problems: list[str]


def _build(
    tape: Tape, samples: Mapping[str, Tensor], layouts: Layouts, *, owner: str, steps: int | None
) -> tuple[Built, dict[int, str]] | list[_Attempt]:
    """Interpret the tape for every layout the samples may have: the first without problems, or all problems."""
    attempts: list[_Attempt] = []
    for chosen in _choices(samples, layouts):
        if not _fits(samples, chosen):
            continue
        builder = Builder(tape, layouts=chosen, shapes={name: tuple(x.shape) for name, x in samples.items()})
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
