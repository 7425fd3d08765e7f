"""Exact integers on floating-point units.

A float type with p significand bits adds and multiplies integers without rounding, in any order and with
fused multiply-add, as long as every partial result stays within 2^p. So a linear map is exact when
sum |w| * max |payload| <= 2^p, *if* the library computes it directly. What could round in spite of that is
switched off while the engine runs, and put back afterwards:

- NNPACK's convolution (Winograd and FFT transforms; PyTorch takes it silently for batches of 16 and more
  once oneDNN is off),
- PyTorch's deterministic mode (not needed: integers are the same in any order; on CUDA it refuses products),
- TF32 and bfloat16 products (`float32_matmul_precision`, `fp32_precision`, autocast, oneDNN's own variable),
- on CUDA, sums of half-precision products in less than float32.

oneDNN convolution stays on: PyTorch always asks it for its direct algorithm, Winograd must be asked for.
cuDNN is not used at all (its heuristics may choose Winograd or FFT): on CUDA a convolution is our own product on matrix
units (`tensor_cores`), or a copy into columns and one product.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import Any, cast

import torch
from torch.backends import cuda, cudnn, mkldnn, nnpack

FLOAT32_EXACT = 1 << 24
FLOAT64_EXACT = 1 << 53
FPMATH = ("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE")


def float_type(bound: int) -> torch.dtype:
    """Smallest float type that holds every integer up to `bound` in magnitude, and all sums below it."""
    if bound <= FLOAT32_EXACT:
        return torch.float32
    assert bound <= FLOAT64_EXACT, "the contract keeps currents below 2^46"
    return torch.float64


def int_type(bound: int) -> torch.dtype:
    """int32 when `bound` (the largest magnitude on the way) fits it, else int64."""
    return torch.int32 if bound < 1 << 31 else torch.int64


@contextmanager
def exact_arithmetic(device: torch.device) -> Iterator[None]:
    """No gradients, no autocast, no rounding algorithms; flags are as before once the last thread has left."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        stack.enter_context(torch.autocast("cpu" if device.type == "meta" else device.type, enabled=False))
        stack.enter_context(_EVERYWHERE.turned())
        if device.type == "cuda":
            stack.enter_context(_ON_GPU.turned())
        if device.index:  # kernels of our own are launched on the current device
            stack.enter_context(torch.cuda.device(device))
        yield


class _Switches:
    """Switches of the whole process: the first thread in turns them, the last one out turns them back."""

    def __init__(self, turn: Callable[[ExitStack], None]) -> None:
        self._turn, self._lock = turn, Lock()
        self._inside, self._back = 0, ExitStack()

    @contextmanager
    def turned(self) -> Iterator[None]:
        """While any thread is in here."""
        with self._lock:
            if not self._inside:
                with ExitStack() as stack:
                    self._turn(stack)
                    self._back = stack.pop_all()
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    self._back.close()


def _everywhere(stack: ExitStack) -> None:
    stack.enter_context(nnpack.flags(enabled=False))
    if not onednn_strict():
        stack.enter_context(_without_onednn())
    stack.enter_context(_ieee_float32(on_gpu=False))
    stack.enter_context(_any_order())


def _on_gpu(stack: ExitStack) -> None:
    stack.enter_context(_ieee_float32(on_gpu=True))
    stack.enter_context(_whole_sums())


_EVERYWHERE, _ON_GPU = _Switches(_everywhere), _Switches(_on_gpu)


@contextmanager
def _without_onednn() -> Iterator[None]:
    """Convolutions as columns and matrix products instead."""
    library: Any = mkldnn
    before = library.enabled
    library.enabled = False
    try:
        yield
    finally:
        library.enabled = before


@contextmanager
def _any_order() -> Iterator[None]:
    """Leave PyTorch's deterministic mode for a while."""
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    if enabled:
        torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        if enabled:
            torch.use_deterministic_algorithms(True, warn_only=warn_only)


@contextmanager
def _whole_sums() -> Iterator[None]:
    """Sums of half-precision products on CUDA in float32 to the end, by every switch that this PyTorch has."""
    products: Any = cuda.matmul
    names = (f"allow_{kind}" for kind in ("fp16_reduced_precision_reduction", "bf16_reduced_precision_reduction"))
    reduced = [name for name in (*names, "allow_fp16_accumulation") if getattr(products, name, False)]
    for name in reduced:
        setattr(products, name, False)
    try:
        yield
    finally:
        for name in reduced:
            setattr(products, name, True)


def onednn_strict() -> bool:
    """Whether oneDNN's own environment leaves float32 products alone."""
    return all(os.environ.get(name, "STRICT").upper() == "STRICT" for name in FPMATH)


@contextmanager
def _ieee_float32(*, on_gpu: bool) -> Iterator[None]:
    """Full float32 products in matmul and convolution, through whichever switches this PyTorch has."""
    if hasattr(mkldnn, "conv"):  # one switch per library and operation, since PyTorch 2.9
        libraries: list[Any] = [cuda, mkldnn, *([cudnn] if on_gpu else [])]
        switches = [getattr(lib, op) for lib in libraries for op in ("matmul", "conv") if hasattr(lib, op)]
        reduced = [(s, s.fp32_precision) for s in switches if s.fp32_precision != "ieee"]
        for switch, _ in reduced:
            switch.fp32_precision = "ieee"
        try:
            yield
        finally:
            for switch, before in reduced:
                switch.fp32_precision = before
        return
    precision, library = torch.get_float32_matmul_precision(), cast(Any, cudnn)
    convolutions = on_gpu and library.allow_tf32
    if precision != "highest":
        torch.set_float32_matmul_precision("highest")
    if convolutions:
        library.allow_tf32 = False
    try:
        yield
    finally:
        if convolutions:
            library.allow_tf32 = True
        if precision != "highest":
            torch.set_float32_matmul_precision(precision)
