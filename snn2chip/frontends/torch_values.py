"""What a recorded tensor means: a layer's value at some steps, with its axes laid out in some order.

A layer's value is `[T,B,*shape]`. A tensor of the run holds all steps or one of them, and its axes are products of
*atoms*: "T" (steps), "B" (batch) and the layer's feature axes 0, 1, .. So `x.flatten(0, 1)` of `[T,B,C,H,W]` has the
axes ("T","B"), (0,), (1,), (2,), and views, permutations and slices are bookkeeping, not operations.

    Time   all steps on an axis | one step t | the same at every step | sum over steps times a coefficient
           | event frames "F", which nothing but their mean may read: that is the input's value, the same at every step
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import attrs
from torch import Tensor

from snn2chip.frontends.torch_refusals import Refusal

Atom = str | int
Axis = tuple[Atom, ...]
Axes = tuple[Axis, ...]


@attrs.frozen
class Time:
    """When a tensor is: `kind` axis, step (`steps` = {t}), static, or total (sum over `steps`, times `factor`).

    A total over all steps of an axis has `steps` None.
    """

    kind: Literal["axis", "step", "static", "total", "frames"]
    steps: frozenset[int] | None = None
    factor: float = 1.0

    @property
    def step(self) -> int:
        """The step of kind "step"."""
        assert self.steps is not None
        return next(iter(self.steps))

    def __str__(self) -> str:
        if self.kind == "step":
            return f"step {self.step}"
        shown = {"axis": "all steps", "static": "no step", "total": "a sum over steps", "frames": "event frames"}
        return shown[self.kind]


AXIS = Time("axis")
STATIC = Time("static")
FRAMES = Time("frames")


def at_step(step: int) -> Time:
    """Return the time of one step."""
    return Time("step", frozenset([step]))


@attrs.frozen
class Value:
    """A tensor that holds values of layer `node`, plus those of layer `feedback` of the step before, if it is named."""

    node: str
    time: Time
    axes: Axes
    feedback: str = ""


@attrs.frozen(eq=False)
class Const:
    """A tensor that does not depend on the input; `name` is its registered name, if it has one."""

    tensor: Tensor
    name: str = ""


class Opaque:
    """A tensor behind an operation that was refused; nothing more is said about it."""


def regroup(axes: Axes, target: Sequence[int], *, size: Callable[[Atom], int]) -> Axes:
    """Return the axes of a reshape to `target` sizes; Refusal if an axis would have to be split otherwise."""
    atoms = [atom for axis in axes for atom in axis]
    groups: list[Axis] = []
    for length in target:
        group: list[Atom] = []
        if length == 1 and atoms and size(atoms[0]) == 1:
            group.append(atoms.pop(0))
        while atoms and math.prod(map(size, group)) < length:
            group.append(atoms.pop(0))
        if math.prod(map(size, group)) != length:
            raise Refusal(
                f"reshapes to {list(target)}, which splits an axis of the features or of the batch; "
                "give the sample and the layers the shape they need from the start"
            )
        groups.append(tuple(group))
    if atoms and (math.prod(map(size, atoms)) != 1 or not groups):
        raise Refusal(f"reshapes to {list(target)}, which does not hold all elements")
    if atoms:
        groups[-1] = (*groups[-1], *atoms)
    return tuple(groups)


def wrap_dim(dim: int, rank: int) -> int:
    """Return a non-negative axis number; Refusal if it is out of range."""
    if not -rank <= dim < max(rank, 1):
        raise Refusal(f"uses axis {dim} of a tensor with {rank} axes")
    return dim % rank if rank else 0


def wrap_dims(dim: Any, rank: int) -> tuple[int, ...]:
    """Return axis numbers of an int, a sequence or None (all of them)."""
    if dim is None:
        return tuple(range(rank))
    return tuple(wrap_dim(d, rank) for d in (dim if isinstance(dim, (tuple, list)) else (dim,)))
