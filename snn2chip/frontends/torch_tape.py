"""The tape: every operation of one eager run, in order, and how to run it again.

Tensors are replaced by `Ref` numbers, so the same operations (with the real modules and parameters) can be
replayed on another input. Values that do not depend on the input are marked as constants.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor, nn

Observer = Callable[[int, Tensor], None]


@attrs.frozen
class Ref:
    """A tensor on the tape, by number."""

    index: int


@attrs.frozen(kw_only=True, eq=False)
class Op:
    """One recorded call: what ran, on what, where the user wrote it, and what is wrong with it already."""

    target: Callable[..., Any]
    name: str  # last part of the function's name, such as "add_", or the module's class
    title: str  # as error messages show it
    module: nn.Module | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any
    path: str
    owner: str
    source: str
    problem: str | None = None


@attrs.define(kw_only=True, eq=False)
class Tape:
    """Recorded operations; `constants` are parameters, buffers and what was computed from them alone."""

    ops: list[Op] = attrs.field(factory=list)
    names: dict[int, str] = attrs.field(factory=dict)  # registered parameters and buffers among the constants
    constants: dict[int, Tensor] = attrs.field(factory=dict)
    leaves: dict[int, Tensor] = attrs.field(factory=dict)  # tensors that existed before the run
    inputs: tuple[int, ...] = (0,)
    output: Any = None

    def replay(self, given: Sequence[Tensor], *, observe: Observer | None = None) -> Any:
        """Run the recorded operations on other inputs of the same shapes and return the model's output.

        `observe(index, tensor)` sees every intermediate tensor right after it was made.
        """
        seen: dict[int, Tensor] = dict(self.leaves)
        for index, x in zip(self.inputs, given, strict=True):
            seen[index] = x.clone()
            if observe is not None:
                observe(index, seen[index])
        left = Counter(ref for op in self.ops for ref in refs_in((op.args, op.kwargs)))
        left.update(refs_in(self.output))
        for op in self.ops:
            args, kwargs = map_refs(op.args, seen.__getitem__), map_refs(op.kwargs, seen.__getitem__)
            result = op.target(*args, **kwargs)
            del args, kwargs
            for ref, tensor in zip(refs_in(op.result), tensors_in(result), strict=True):
                seen[ref] = tensor
                if observe is not None:
                    observe(ref, tensor)
            for ref in refs_in((op.args, op.kwargs)):  # a value that nothing reads any more is given back
                left[ref] -= 1
                if not left[ref]:
                    seen.pop(ref, None)
        return map_refs(self.output, seen.__getitem__)


def map_tensors(value: Any, change: Callable[[Tensor], Any]) -> Any:
    """Return nested tuples, lists, dicts and slices with every tensor exchanged."""
    return _map(value, torch.Tensor, change)


def map_refs(value: Any, change: Callable[[int], Any]) -> Any:
    """Return nested tuples, lists, dicts and slices with every Ref exchanged."""
    return _map(value, Ref, lambda ref: change(ref.index))


def tensors_in(value: Any) -> list[Tensor]:
    """Return all tensors of nested containers in order."""
    found: list[Tensor] = []
    map_tensors(value, found.append)
    return found


def refs_in(value: Any) -> list[int]:
    """Return the numbers of all refs of nested containers in order."""
    found: list[int] = []
    map_refs(value, found.append)
    return found


def leaves_in(value: Any) -> list[Any]:
    """Return everything inside nested containers that is not a container, in order."""
    found: list[Any] = []
    _map(value, object, found.append, containers=True)
    return found


def _map(value: Any, kind: type, change: Callable[[Any], Any], containers: bool = False) -> Any:
    nested = isinstance(value, (tuple, list, dict, slice))
    if isinstance(value, kind) and not (nested and containers):
        return change(value)
    if isinstance(value, tuple):
        items = [_map(v, kind, change, containers) for v in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if isinstance(value, list):
        return [_map(v, kind, change, containers) for v in value]
    if isinstance(value, dict):
        return {k: _map(v, kind, change, containers) for k, v in value.items()}
    if isinstance(value, slice):
        return slice(*(_map(v, kind, change, containers) for v in (value.start, value.stop, value.step)))
    return value
