"""Device names, and clear errors where a device or its memory is not there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from snn2chip_backends.torch import TorchBackend, backend

from snn2chip.api import run
from snn2chip.errors import BackendUnavailable, InputError
from snn2chip.ir.nodes import Input, Output, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.registry import Backend, get_backend

SMALL = Program(
    nodes=[
        Input("pixels", 2, 0, 3, layer="net.stem"),
        Synapse("s", "identity"),
        Soma("n", 2, fire="none"),
        Output("o"),
    ],
    edges=[("pixels", "s"), ("s", "n"), ("n", "o")],
    steps=2,
)


@pytest.mark.parametrize("name", ["tpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "", "CPU", "mps", "meta"])
def test_other_devices_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="'cpu', 'cuda' or 'cuda:N'"):
        get_backend("torch", device=name)


def test_good_names() -> None:
    assert TorchBackend().device == torch.device("cpu")
    assert TorchBackend(device="cuda:3").device == torch.device("cuda:3")
    assert TorchBackend(device=torch.device("cpu")).missing() is None
    assert isinstance(TorchBackend(), Backend)
    assert TorchBackend().limits(SMALL) == []


def test_no_cuda_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "built without CUDA" in str(TorchBackend(device="cuda").missing())
    monkeypatch.setattr(torch.version, "cuda", "12.1")
    assert "finds no usable GPU" in str(TorchBackend(device="cuda").missing())
    with pytest.raises(BackendUnavailable, match="device='cpu'"):
        run(SMALL, np.ones((1, 2)), device="cuda")


def test_device_number_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert TorchBackend(device="cuda:1").missing() is None
    assert "cuda:0 to cuda:1" in str(TorchBackend(device="cuda:2").missing())


def test_other_errors_of_pytorch_pass_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(backend, "evaluate", broken)
    with pytest.raises(RuntimeError, match="something else"):
        run(SMALL, np.ones((3, 2)))


def test_payloads_beyond_the_declared_range_are_refused() -> None:
    """The proofs of exactness rest on the declared ranges, so a caller who skips the coding is told."""
    coded = {"pixels": np.array([[[0, 4]], [[-1, 0]]])}
    with pytest.raises(InputError, match=r"pixels \(net.stem\): payloads -1..4 are outside .* \[0, 3\]"):
        TorchBackend().run(SMALL, coded)
