"""Recording an eager run: leaf modules by their `forward`, everything else as functions.

A `TorchFunctionMode` sees every torch function; the `forward` of every module is wrapped on the instance while
recording, so that leaf modules count as one operation and every operation knows the user's layer path. Tensors
are told apart by identity and kept alive; an in-place operation gives the same object a new number, and a view
that went stale by it is noticed by its version counter. Nothing of the model stays changed afterwards.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from snn2chip.errors import InputError, Snn2ChipError
from snn2chip.frontends.torch_tape import Op, Ref, Tape, map_tensors, tensors_in

PASSIVE = frozenset(
    "size dim ndimension numel nelement stride is_contiguous storage_offset data_ptr get_device is_same_size "  # noqa: SIM905
    "is_floating_point is_complex is_signed element_size __len__ __hash__ __repr__ __format__".split()
)
LIKE = frozenset(
    "zeros_like ones_like full_like new_zeros new_ones new_full new_tensor empty_like new_empty".split()  # noqa: SIM905
)
RANDOM = frozenset(
    "rand randn randint randperm rand_like randn_like randint_like normal bernoulli multinomial poisson "  # noqa: SIM905
    "uniform_ normal_ bernoulli_ random_ exponential_ geometric_ cauchy_ log_normal_ rrelu alpha_dropout".split()
)
_HERE = os.path.dirname(os.path.abspath(__file__))
_SKIPPED = tuple(
    folder + os.sep
    for folder in (os.path.dirname(os.path.abspath(torch.__file__)), _HERE, os.path.join(os.path.dirname(_HERE), "nn"))
)
BAKED = (
    "uses a tensor that is not made by recorded operations; it would be baked in as a constant. Register it with "
    "register_buffer (or its module in nn.ModuleList) and compute it with torch"
)


class Recorder(TorchFunctionMode):
    """Records one run of `model`; `is_leaf` says which modules count as one operation."""

    def __init__(self, model: nn.Module, *, is_leaf: Callable[[nn.Module], bool]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tape = Tape()
        self._model = model
        self._is_leaf = is_leaf
        self._registered = {
            id(tensor): (name, tensor) for name, tensor in (*model.named_parameters(), *model.named_buffers())
        }
        self._seen: dict[int, tuple[int, int]] = {}  # id -> (number, version)
        self._alive: list[Tensor] = []
        self._stack: list[tuple[str, str]] = []
        self._failed: tuple[BaseException, tuple[str, str]] | None = (
            None  # what a forward raised, and the innermost one
        )
        self._paused = True

    def run(self, *given: Tensor) -> Tape:
        """Return the tape of model(*given); the model must be in eval mode and its neurons reset.

        Raises InputError with the user's layer and line when the model itself fails on them.
        """
        self.tape.inputs = tuple(self._add(x) for x in given)
        with torch.no_grad(), self._wrapped(), self._indexing_seen(), self:
            self._paused = False
            try:
                output = self._model(*given)
            except (Exception, SystemExit) as error:
                if _is_ours(error):
                    raise
                raise InputError(self._failure(error, given)) from error
            finally:
                self._paused = True
        self.tape.output = map_tensors(output, lambda t: Ref(self._ref(t, [])))
        return self.tape

    def _note(self, error: BaseException) -> None:
        if self._failed is None or self._failed[0] is not error:
            self._failed = (error, self._stack[-1])

    def _failure(self, error: BaseException, given: Sequence[Tensor]) -> str:
        path, owner = "", type(self._model).__name__
        if self._failed is not None and self._failed[0] is error:
            path, owner = self._failed[1]
        line = _line_of(error)
        kind = "" if isinstance(error, Snn2ChipError) else f"{type(error).__name__}: "
        where = (f"{path} ({owner})" if path else owner) + (f" at {line}" if line else "")
        shapes = ", ".join(str(list(x.shape)) for x in given)
        return (
            f"{where}: the model's forward fails on the sample {shapes}: {kind}{error}; "
            "give a sample that the model itself takes"
        )

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a torch function and put it on the tape."""
        return self._call(func, args, kwargs or {})

    def _call(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], leaf: nn.Module | None = None
    ) -> Any:
        if self._paused:
            return func(*args, **kwargs)
        self._paused = True
        try:
            return self._record(func, args, kwargs, leaf)
        finally:
            self._paused = False

    def _record(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], leaf: nn.Module | None
    ) -> Any:
        inputs = tensors_in((args, kwargs))
        versions = [t._version for t in inputs]
        name, title, getter = ("", "", False) if leaf is not None else _name(func)
        problems: list[str] = []
        stored_args, stored_kwargs = map_tensors((args, kwargs), lambda t: Ref(self._ref(t, problems)))
        result = func(*args, **kwargs)
        outputs = tensors_in(result)
        if leaf is None and not outputs and (not inputs or getter or name in PASSIVE):
            return result
        changed = [t for t, version in zip(inputs, versions, strict=True) if t._version != version]
        problems += self._in_place(changed, outputs, name)
        if name in RANDOM:
            problems.append("is random; a compiled network needs a deterministic input code")
        elif not outputs and not changed:
            problems.append("reads tensor values into Python, so the graph would depend on the data")
        constants = self.tape.constants
        stateful = callable(getattr(leaf, "float_soma", None))
        fixed = name in LIKE or (not stateful and all(self._seen[id(t)][0] in constants for t in inputs))
        path, owner = self._stack[-1] if self._stack else ("", type(self._model).__name__)
        op = Op(
            target=func,
            name=type(leaf).__name__ if leaf is not None else name,
            title=type(leaf).__name__ if leaf is not None else title,
            module=leaf,
            args=stored_args,
            kwargs=stored_kwargs,
            result=map_tensors(result, lambda t: Ref(self._add(t, constant=fixed))),
            path=path,
            owner=owner,
            source=_source(),
            problem="; ".join(dict.fromkeys(problems)) or None,
        )
        self.tape.ops.append(op)
        return result

    def _add(self, tensor: Tensor, *, constant: bool = False) -> int:
        index = len(self._alive)
        self._alive.append(tensor)
        self._seen[id(tensor)] = (index, tensor._version)
        if constant:
            self.tape.constants[index] = tensor.detach().clone()
        return index

    def _ref(self, tensor: Tensor, problems: list[str]) -> int:
        known = self._seen.get(id(tensor))
        if known is None:
            index = self._add(tensor)
            self.tape.leaves[index] = tensor
            self.tape.constants[index] = tensor
            name, _ = self._registered.get(id(tensor), ("", None))
            if name:
                self.tape.names[index] = name
            else:
                problems.append(BAKED)
            return index
        index, version = known
        if tensor._version != version:
            problems.append(
                "uses a tensor that was changed in place through another view of it; write y = x + ... instead"
            )
        return index

    def _in_place(self, changed: list[Tensor], outputs: list[Tensor], name: str) -> list[str]:
        problems = []
        returned = {id(t) for t in outputs}
        for tensor in changed:
            if id(tensor) in self._registered:
                problems.append(
                    f"changes {self._registered[id(tensor)][0]!r} of the model in place; keep the state in a "
                    "neuron of snn2chip.nn"
                )
            elif id(tensor) not in returned:
                advice = (
                    "collect the steps in a list and torch.stack them" if name == "__setitem__" else "use its result"
                )
                problems.append(f"writes into a tensor in place; {advice}")
        return problems

    @contextmanager
    def _wrapped(self) -> Iterator[None]:
        missing = object()
        before: list[tuple[nn.Module, object]] = []
        try:
            for path, module in self._model.named_modules():
                if isinstance(module, torch.jit.ScriptModule):
                    continue
                before.append((module, module.__dict__.get("forward", missing)))
                wrap = self._leaf_forward if self._is_leaf(module) else self._inner_forward
                module.__dict__["forward"] = wrap(module, path, module.forward)
            yield
        finally:
            for module, forward in before:
                if forward is missing:
                    del module.__dict__["forward"]
                else:
                    module.__dict__["forward"] = forward

    def _leaf_forward(self, module: nn.Module, path: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        def recorded(*args: Any, **kwargs: Any) -> Any:
            self._stack.append((path, type(module).__name__))
            try:
                return self._call(forward, args, kwargs, module)
            except (Exception, SystemExit) as error:
                self._note(error)
                raise
            finally:
                self._stack.pop()

        return recorded

    def _inner_forward(self, module: nn.Module, path: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        def entered(*args: Any, **kwargs: Any) -> Any:
            self._stack.append((path, type(module).__name__))
            try:
                return forward(*args, **kwargs)
            except (Exception, SystemExit) as error:
                self._note(error)
                raise
            finally:
                self._stack.pop()

        return entered

    @contextmanager
    def _indexing_seen(self) -> Iterator[None]:
        """Record `x[i]` and `x[i] = y` on torch versions whose function modes do not see them."""
        if _mode_sees_indexing():
            yield
            return
        read, write = torch.Tensor.__getitem__, torch.Tensor.__setitem__

        def getitem(tensor: Tensor, index: Any) -> Any:
            return self._call(read, (tensor, index), {})

        def setitem(tensor: Tensor, index: Any, value: Any) -> Any:
            return self._call(write, (tensor, index, value), {})

        torch.Tensor.__getitem__ = getitem  # type: ignore[method-assign, assignment]
        torch.Tensor.__setitem__ = setitem  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            del torch.Tensor.__getitem__, torch.Tensor.__setitem__


def _mode_sees_indexing() -> bool:
    seen: list[object] = []

    class Probe(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(func)
            return func(*args, **(kwargs or {}))

    x, y = torch.zeros(1), torch.ones(())
    with Probe():  # type: ignore[no-untyped-call]
        _ = x[0]
        x[0] = y
    return {"__getitem__", "__setitem__"} <= {getattr(func, "__name__", "") for func in seen}


def _name(func: Callable[..., Any]) -> tuple[str, str, bool]:
    """Return (last part, what to show, whether it reads a property) of a torch function."""
    title = resolve_name(func) or getattr(func, "__name__", repr(func))
    parts = title.split(".")
    getter = parts[-1] == "__get__"
    if getter:
        parts = parts[:-1]
    return parts[-1], ".".join(parts), getter


def _source() -> str:
    """Return file:line of the user's code that is running, or nothing if only torch and this package are."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code is not Recorder.run.__code__:
        file = frame.f_code.co_filename
        if not os.path.abspath(file).startswith(_SKIPPED):
            return _place(file, frame.f_lineno)
        frame = frame.f_back  # type: ignore[assignment]
    return ""


def _place(file: str, line: int) -> str:
    inside = os.path.relpath(file)
    return f"{file if inside.startswith('..') else inside}:{line}"


def _line_of(error: BaseException) -> str:
    """Return file:line of the user's code that raised, or nothing if only torch and this package ran."""
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = frame.f_code.co_filename
        if not os.path.abspath(file).startswith(_SKIPPED):
            place = _place(file, line)
    return place


def _is_ours(error: BaseException) -> bool:
    """Return whether the recorder itself raised: a defect of ours, or no fault of anybody's code."""
    if isinstance(error, (MemoryError, OSError)):
        return True
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    file = os.path.abspath(frame.f_code.co_filename)
    return file.startswith(_HERE + os.sep) and frame.f_code not in (Recorder._record.__code__, Recorder._call.__code__)
