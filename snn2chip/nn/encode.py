"""Into time and out of it: repeat a static input, average over the steps, run ordinary layers over time.

Repeat     [B,...]   -> [T,B,...]   the same input at every step (direct coding)
TimeMean   [T,B,...] -> [B,...]     mean over the steps, the read-out of every method
TimeFold   [T,B,...] -> [T,B,...']  module(x.flatten(0,1)): Conv2d, BatchNorm2d, Linear, .. see [T*B,...]
Seq        a Sequential that folds its ordinary layers by itself
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from snn2chip.errors import InputError
from snn2chip.nn.base import Neuron


class Repeat(nn.Module):
    """Apply a static input at every step: `[B,...] -> [steps,B,...]`."""

    timed: ClassVar[bool] = True

    def __init__(self, steps: int) -> None:
        super().__init__()
        if not isinstance(steps, int) or steps < 1:
            raise InputError(f"Repeat: steps={steps!r}, expected an integer >= 1")
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        """Return the input, once for every step, in the order of memory it has."""
        return torch.unflatten(torch.cat([x] * self.steps), 0, (self.steps, x.shape[0]))

    def extra_repr(self) -> str:
        """Return the steps shown by `print`."""
        return f"steps={self.steps}"


class TimeMean(nn.Module):
    """Average over the steps: `[T,B,...] -> [B,...]`."""

    timed: ClassVar[bool] = True

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean over the first axis."""
        return x.mean(0)


class TimeFold(nn.Module):
    """Run an ordinary module on `[T,B,...]` as on one batch of T*B."""

    timed: ClassVar[bool] = True

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """Return module(x) for every step."""
        steps, batch = x.shape[:2]
        return torch.unflatten(self.module(x.flatten(0, 1)), 0, (steps, batch))


def is_timed(module: nn.Module) -> bool:
    """Return whether a module handles `[T,B,...]` itself: a neuron, a layer of this file, a holder of one."""
    return isinstance(module, Neuron) or getattr(module, "timed", False) or any(map(is_timed, _children(module)))


def _children(module: nn.Module) -> list[nn.Module]:
    # not .children(): torch.compile cannot follow its set of modules seen
    return [child for child in module._modules.values() if child is not None]


def _holds_repeat(module: nn.Module) -> bool:
    return isinstance(module, Repeat) or any(map(_holds_repeat, _children(module)))


def _leaves_time(module: nn.Module) -> bool:
    if isinstance(module, Seq):
        return len(module) > 0 and _leaves_time(module[-1])
    return isinstance(module, TimeMean)


class Seq(nn.Sequential):
    """A Sequential over `[T,B,...]`: neurons and time layers get all axes, ordinary layers get `[T*B,...]`.

    Layers before a `Repeat` and after a `TimeMean` see `[B,...]` as they are.
    Without a `Repeat` the input already has steps.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the output of the last layer."""
        x = input
        in_time = not _holds_repeat(self)
        lead: tuple[int, int] | None = None
        for module in self:
            if is_timed(module):
                x = x if lead is None else torch.unflatten(x, 0, lead)
                lead = None
                x = module(x)
                in_time = not _leaves_time(module)
            else:
                if in_time and lead is None:
                    lead = (x.shape[0], x.shape[1])
                    x = x.flatten(0, 1)
                x = module(x)
        return x if lead is None else torch.unflatten(x, 0, lead)
