"""Triton's language in PyTorch operations: kernels run on the CPU, program by program, with or without Triton.

`load_kernels` runs the source of a module of kernels under Triton's own interpreter (Triton 3 or later, everything
started with TRITON_INTERPRET=1), and otherwise under the stand-ins below: pointers are tensors with offsets, blocks are
tensors, a grid is a loop. Both check arithmetic and addresses (one that is masked out may be anything, any other must
lie inside its tensor), not speed.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import sys
from collections.abc import Callable
from functools import cache
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, ClassVar

import torch
from torch import Tensor

OPTIONS = ("num_warps", "num_stages", "enable_fp_fusion")


class Pointer:
    """A tensor's memory and offsets into it."""

    def __init__(self, memory: Tensor, offset: Any = 0) -> None:
        self.memory, self.offset = memory, offset
        self.dtype = self
        self.element_ty = memory.dtype

    def __add__(self, more: Any) -> Pointer:
        return Pointer(self.memory, self.offset + more)

    def places(self, mask: Any) -> tuple[Tensor, Tensor]:
        """Offsets and mask as tensors of one shape; every offset that is not masked out must exist."""
        at, on = torch.as_tensor(self.offset, dtype=torch.int64), torch.as_tensor(True if mask is None else mask)
        at, on = torch.broadcast_tensors(at, on)
        assert bool(((at >= 0) & (at < len(self.memory)) | ~on).all()), "outside of the tensor"
        return torch.where(on, at, 0), on


def pointer(x: Tensor) -> Pointer:
    """A pointer to the first value of x."""
    length = sum((n - 1) * s for n, s in zip(x.shape, x.stride(), strict=True)) + 1 if x.numel() else 0
    return Pointer(x.as_strided((length,), (1,)))


def load(p: Pointer, mask: Any = None, other: Any = 0, **options: Any) -> Tensor:
    """Values at p, `other` where masked out."""
    if not len(p.memory):
        return torch.full_like(torch.as_tensor(mask), other, dtype=p.memory.dtype)
    at, on = p.places(mask)
    return torch.where(on, p.memory[at], torch.tensor(other, dtype=p.memory.dtype))


def store(p: Pointer, value: Any, mask: Any = None, **options: Any) -> None:
    """Write value at p; two values never go to one place."""
    if mask is not None and not bool(torch.as_tensor(mask).any()):
        return
    at, on = p.places(mask)
    at, on, value = torch.broadcast_tensors(at, on, torch.as_tensor(value))
    assert len(at[on].unique()) == int(on.sum()), "written twice in one program"
    p.memory[at[on]] = value[on].to(p.memory.dtype)


class Kernel:
    """What `triton.jit` makes of a function: called like a function inside kernels, launched with a grid."""

    place: ClassVar[list[Tensor]] = []

    def __init__(self, function: Callable[..., Any]) -> None:
        self.fn = function
        self.__name__ = function.__name__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.fn(*args, **kwargs)

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        def launch(
            *args: Any, num_warps: int = 4, num_stages: int = 2, enable_fp_fusion: bool = True, **kw: Any
        ) -> None:
            args = tuple(pointer(a) if isinstance(a, Tensor) else a for a in args)
            kw = {k: pointer(a) if isinstance(a, Tensor) else a for k, a in kw.items()}
            for place in itertools.product(*map(range, grid)):
                Kernel.place = [torch.tensor(i, dtype=torch.int32) for i in place]
                self.fn(*args, **kw)

        return launch


def _jit(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    return Kernel if function is None else Kernel(function)


def _pair(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Any, Any], Any]:
    def both(a: Any, b: Any) -> Any:
        a, b = (torch.as_tensor(x) for x in (a, b))
        return function(a, b.to(a.dtype) if not b.dim() else b)

    return both


def _where(on: Any, a: Any, b: Any) -> Tensor:
    return torch.where(torch.as_tensor(on), a, b)


def _dot(a: Tensor, b: Tensor, acc: Tensor | None = None, *, out_dtype: Any = None, **options: Any) -> Tensor:
    wide = torch.int32 if a.dtype == torch.int8 else torch.float32
    assert min(*a.shape, b.shape[1]) >= 16, "products of matrix units have 16 rows, columns and terms"
    exact = (a.to(torch.float64) @ b.to(torch.float64)).to(wide)
    return exact if acc is None else acc + exact


def _language() -> ModuleType:
    tl: Any = ModuleType("triton.language")
    tl.constexpr = lambda value: value
    tl.program_id = lambda axis: Kernel.place[axis]
    tl.arange = lambda first, last: torch.arange(first, last, dtype=torch.int32)
    tl.full = lambda shape, value, dtype: torch.full([int(n) for n in shape], value, dtype=dtype)
    tl.load, tl.store, tl.where, tl.dot = load, store, _where, _dot
    tl.minimum, tl.maximum = _pair(torch.minimum), _pair(torch.maximum)
    tl.sum = lambda x, axis=None: x.sum() if axis is None else x.sum(axis, dtype=x.dtype)
    tl.floor, tl.abs, tl.div_rn = torch.floor, torch.abs, lambda a, b: a / b
    tl.debug_barrier = lambda: None
    for name in ("int1", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"):
        setattr(tl, name, getattr(torch, name, torch.bool))
    return tl


@cache
def has_triton() -> bool:
    """Whether all of Triton runs in its interpreter here, and that is complete (version 3)."""
    if os.environ.get("TRITON_INTERPRET") != "1" or importlib.util.find_spec("triton") is None:
        return False
    import triton

    return int(triton.__version__.split(".")[0]) >= 3


def load_kernels(name: str) -> ModuleType:
    """The module of kernels `name`, made to run on CPU tensors."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    if has_triton():
        return _execute(name, spec)
    triton: Any = ModuleType("triton")
    triton.jit, triton.language, triton.__version__ = _jit, _language(), "0.0.0"
    fakes = {"triton": triton, "triton.language": triton.language}
    before_modules = {key: sys.modules.get(key) for key in fakes}
    sys.modules.update(fakes)
    try:
        return _execute(name, spec)
    finally:
        for key, module in before_modules.items():
            sys.modules.pop(key) if module is None else sys.modules.update({key: module})


def _execute(name: str, spec: ModuleSpec) -> ModuleType:
    assert spec.origin is not None
    own = importlib.util.spec_from_file_location(f"{name}_on_cpu", spec.origin)
    assert own is not None
    assert own.loader is not None
    module = importlib.util.module_from_spec(own)
    sys.modules[own.name] = module  # Triton looks functions up there
    own.loader.exec_module(module)
    return module
