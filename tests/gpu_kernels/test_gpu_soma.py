"""The kernel of somas gives the reference's integers on every conformance program, run on the CPU by `plain_triton`."""

from __future__ import annotations

import sys
from pathlib import Path
from weakref import WeakKeyDictionary

import pytest
from snn2chip_backends.torch import TorchBackend, gpu_soma, plan, somas

from snn2chip.testing.conformance import run_conformance

sys.path.insert(0, str(Path(__file__).parent))
from plain_triton import load_kernels


@pytest.fixture(scope="module")
def kernels() -> object:
    """The kernels, run on CPU tensors."""
    return load_kernels("snn2chip_backends.torch.triton_soma")


@pytest.fixture
def on_gpu(kernels: object, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Somas take the kernel of a GPU although they lie in the CPU's memory; plans made anew."""
    monkeypatch.setattr(plan, "_PLANS", WeakKeyDictionary())
    monkeypatch.setattr(somas, "soma_kernels", lambda device: kernels)
    monkeypatch.setattr(somas, "compiled_pass", lambda: None)
    return monkeypatch


def test_covering_programs(on_gpu: pytest.MonkeyPatch) -> None:
    launched: list[int] = []
    real = gpu_soma.GpuSoma.run
    on_gpu.setattr(gpu_soma.GpuSoma, "run", lambda self, *a: (launched.append(1), real(self, *a))[1])
    report = run_conformance(TorchBackend())
    report.raise_if_failed()
    assert len(report.results) >= 90
    assert len(launched) > 100
