"""Where there are no kernels, and the reason that is told."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from snn2chip_backends.torch.triton_here import product_kernels, soma_kernels

from snn2chip.triton_here import why_no_triton

CUDA = torch.device("cuda")


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A GPU and a Triton that are good enough, as far as anybody asks."""
    triton: Any = ModuleType("triton")
    triton.__version__ = "3.6.0"
    monkeypatch.setitem(sys.modules, "triton", triton)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.delenv("SNN2CHIP_TRITON", raising=False)
    why_no_triton.cache_clear()
    yield
    why_no_triton.cache_clear()


def test_a_gpu_with_triton_has_kernels() -> None:
    assert why_no_triton(CUDA) == ""


def test_the_cpu_has_none() -> None:
    assert why_no_triton(torch.device("cpu")) == "no kernels for cpu"
    assert soma_kernels(torch.device("cpu")) is None
    assert product_kernels(torch.device("cpu")) is None


def test_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    assert why_no_triton(CUDA) == "triton is not installed"
    assert soma_kernels(CUDA) is None


@pytest.mark.parametrize(("version", "fine"), [("2.3.1", False), ("3.0.0", True), ("3.10.0+git1", True)])
def test_old_tritons(version: str, fine: bool) -> None:
    sys.modules["triton"].__version__ = version  # type: ignore[attr-defined]
    assert (why_no_triton(CUDA) == "") == fine


def test_old_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (6, 1))
    assert why_no_triton(CUDA) == "compute capability 6.1 is below 7.0"


def test_the_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNN2CHIP_TRITON", "0")
    assert "SNN2CHIP_TRITON=0" in why_no_triton(CUDA)
