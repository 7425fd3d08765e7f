"""Raw samples of one input or of several: an array, or arrays by input name; each with or without an axis of steps.

    [N, *shape]       one frame per sample, the batch on axis 0
    [T, N, *shape]    every step, the batch on axis 1

`by_step` says which: True or False for all inputs, or the names of those that hold every step.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from snn2chip.errors import InputError

ByStep = bool | Collection[str]


def holds_steps(name: str, by_step: ByStep) -> bool:
    """Whether the samples of one input hold every step."""
    return by_step if isinstance(by_step, bool) else name in by_step


def batch_axis(name: str, by_step: ByStep) -> int:
    """The axis of the samples of one input."""
    return 1 if holds_steps(name, by_step) else 0


def named(x: Any) -> Mapping[str, Any]:
    """The arrays by name; of a single input without a name, by the empty one."""
    return x if isinstance(x, Mapping) else {"": x}


def like(x: Any, parts: Mapping[str, Any]) -> Any:
    """Arrays by name in the form of `x`: a mapping, or the single array."""
    return dict(parts) if isinstance(x, Mapping) else parts[""]


def count(x: Any, by_step: ByStep) -> int:
    """How many samples there are; InputError where the inputs disagree or there are none."""
    sizes = {name: a.shape[batch_axis(name, by_step)] for name, a in named(x).items()}
    if len(set(sizes.values())) != 1:
        raise InputError(f"inputs have different numbers of samples: {sizes}")
    return int(next(iter(sizes.values())))


def part(x: Any, start: int, stop: int, by_step: ByStep) -> Any:
    """The samples from `start` to `stop` of every input, in the form of `x`."""
    cut = slice(start, stop)
    return like(x, {name: a[:, cut] if holds_steps(name, by_step) else a[cut] for name, a in named(x).items()})
