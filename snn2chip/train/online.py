"""Online training: one step at a time, a gradient that never crosses a step, memory independent of T.

    v := v(0);  for t = 0 .. T-1:  forward step t with v(t-1) constant;  loss_t = CE(logits(t), y);  backward

    full online    backward and an update after every step
    random         t* uniform on the steps, forward up to t*, backward there only, stop; or K steps drawn at once

Averaged over t*, the gradient of random back-propagation is 1/T of the sum of all steps' online gradients (K/T with K
steps). Evaluation sums the logits of all steps. Works with every neuron that can run one step at a time, whatever it
detaches by itself: the kept potential is cut after every step. Plain functions, for any training loop.
Sources: Hao et al. (EM-PF, arXiv 2410.07547); Meng et al. ICCV 2023 (SLTT, K of T).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, get_args

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from snn2chip.errors import InputError, UnsupportedError
from snn2chip.nn.base import Neuron, check_choice
from snn2chip.nn.encode import Repeat

AfterName = Literal["stop", "refresh"]
UpdateName = Literal["each", "sum"]
Loss = Callable[[Tensor, Tensor], Tensor]


def draw_steps(steps: int, *, count: int = 1, generator: Generator | None = None) -> tuple[int, ...]:
    """Return `count` different steps of 0..steps-1, ascending, every choice equally likely."""
    if not 1 <= count <= steps:
        raise InputError(f"count={count} of {steps} steps; draw at least one and at most all")
    return tuple(sorted(torch.randperm(steps, generator=generator)[:count].tolist()))


def steps_of(model: nn.Module) -> int:
    """Return the steps T of all neurons of `model`; InputError or UnsupportedError names those that do not fit."""
    neurons = {path or "model": m for path, m in model.named_modules() if isinstance(m, Neuron)}
    if not neurons:
        raise InputError("online training: the model has no neurons from snn2chip.nn")
    if windowed := [path for path, neuron in neurons.items() if neuron.windowed]:
        raise UnsupportedError(
            [
                f"{path}: {type(neurons[path]).__name__} mixes all steps and cannot be trained online"
                for path in windowed
            ]
        )
    first = next(iter(neurons.values()))
    if breaches := [
        f"{path}: steps={neuron.steps}, step_mode={neuron.step_mode!r}; the first neuron has steps={first.steps}, "
        f"step_mode={first.step_mode!r}: all neurons must agree"
        for path, neuron in neurons.items()
        if (neuron.steps, neuron.step_mode) != (first.steps, first.step_mode)
    ]:
        raise InputError(breaches)
    return first.steps


@contextmanager
def one_step_mode(model: nn.Module) -> Iterator[Callable[[Tensor], Tensor]]:
    """Give a function that runs the next step: `[B,...]` in, logits `[B,classes]` out; afterwards all is as before.

    A model on `[T,B,...]` sees one step as T = 1: its neurons keep their potential between calls, its `Repeat` repeats
    once. A model written as a single-step loop is called as it is. Potentials start anew on entry.
    """
    steps_of(model)
    neurons = [m for m in model.modules() if isinstance(m, Neuron)]
    repeats = [m for m in model.modules() if isinstance(m, Repeat)]
    multi = neurons[0].step_mode == "m"
    counts = [m.steps for m in repeats]
    with ExitStack() as undo:
        for neuron in neurons:
            neuron.reset()
            undo.callback(neuron.reset)
            undo.callback(neuron.register_forward_hook(_cut).remove)
            if multi:
                undo.callback(neuron.register_forward_pre_hook(_drop_axis).remove)
                undo.callback(neuron.register_forward_hook(_add_axis).remove)
                undo.callback(setattr, neuron, "step_mode", "m")
                neuron.step_mode = "s"
        for repeat, count in zip(repeats, counts, strict=True):
            undo.callback(setattr, repeat, "steps", count)
            repeat.steps = 1
        lead = multi and not repeats

        def run(x: Tensor) -> Tensor:
            logits: Tensor = model(x.unsqueeze(0) if lead else x)
            return logits.squeeze(0) if multi and logits.dim() == 3 else logits

        yield run


def online_losses(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    chosen: Sequence[int] | None = None,
    frames: bool | None = None,
    after: AfterName = "stop",
    loss: Loss = cross_entropy,
) -> Iterator[tuple[int, Tensor]]:
    """Yield (t, loss of step t) for every chosen step; call `backward` on it before asking for the next one.

    `chosen` None is every step. The steps before and between run without gradient; those after the last chosen one
    are left out (`stop`) or run without gradient, which only moves the norms' running statistics (`refresh`).
    `frames`: x is `[T,B,...]`; None: it is, unless the model repeats a static input by itself.
    """
    steps = steps_of(model)
    check_choice("online_losses", after=(after, get_args(AfterName)))
    picked = set(range(steps)) if chosen is None else set(chosen)
    if not picked or not picked <= set(range(steps)):
        raise InputError(f"chosen={sorted(picked)}: expected at least one of the steps 0..{steps - 1}")
    inputs = _inputs(model, x, steps=steps, frames=frames)
    with one_step_mode(model) as run:
        for t in range(steps if after == "refresh" else max(picked) + 1):
            with torch.set_grad_enabled(t in picked):
                value = loss(run(inputs(t)), y)
            if t in picked:
                yield t, value


def online_step(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    optimiser: Optimizer,
    chosen: Sequence[int] | None = None,
    update: UpdateName = "each",
    frames: bool | None = None,
    after: AfterName = "stop",
    loss: Loss = cross_entropy,
) -> Tensor:
    """Train on one batch and return the mean loss of the chosen steps, a detached scalar.

    `update`: after each chosen step (EM-PF), or once with the sum of their gradients (SLTT with K of T).
    """
    check_choice("online_step", update=(update, get_args(UpdateName)))
    seen: list[Tensor] = []
    optimiser.zero_grad()
    for _, value in online_losses(model, x, y, chosen=chosen, frames=frames, after=after, loss=loss):
        value.backward()  # type: ignore[no-untyped-call]
        seen.append(value.detach())
        if update == "each":
            optimiser.step()
            optimiser.zero_grad()
    if update == "sum":
        optimiser.step()
        optimiser.zero_grad()
    return torch.stack(seen).mean()


@torch.no_grad()
def summed_logits(model: nn.Module, x: Tensor, *, frames: bool | None = None) -> Tensor:
    """Return sum_t logits(t), `[B,classes]`, one step at a time; the model stays in the mode it is in."""
    steps = steps_of(model)
    inputs = _inputs(model, x, steps=steps, frames=frames)
    with one_step_mode(model) as run:
        total = run(inputs(0))
        for t in range(1, steps):
            total = total + run(inputs(t))
    return total


def _inputs(model: nn.Module, x: Tensor, *, steps: int, frames: bool | None) -> Callable[[int], Tensor]:
    """The input of step t: x itself, or its frame."""
    in_time = not any(isinstance(m, Repeat) for m in model.modules()) if frames is None else frames
    if in_time and x.shape[0] != steps:
        raise InputError(
            f"online training: expected frames [T,B,...] with T = {steps}, got {list(x.shape)}; for a static input "
            "give frames=False or put a Repeat into the model"
        )
    return (lambda t: x[t]) if in_time else (lambda t: x)


def _drop_axis(module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    (x,) = args
    return (x.squeeze(0),)


def _add_axis(module: Any, args: tuple[Any, ...], output: Tensor) -> Tensor:
    return output.unsqueeze(0)


def _cut(module: Any, args: tuple[Any, ...], output: Tensor) -> None:
    module.cut()
