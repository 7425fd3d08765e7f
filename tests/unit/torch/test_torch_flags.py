"""Nothing a user has switched on in PyTorch can make a sum round, and every switch is as before afterwards."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import snn2chip_backends.torch
import torch
from snn2chip_backends.torch import fused, int8, winograd
from snn2chip_backends.torch.exact import exact_arithmetic, onednn_strict
from torch.backends import mkldnn, nnpack

import snn2chip.nn.fused
from snn2chip.api import run
from snn2chip.ir.nodes import Input, Output, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.threads import torch_threads

CPU = torch.device("cpu")


def network() -> Program:
    """Convolution and linear layer with partial sums of more than 16 bits: bfloat16, TF32 and Winograd all fail."""
    rng = np.random.default_rng(0)
    return Program(
        nodes=[
            Input("in", (16, 16, 16), -600, 600),
            Synapse("conv", "conv2d", rng.choice([127, -127, 1], size=(16, 16, 3, 3)), padding=1),
            Soma("relay", (16, 16, 16), fire="relay", reset="drop", out_shift=12, out_max=2000),
            Synapse("fc", "linear", rng.choice([127, -127, 3], size=(8, 4096))),
            Soma("read", 8, fire="none", gain_shift=4),
            Output("out"),
        ],
        edges=[("in", "conv"), ("conv", "relay"), ("relay", "fc"), ("fc", "read"), ("read", "out")],
        steps=1,
    )


@pytest.fixture(scope="module")
def case() -> tuple[Program, np.ndarray, Any]:
    """The program, samples and what the reference makes of them."""
    program = network()
    x = np.random.default_rng(1).choice([600, -600, 599, 1, 0], size=(32, 16, 16, 16))
    return program, x, run(program, x, backend="reference")


@contextmanager
def onednn_off() -> Iterator[None]:
    library: Any = mkldnn
    library.enabled = False
    try:
        yield
        assert not library.enabled
    finally:
        library.enabled = True


@contextmanager
def matmul_precision(name: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
        assert torch.get_float32_matmul_precision() == name
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def precision_switches(value: str) -> Iterator[None]:
    if not hasattr(mkldnn, "conv"):
        with matmul_precision("medium"):
            yield
        return
    switches: list[Any] = [mkldnn.conv, mkldnn.matmul, torch.backends.cuda.matmul]
    before = [s.fp32_precision for s in switches]
    for switch in switches[:2]:
        switch.fp32_precision = value
    try:
        yield
        assert [s.fp32_precision for s in switches] == [value, value, before[2]]
    finally:
        for switch, old in zip(switches, before, strict=True):
            switch.fp32_precision = old


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


SETTINGS = {
    "plain": nullcontext,
    "oneDNN off": onednn_off,
    "medium": lambda: matmul_precision("medium"),
    "high": lambda: matmul_precision("high"),
    "bf16 switches": lambda: precision_switches("bf16"),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "deterministic": deterministic,
    "half by default": lambda: default_dtype(torch.float16),
    "double by default": lambda: default_dtype(torch.float64),
    "another default device": lambda: torch.device("meta"),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_users_settings_change_nothing(case: tuple[Program, np.ndarray, Any], setting: str) -> None:
    program, x, expected = case
    fresh = Program(nodes=program.nodes, edges=program.edges, steps=1)  # made ready under this setting too
    with SETTINGS[setting]():
        got = run(fresh, x, backend="torch")
    assert (got.payloads["relay"] == expected.payloads["relay"]).all()
    assert (got.outputs == expected.outputs).all()
    assert abs(expected.outputs).max() > 1 << 16, "needs sums that low precision cannot hold"


def bytes_network() -> Program:
    """A padded convolution and a linear layer that bytes hold, with sums that half precision does not."""
    rng = np.random.default_rng(2)
    return Program(
        nodes=[
            Input("in", (16, 8, 8), 0, 63),
            Synapse("conv", "conv2d", rng.choice([127, -127, 1], size=(16, 16, 3, 3)), padding=1),
            Soma("levels", (16, 8, 8), theta=4001, levels=100),
            Synapse("fc", "linear", rng.choice([127, -127, 3], size=(8, 1024))),
            Soma("read", 8, fire="none"),
            Output("out"),
        ],
        edges=[("in", "conv"), ("conv", "levels"), ("levels", "fc"), ("fc", "read"), ("read", "out")],
        steps=2,
    )


@pytest.fixture(scope="module")
def bytes_case() -> tuple[Program, np.ndarray, Any]:
    program = bytes_network()
    x = np.random.default_rng(3).integers(0, 64, size=(5, 16, 8, 8))
    return program, x, run(program, x, backend="reference")


@pytest.mark.parametrize("products", ["as the processor likes", "winograd"])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("order", ["set first", "run first"])
@pytest.mark.parametrize("setting", ["plain", "half by default", "double by default", "another default device"])
def test_users_settings_change_no_way_of_the_engine(
    bytes_case: tuple[Program, np.ndarray, Any],
    setting: str,
    order: str,
    threads: int,
    products: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Captured and not, threads that share a pass, products of bytes (or none here) and Winograd's in their place."""
    program, x, expected = bytes_case
    if products == "winograd":
        monkeypatch.setattr(int8, "products_of_bytes", lambda: None)
        monkeypatch.setattr(winograd, "WORTH", 1)
        assert winograd.applies(program["conv"], 63)
    if threads == 2:
        monkeypatch.setattr(fused, "ALONE", 1)
    here = int8.products_of_bytes()
    if order == "set first" and products != "winograd":
        monkeypatch.setattr(int8, "products_of_bytes", lru_cache(int8.products_of_bytes.__wrapped__))
    with torch_threads(threads):
        for record in ("outputs", "all"):
            fresh = Program(nodes=program.nodes, edges=program.edges, steps=2)
            if order == "run first":
                assert (run(program, x, record=record).outputs == expected.outputs).all()
            with SETTINGS[setting]():
                got = [run(p, x, record=record) for p in ((program, fresh) if order == "run first" else (fresh,))]
            assert all((g.outputs == expected.outputs).all() for g in got)
            assert all(g.counts.totals == expected.counts.totals for g in got)
    assert (int8.products_of_bytes() is None) == (here is None), "bytes are lost for the whole process"
    assert abs(expected.outputs).max() > 1 << 12, "needs sums that half precision cannot hold"


MAKE = (
    "arange",
    "as_tensor",
    "asarray",
    "empty",
    "eye",
    "full",
    "linspace",
    "ones",
    "scalar_tensor",
    "tensor",
    "zeros",
)


@pytest.mark.parametrize("room", [snn2chip_backends.torch, snn2chip.nn.fused], ids=["engine", "neurons"])
def test_new_tensors_say_their_type_and_device(room: Any) -> None:
    """PyTorch's defaults belong to the user: `torch.zeros(n)` may be a float16 on `meta`, whose address is 0."""
    bare = []
    for path in sorted(Path(room.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in [f"torch.{name}" for name in MAKE]:
                said = {keyword.arg for keyword in node.keywords}
                bare += [f"{path.name}:{node.lineno}"] if not {"dtype", "device"} <= said else []
    assert bare == []


def _fail_inside() -> None:
    with exact_arithmetic(CPU):
        assert torch.get_float32_matmul_precision() == "highest" or hasattr(mkldnn, "conv")
        assert not torch._C._get_nnpack_enabled()
        assert torch.is_inference_mode_enabled()
        raise ZeroDivisionError


def test_flags_are_restored_even_after_an_error() -> None:
    torch.set_float32_matmul_precision("medium")
    threads = torch.get_num_threads()
    try:
        with pytest.raises(ZeroDivisionError):
            _fail_inside()
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    with nnpack.flags(enabled=False):
        with exact_arithmetic(CPU):
            pass
        assert not torch._C._get_nnpack_enabled()
    assert torch._C._get_nnpack_enabled()
    assert torch._C._get_mkldnn_enabled()
    assert not torch.is_inference_mode_enabled()
    assert torch.get_num_threads() == threads


def test_flags_stay_while_any_thread_needs_them() -> None:
    """Two runs that overlap: the first to end leaves the switches to the other, the last one puts them back."""
    first, second = exact_arithmetic(CPU), exact_arithmetic(CPU)
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        one.submit(first.__enter__).result()
        other.submit(second.__enter__).result()
        one.submit(first.__exit__, None, None, None).result()
        assert not torch._C._get_nnpack_enabled()
        other.submit(second.__exit__, None, None, None).result()
    assert torch._C._get_nnpack_enabled()


def test_fast_math_by_environment_turns_onednn_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONEDNN_DEFAULT_FPMATH_MODE", raising=False)
    monkeypatch.delenv("DNNL_DEFAULT_FPMATH_MODE", raising=False)
    assert onednn_strict()
    monkeypatch.setenv("ONEDNN_DEFAULT_FPMATH_MODE", "strict")
    assert onednn_strict()
    monkeypatch.setenv("DNNL_DEFAULT_FPMATH_MODE", "BF16")
    assert not onednn_strict()
    with exact_arithmetic(CPU):
        assert not torch._C._get_mkldnn_enabled()
    assert torch._C._get_mkldnn_enabled()


def test_fast_math_by_environment_in_a_process_of_its_own() -> None:
    """oneDNN reads its variable once per process: with bfloat16 products asked for, the sums are still exact."""
    code = (
        "import runpy, sys, numpy as np; from snn2chip.api import run\n"
        f"names = runpy.run_path({__file__!r})\n"
        "program = names['network']()\n"
        "x = np.random.default_rng(1).choice([600, -600, 599, 1, 0], size=(4, 16, 16, 16))\n"
        "a, b = (run(program, x, backend=name) for name in ('reference', 'torch'))\n"
        "sys.exit(0 if (a.outputs == b.outputs).all() and (a.payloads['relay'] == b.payloads['relay']).all() else 7)"
    )
    environment = {**os.environ, "ONEDNN_DEFAULT_FPMATH_MODE": "ANY"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()
