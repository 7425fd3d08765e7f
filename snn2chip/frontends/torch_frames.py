"""LM-HT windows of T steps over F event frames, F != T: the same network with S = max(F, T) steps everywhere.

A program has one number of steps. The window Omega `[T,F]` becomes square, `[S,S]`, with zeros in what is new:

    F < T    the frames F..T-1 are zeros that no step reads; nothing else changes
    F > T    the steps T..F-1 are idle in every neuron: leak, gain and bias are 0, so that m = 0 < theta, nothing is
             sent and nothing is kept; the output reads the first T steps alone

Both are exact: at the steps 0..T-1 every potential is the one of the network itself.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from snn2chip.errors import UnsupportedError
from snn2chip.ir.layers import FloatSoma
from snn2chip.nn.base import Neuron


@attrs.frozen(kw_only=True, eq=False)
class Square:
    """A copy of a model with S steps everywhere, its samples, the T steps that count and the F frames that are read."""

    model: nn.Module
    samples: dict[str, Tensor]
    steps: int
    counted: int
    frames: int


class IdleNeuron(nn.Module):
    """A neuron of T steps within S: the first T as they are, then nothing; `[S,B,...]` to payloads `[S,B,...]`."""

    def __init__(self, neuron: Neuron, *, steps: int) -> None:
        super().__init__()
        self.neuron, self.steps = neuron, steps

    def forward(self, x: Tensor) -> Tensor:
        """Return the payloads of the first T steps, then zeros."""
        sent = self.neuron(x[: self.neuron.input_steps])
        return torch.cat([sent, sent.new_zeros(self.steps - len(sent), *sent.shape[1:])])

    def reset(self) -> None:
        """Let the neuron forget."""
        self.neuron.reset()

    def float_soma(self) -> FloatSoma:
        """The neuron's soma over S steps."""
        return idle_soma(self.neuron.described(), steps=self.steps)


def square(model: nn.Module, samples: Mapping[str, Tensor]) -> Square | None:
    """Return the model with S steps everywhere, None where no window is rectangular.

    Raises UnsupportedError, all reasons at once, for what S steps cannot say: several inputs or windows of different
    frames, neurons trained on integers or run step by step, thresholds that idle neurons would reach.
    """
    neurons = {path: m for path, m in model.named_modules() if isinstance(m, Neuron)}
    odd = {path: m for path, m in neurons.items() if m.input_steps != m.steps}
    if not odd or any(isinstance(m, IdleNeuron) for m in model.modules()):
        return None
    frames, counted = {m.input_steps for m in odd.values()}, {m.steps for m in neurons.values()}
    steps = max(*frames, *counted)
    bad = []
    if len(frames) > 1 or len(counted) > 1:
        bad.append(
            f"windows over {sorted(frames)} frames, neurons of {sorted(counted)} steps; all share one F and one T"
        )
    if len(samples) > 1:
        bad.append("a window over another number of frames goes with a single input")
    for path, m in neurons.items():
        bad += [f"{path} ({type(m).__name__}): {text}" for text in _misfits(m)]
    if bad:
        raise UnsupportedError(bad)
    ((name, x),) = samples.items()
    made = copy.deepcopy(model)
    for path in neurons:
        owner, _, last = path.rpartition(".")
        parent = made.get_submodule(owner)
        setattr(parent, last, IdleNeuron(made.get_submodule(path), steps=steps))  # type: ignore[arg-type]
    (F,), (T,) = frames, counted
    return Square(model=made, samples={name: padded(x, frames=F, steps=steps)}, steps=steps, counted=T, frames=F)


def padded(x: Tensor, *, frames: int, steps: int) -> Tensor:
    """Frames `[F,B,...]` or `[B,F,...]` with zeros behind them, S in all."""
    axis = 0 if x.shape[0] == frames else 1
    if steps == frames or x.dim() < 3 or x.shape[axis] != frames:
        return x
    more = list(x.shape)
    more[axis] = steps - frames
    return torch.cat([x, x.new_zeros(more)], axis)


def _misfits(m: Neuron) -> list[str]:
    if m.qat is not None:
        return ["was trained on integers, whose window is square; train it with frames = steps"]
    if m.step_mode == "s":
        return ["runs step by step; use step_mode='m'"]
    soma = m.described()
    quiet = {
        "levels": lambda: bool((soma.theta > 0).all()),
        "excess": lambda: bool((soma.theta >= 0).all()),
        "ladder": lambda: soma.ladder is not None and bool((soma.ladder > 0).all()),
    }
    if soma.fire not in quiet or not quiet[soma.fire]():
        return [f"fires at a potential of 0 (fire={soma.fire}), so it cannot be idle"]
    return []


def idle_soma(soma: FloatSoma, *, steps: int) -> FloatSoma:
    """A soma of T steps over S: idle behind the first T."""
    T = soma.steps
    window = None
    if soma.window is not None:
        window = soma.window.new_zeros(steps, steps)
        window[:T, : soma.window.shape[1]] = soma.window
    if steps == T:
        return attrs.evolve(soma, window=window)
    changed: dict[str, Any] = {key: _rows(getattr(soma, key), T, steps, fill=0.0) for key in ("leak", "gain", "bias")}
    for key in ("theta", "unit"):
        value = getattr(soma, key)
        if value.dim() == 2 and len(value) > 1:
            changed[key] = _rows(value, T, steps)
    return attrs.evolve(soma, steps=steps, window=window, **changed)


def _rows(value: Tensor, T: int, steps: int, *, fill: float | None = None) -> Tensor:
    """A field of T steps over S: `fill`, or the last row again, behind the first T."""
    rows = (value.reshape(1, -1) if value.dim() < 2 else value).expand(T, -1)
    last = rows[-1:] if fill is None else torch.full_like(rows[-1:], fill)
    return torch.cat([rows, last.expand(steps - T, -1)])


def close(graph_value: Any, model_value: Tensor) -> bool:
    """Whether the graph of S steps gives what the model itself gives, up to float rounding."""
    scale = float(model_value.abs().max()) or 1.0
    return bool((graph_value - model_value).abs().max() <= 1e-4 * scale)
