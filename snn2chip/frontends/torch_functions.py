"""Functions that only move axes or steps: views, permutations, slices, stacks, repeats and sums over steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import attrs
import torch

from snn2chip.frontends.torch_build import Builder, Rule
from snn2chip.frontends.torch_planes import average_all, concat_layer
from snn2chip.frontends.torch_refusals import Refusal
from snn2chip.frontends.torch_tape import Op
from snn2chip.frontends.torch_values import (
    AXIS,
    FRAMES,
    STATIC,
    Axis,
    Const,
    Time,
    Value,
    at_step,
    regroup,
    wrap_dim,
    wrap_dims,
)

_STEPS: Axis = ("T",)


def as_value(x: Any) -> Value:
    """Return `x` if it depends on the input; Refusal otherwise."""
    if not isinstance(x, Value):
        raise Refusal("is applied to a constant here")
    return x


def reshaped(b: Builder, x: Any, shape: Sequence[int]) -> Value:
    """Return x in another shape; one size may be -1."""
    x = as_value(x)
    if not all(isinstance(n, int) for n in shape):
        raise Refusal("changes the data type or takes a shape that is not made of numbers")
    sizes = list(shape)
    if -1 in sizes:
        rest = -math.prod(sizes)
        sizes[sizes.index(-1)] = math.prod(b.real_shape(x)) // rest if rest else 0
    return attrs.evolve(x, axes=regroup(x.axes, sizes, size=b.size(x)))


def _view(b: Builder, op: Op, x: Any, *shape: Any, size: Any = None) -> Value:
    given = size if size is not None else shape
    return reshaped(b, x, given[0] if len(given) == 1 and isinstance(given[0], (tuple, list)) else given)


def _reshape(b: Builder, op: Op, x: Any, *shape: Any) -> Value:
    return _view(b, op, x, *shape)


def _shape_as(b: Builder, op: Op, x: Any, other: Any) -> Value:
    return reshaped(b, x, _shape_of(b, other))


def _flatten(b: Builder, op: Op, x: Any, start_dim: int = 0, end_dim: int = -1) -> Value:
    x = as_value(x)
    sizes, rank = b.real_shape(x), len(x.axes)
    first, last = wrap_dim(start_dim, rank), wrap_dim(end_dim, rank)
    return reshaped(b, x, (*sizes[:first], math.prod(sizes[first : last + 1]), *sizes[last + 1 :]))


def _unflatten(b: Builder, op: Op, x: Any, dim: int, sizes: Sequence[int]) -> Value:
    x = as_value(x)
    real, at = list(b.real_shape(x)), wrap_dim(dim, len(x.axes))
    parts = list(sizes)
    if -1 in parts:
        parts[parts.index(-1)] = real[at] // -math.prod(parts)
    return reshaped(b, x, (*real[:at], *parts, *real[at + 1 :]))


def _unsqueeze(b: Builder, op: Op, x: Any, dim: int) -> Value:
    x = as_value(x)
    at = wrap_dim(dim, len(x.axes) + 1)
    return attrs.evolve(x, axes=(*x.axes[:at], (), *x.axes[at:]))


def _squeeze(b: Builder, op: Op, x: Any, dim: Any = None) -> Value:
    x = as_value(x)
    sizes = b.real_shape(x)
    gone = {i for i in wrap_dims(dim, len(sizes)) if sizes[i] == 1}
    steps = any("T" in x.axes[i] for i in gone)
    axes = tuple(axis for i, axis in enumerate(x.axes) if i not in gone)
    return Value(x.node, at_step(0) if steps and x.time == AXIS else x.time, axes)


def _permute(b: Builder, op: Op, x: Any, *dims: Any) -> Value:
    x = as_value(x)
    order = dims[0] if len(dims) == 1 and isinstance(dims[0], (tuple, list)) else dims
    return attrs.evolve(x, axes=tuple(x.axes[i] for i in wrap_dims(order, len(x.axes))))


def _transpose(b: Builder, op: Op, x: Any, dim0: int, dim1: int) -> Value:
    x = as_value(x)
    axes = list(x.axes)
    i, j = wrap_dims((dim0, dim1), len(axes))
    axes[i], axes[j] = axes[j], axes[i]
    return attrs.evolve(x, axes=tuple(axes))


def _movedim(b: Builder, op: Op, x: Any, source: int, destination: int) -> Value:
    x = as_value(x)
    axes = list(x.axes)
    i, j = wrap_dims((source, destination), len(axes))
    axes.insert(j, axes.pop(i))
    return attrs.evolve(x, axes=tuple(axes))


def _unchanged(b: Builder, op: Op, x: Any, *args: Any, **kwargs: Any) -> Value:
    for arg in (*args, *kwargs.values()):
        if isinstance(arg, torch.dtype) and arg not in (torch.float32, torch.float64):
            raise Refusal(f"converts to {arg}; keep the model in float32")
    return as_value(x)


def _getitem(b: Builder, op: Op, x: Any, index: Any) -> Value:
    x = as_value(x)
    items = list(index) if isinstance(index, tuple) else [index]
    taken = sum(item is not None and item is not Ellipsis for item in items)
    fill = [slice(None)] * (len(x.axes) - taken)
    at = next((i for i, item in enumerate(items) if item is Ellipsis), len(items))
    items[at : at + 1] = fill
    axes: list[Axis] = []
    left, time = list(x.axes), x.time
    for item in items:
        if item is None:
            axes.append(())
            continue
        if not left:
            raise Refusal("takes more indices than there are axes")
        axis = left.pop(0)
        length = math.prod(map(b.size(x), axis))
        picked = _picked(item, length)
        if picked is None:
            axes.append(axis)
        elif axis == _STEPS and time == AXIS:
            time = at_step(picked)
        elif length != 1:
            raise Refusal("takes a part of the batch or of the features; only steps can be picked, as x[t]")
        if picked is not None and isinstance(item, slice):
            axes.append(())
    return Value(x.node, time, (*axes, *left))


def _picked(item: Any, length: int) -> int | None:
    """Return the only position an index picks, or None for all of them."""
    if isinstance(item, slice):
        whole = range(length)[item]
        if len(whole) == length and whole == range(length):
            return None
        if len(whole) == 1:
            return whole[0]
        raise Refusal("takes some of the positions of an axis; only one step or all of them can be picked")
    if isinstance(item, int) and not isinstance(item, bool) and -length <= item < length:
        return item % length
    raise Refusal("is indexed with something that is not a number or a slice")


def _unbind(b: Builder, op: Op, x: Any, dim: int = 0) -> list[Value]:
    x = as_value(x)
    at = wrap_dim(dim, len(x.axes))
    length = b.real_shape(x)[at]
    return [_getitem(b, op, x, (*[slice(None)] * at, t)) for t in range(length)]


def _stack(b: Builder, op: Op, tensors: Sequence[Any], dim: int = 0) -> Value:
    values = [as_value(x) for x in tensors]
    at = wrap_dim(dim, len(values[0].axes) + 1)
    time = _joined(b, values)
    axes = values[0].axes
    return Value(values[0].node, time, (*axes[:at], _STEPS, *axes[at:]))


def _cat(b: Builder, op: Op, tensors: Sequence[Any], dim: int = 0) -> Value:
    values = [as_value(x) for x in tensors]
    at = wrap_dim(dim, len(values[0].axes))
    axes = values[0].axes
    if len(values) == 1:
        return values[0]
    if axes[at] not in ((), ("B",)):
        return concat_layer(b, op, values, dim=at)
    time = _joined(b, values)
    return Value(values[0].node, time, (*axes[:at], ("T", *axes[at]), *axes[at + 1 :]))


def _joined(b: Builder, values: Sequence[Value]) -> Time:
    first = values[0]
    if any(v.axes != first.axes for v in values):
        raise Refusal("joins tensors of different layouts")
    others = [v.node for v in values if v.node != first.node]
    if others:
        raise Refusal(
            f"joins steps of different layers ({b.layers[first.node].label}, {b.layers[others[0]].label}); every "
            "step must run the same layers"
        )
    times = [v.time for v in values]
    if any(t != STATIC for t in times) and times != [at_step(t) for t in range(len(values))]:
        shown = ", ".join(map(str, times))
        if [*times[::-1]] == [at_step(t) for t in range(len(values))]:
            raise Refusal(
                f"turns time around (joins {shown}): its first step needs the last step of the input, which a chip "
                "that takes one step after the other does not have yet; reverse the samples before the model"
            )
        raise Refusal(f"joins {shown}; expected all steps once, in order")
    b.note_steps(len(values))
    return AXIS


def _repeat(b: Builder, op: Op, x: Any, *repeats: Any) -> Value:
    x = as_value(x)
    counts = list(repeats[0]) if len(repeats) == 1 and isinstance(repeats[0], (tuple, list)) else list(repeats)
    new = len(counts) - len(x.axes)
    return _copied(b, x, counts, [()] * new + list(x.axes))


def _expand(b: Builder, op: Op, x: Any, *shape: Any) -> Value:
    x = as_value(x)
    sizes = list(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else list(shape)
    axes: list[Axis] = [()] * (len(sizes) - len(x.axes)) + list(x.axes)
    real = [1] * (len(sizes) - len(x.axes)) + list(b.real_shape(x))
    return _copied(b, x, [1 if n in (-1, m) else n for n, m in zip(sizes, real, strict=True)], axes)


def _expand_as(b: Builder, op: Op, x: Any, other: Any) -> Value:
    return _expand(b, op, x, _shape_of(b, other))


def _shape_of(b: Builder, other: Any) -> tuple[int, ...]:
    return tuple(other.tensor.shape) if isinstance(other, Const) else b.real_shape(as_value(other))


def _copied(b: Builder, x: Value, counts: Sequence[int], axes: Sequence[Axis]) -> Value:
    copies = [i for i, n in enumerate(counts) if n != 1]
    if not copies:
        return attrs.evolve(x, axes=tuple(axes))
    if len(copies) > 1 or x.time != STATIC or axes[copies[0]] not in ((), ("B",)):
        raise Refusal("copies something else than a static input to every step; use Repeat or x.repeat(T, 1, ...)")
    at = copies[0]
    b.note_steps(counts[at])
    return Value(x.node, AXIS, (*axes[:at], ("T", *axes[at]), *axes[at + 1 :]))


def _mean(b: Builder, op: Op, x: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    return _reduced(b, op, as_value(x), dim, keepdim, mean=True)


def _sum(b: Builder, op: Op, x: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    return _reduced(b, op, as_value(x), dim, keepdim, mean=False)


def _reduced(b: Builder, op: Op, x: Value, dim: Any, keepdim: bool, *, mean: bool) -> Value:
    """Sum or average over the step axis, over all of [H,W], or over axes of length 1."""
    dims = wrap_dims(dim, len(x.axes))
    atoms = [atom for i in dims for atom in x.axes[i]]
    size, time = b.size(x), x.time
    if time == FRAMES:
        if atoms != ["F"] or not mean:
            raise Refusal("reads event frames that are not averaged yet; average them, x.mean(0)")
        time, atoms, b.averaged = STATIC, [], True
    features = [atom for atom in atoms if isinstance(atom, int)]
    if "B" in atoms:
        raise Refusal("averages or sums over the batch")
    if features:
        if sorted(features) != list(range(1, len(b.shapes[x.node]))):
            raise Refusal("averages or sums over features other than all of [H,W]")
        x = average_all(b, op, x, factor=1.0 if mean else float(math.prod(map(size, features))))
    if "T" in atoms:
        if time != AXIS:
            raise Refusal("sums over steps twice")
        time = Time("total", None, 1.0 / size("T") if mean else 1.0)
    axes = [() if i in dims else axis for i, axis in enumerate(x.axes)]
    if not keepdim:
        axes = [axis for i, axis in enumerate(axes) if i not in dims]
    return Value(x.node, time, tuple(axes))


_SAME = (
    "contiguous clone detach detach_ requires_grad_ float double to cpu cuda type_as alias positive data".split()  # noqa: SIM905
)

VIEWS: Mapping[str, Rule] = MappingProxyType(
    {
        "view": _view,
        "reshape": _reshape,
        "view_as": _shape_as,
        "reshape_as": _shape_as,
        "flatten": _flatten,
        "unflatten": _unflatten,
        "unsqueeze": _unsqueeze,
        "squeeze": _squeeze,
        "permute": _permute,
        "transpose": _transpose,
        "swapaxes": _transpose,
        "swapdims": _transpose,
        "movedim": _movedim,
        "moveaxis": _movedim,
        "__getitem__": _getitem,
        "select": lambda b, op, x, dim, index: _getitem(
            b, op, x, (*[slice(None)] * wrap_dim(dim, len(as_value(x).axes)), index)
        ),
        "unbind": _unbind,
        "stack": _stack,
        "cat": _cat,
        "concat": _cat,
        "concatenate": _cat,
        "repeat": _repeat,
        "expand": _expand,
        "broadcast_to": _expand,
        "expand_as": _expand_as,
        "mean": _mean,
        "sum": _sum,
        **dict.fromkeys(_SAME, _unchanged),
    }
)
