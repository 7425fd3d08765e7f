"""Proof that a trace is right: replay on a second input with spikes, then layer by layer against the float graph.

    1  model(x) and the replayed tape must agree exactly.
    2  every layer of the graph, fed the model's own values, must give the model's own value: within float
       tolerance for linear layers; for neurons the first step that differs may only be a tie within rounding.

A dead network proves nothing, so larger inputs are tried until neurons spike, and the rates are recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from snn2chip.errors import TraceError
from snn2chip.frontends.torch_finish import Built
from snn2chip.frontends.torch_qat import input_unit, on_grid
from snn2chip.frontends.torch_tape import Tape
from snn2chip.frontends.torch_values import Atom, Value
from snn2chip.ir.float_run import step_value
from snn2chip.ir.graph import LayerGraph, Note
from snn2chip.ir.neuron_layer import NeuronLayer

TOLERANCE = 1e-4  # of the largest value of a layer, and of theta at a tie


def reset_neurons(model: nn.Module) -> None:
    """Let every neuron start its sample again."""
    for module in model.modules():
        if callable(getattr(module, "float_soma", None)) and callable(getattr(module, "reset", None)):
            module.reset()


def check_trace(
    model: nn.Module, tape: Tape, built: Built, samples: Sequence[Tensor], *, qat: Mapping[str, float]
) -> list[Note]:
    """Return the rates of all neurons on the check input; raises TraceError if the trace is wrong or all is silent.

    `samples` are those of every input. `qat` holds, for neurons trained on an integer grid, the rounding of their
    potential in units of theta.
    """
    neurons = [layer.name for layer in built.graph.of_kind("neuron")]
    best: tuple[int, str, list[Tensor], dict[str, Tensor]] | None = None
    steps = built.graph.steps if built.one_step else None
    tries = [_inputs(sample, steps=steps, seed=20 + i) for i, sample in enumerate(samples)]
    for chosen in zip(*tries, strict=True):
        title, x = chosen[0][0], [on_grid(value, input_unit(model)) for _, value in chosen]
        seen = _replayed(model, tape, built, x)
        active = sum(bool((seen[name] != 0).any()) for name in neurons if name in seen)
        if best is None or active > best[0]:
            best = (active, title, x, seen)
        if active == len(neurons):
            break
    assert best is not None
    active, title, x, seen = best
    if neurons and not active:
        raise TraceError(
            "no neuron spikes on any check input, so the trace cannot be checked; train the model first or "
            "lower its thresholds"
        )
    _compare(built.graph, x, seen, qat=qat)
    notes = [Note(by="trace", layer=built.graph.input.name, text=f"checked on {title}")]
    for name in neurons:
        rate = float((seen[name] != 0).to(torch.float64).mean())
        text = "share of nonzero payloads on the check input" + ("" if rate else ": silent, its firing is unchecked")
        notes.append(Note(by="trace", layer=name, text=text, value=rate))
    return notes


def _inputs(sample: Tensor, *, steps: int | None, seed: int) -> Iterator[tuple[str, Tensor]]:
    shape = tuple(sample.shape) if steps is None else (steps, *sample.shape)
    generator = torch.Generator().manual_seed(seed)
    count = 1 if steps is None else steps
    mixed = [sample.cpu().flatten()[torch.randperm(sample.numel(), generator=generator)] for _ in range(count)]
    yield "the sample's values in another order", torch.cat(mixed).view(shape).to(sample)
    yield "uniform values in [0, 1)", torch.rand(shape, generator=generator).to(sample)
    for size in (1, 4, 16, 64, 256):
        yield f"normal values of deviation {size}", (size * torch.randn(shape, generator=generator)).to(sample)


@torch.no_grad()
def _replayed(model: nn.Module, tape: Tape, built: Built, given: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return the model's own value of every layer `[T or 1, B, *shape]`; TraceError if the replay differs."""
    parts = list(zip(*given, strict=True)) if built.one_step else [tuple(given)]
    reset_neurons(model)
    try:
        expected = [model(*(x.clone() for x in part)) for part in parts]
    except (Exception, SystemExit) as error:
        text = f"{type(model).__name__}: the model runs on the sample but fails on another input of the same shape"
        raise TraceError(f"{text} ({type(error).__name__}: {error}); its forward depends on the data") from error
    reset_neurons(model)
    pieces: dict[str, dict[int | None, Tensor]] = {}
    for call, part in enumerate(parts):

        def observe(index: int, tensor: Tensor, call: int = call) -> None:
            value = built.values.get(index)
            if value is not None and value.time.kind not in ("total", "frames"):
                step = None if value.time.kind != "step" and not built.one_step else call
                if value.time.kind == "step" and not built.one_step:
                    step = value.time.step
                pieces.setdefault(value.node, {}).setdefault(step, _layer_value(built, value, tensor))

        got = tape.replay(part, observe=observe)
        got, expected[call] = (_in_a_row(built, given) for given in (got, expected[call]))
        if not torch.equal(got, expected[call]):
            raise TraceError(
                "the recorded operations give another result than the model on a second input; its forward "
                "depends on the data or on state outside of the neurons"
            )
    reset_neurons(model)
    steps = built.graph.steps
    seen: dict[str, Tensor] = {}
    for name, found in pieces.items():
        if None in found:
            seen[name] = found[None]
        elif set(found) == set(range(steps)):
            seen[name] = torch.cat([found[t] for t in range(steps)])
    return {**seen, "output": torch.stack(expected) if built.one_step else expected[0]}


def _in_a_row(built: Built, returned: Any) -> Tensor:
    """Return one tensor of all that a model returned, features in a row."""
    if not built.graph.output.heads:
        found: Tensor = returned
        return found
    given = list(returned.values()) if isinstance(returned, dict) else list(returned)
    lead = 2 if built.graph.output.reduce == "steps" and not built.one_step else 1
    return torch.cat([tensor.flatten(lead) for tensor in given], lead)


def _layer_value(built: Built, value: Value, tensor: Tensor) -> Tensor:
    """Return a copy of a recorded tensor as `[T or 1, B, *shape]`."""
    shape = built.graph.shapes[value.node]
    sizes: dict[Atom, int] = {**built.sizes, **dict(enumerate(shape))}
    atoms = [atom for axis in value.axes for atom in axis]
    order = sorted(range(len(atoms)), key=lambda i: {"T": -2, "B": -1}.get(str(atoms[i]), atoms[i]))
    whole = tensor.detach().reshape([sizes[atom] for atom in atoms]).permute(order)
    return whole.reshape(built.sizes["T"] if "T" in atoms else 1, built.sizes["B"], *shape).clone()


def _compare(
    graph: LayerGraph, given: Sequence[Tensor], seen: Mapping[str, Tensor], *, qat: Mapping[str, float]
) -> None:
    known = {name: value for name, value in seen.items() if name != "output"}
    fed = {}
    for entry, x in zip(graph.input_layers, given, strict=True):
        frames = x if entry.layout == "FB" else x.transpose(0, 1)
        fed[entry.name] = seen[entry.name] if entry.frames is None else frames
    run = graph.run(fed, collect=True, forced=known)
    breaches = []
    for layer in graph.layers:
        if layer.name not in seen:
            continue
        expected = seen[layer.name]
        got: Any = run.output if layer.name == "output" else run.values[layer.name]
        if isinstance(layer, NeuronLayer) and _counts(layer):
            wrong = _wrong_spikes(layer, got, expected, run.before[layer.name], slack=qat.get(layer.name, 0.0))
            text = f"{wrong} neurons fire otherwise than the module, and not at a tie"
        else:
            same_shape = got.shape[1:] == expected.shape[1:]
            error = float((got - expected).abs().max()) if same_shape else float("inf")
            wrong = error > TOLERANCE * float(expected.abs().max()) + 1e-6
            text = f"differs by {error:.3g} from the module's value"
        if wrong:
            breaches.append(f"{layer.label}: {text}; the module does something the recorded {layer.kind} does not say")
    if breaches:
        raise TraceError(breaches)


def _counts(layer: NeuronLayer) -> bool:
    """Return whether a neuron's payloads are whole numbers of units, so that a tie may fall either way."""
    return layer.soma.fire == "levels" or (layer.soma.fire == "excess" and layer.soma.out_max is not None)


def _wrong_spikes(layer: NeuronLayer, got: Tensor, expected: Tensor, before: Tensor, *, slack: float) -> int:
    """Return how many neurons first differ at a step where the potential is not at a threshold."""
    wrong, clean = 0, torch.ones_like(got[0], dtype=torch.bool)
    for t in range(got.shape[0]):
        theta = step_value(layer.soma.theta, t, like=before[t])
        unit = step_value(layer.soma.unit, t, like=before[t])
        ratio = before[t] / theta if layer.soma.fire == "levels" else (before[t] - theta) / unit + 0.5
        tie = (ratio - ratio.round()).abs() <= TOLERANCE * ratio.abs().clamp(min=1.0) + slack
        differs = (got[t] - expected[t]).abs() > 1e-3 * unit
        wrong += int((differs & clean & ~tie).sum())
        clean &= ~differs
    return wrong
