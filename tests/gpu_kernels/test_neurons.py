"""Neurons' kernels of a GPU, run on the CPU by `plain_triton`: the torch code's bits forward, gradients up to sums."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import snn2chip.nn.fused as fused_room
from snn2chip.nn import LIF, ParallelNeuron, make_neuron
from snn2chip.nn.fused import gpu, gpu_levels, gpu_others, gpu_parallel, plain_neurons, why_plain

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "nn"))
from fused_cases import CASES, FUSED, away_from_start, both, currents
from plain_triton import has_triton, load_kernels


@pytest.fixture(scope="module")
def kernels() -> object:
    """The kernels, run on CPU tensors."""
    return load_kernels("snn2chip.nn.fused.triton_kernels")


@pytest.fixture(autouse=True)
def launches(kernels: object, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let tensors on the CPU take the kernels of a GPU; whose they were."""
    seen: list[str] = []

    def here(module: Any) -> Any:
        def kernels_of(device: torch.device) -> object:
            seen.append(module.__name__)
            return kernels

        return kernels_of

    monkeypatch.setattr(fused_room, "installed", lambda: True)
    for module in (gpu, gpu_levels, gpu_others):
        monkeypatch.setattr(module, "kernels", here(module))
    return seen


def agree(name: str, variant: dict[str, Any], layout: str, dtype: torch.dtype, launches: list[str]) -> None:
    """Assert that the torch code and the kernels agree on one neuron."""
    neuron = away_from_start(name, variant, steps=4)
    x = currents(neuron.input_steps, layout, dtype)
    g = torch.randn(4, *x.shape[1:], generator=torch.Generator().manual_seed(1)).to(dtype)
    assert why_plain(neuron, x) == ""
    before = len(launches)
    plain, fused = both(neuron, x, g)
    assert len(launches) > before
    assert torch.equal(fused["out"], plain["out"])
    assert torch.equal(fused["x"], plain["x"])
    assert fused["out"].stride()[1:] == plain["out"].stride()[1:] or layout != "rows"
    for key in set(plain) - {"out", "x"}:
        torch.testing.assert_close(fused[key], plain[key], rtol=2e-5, atol=2e-4, msg=key)


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_the_same_bits_and_gradients(name: str, variant: dict[str, Any], launches: list[str]) -> None:
    agree(name, variant, "channels_last", torch.float32, launches)


@pytest.mark.parametrize("name", FUSED)
def test_other_types_and_orders_of_memory(name: str, launches: list[str]) -> None:
    agree(name, {}, "strided", torch.float32 if has_triton() else torch.bfloat16, launches)  # it cannot round to half
    agree(name, {}, "turned", torch.float32, launches)


@pytest.mark.parametrize("name", FUSED)
def test_what_is_not_finite_stays_so(name: str) -> None:
    x = torch.tensor([[float("nan"), float("inf"), -float("inf"), 1e38, -1e38]]).repeat(3, 1)
    neuron = make_neuron(name, steps=3)
    with torch.no_grad():
        with plain_neurons():
            expected = neuron(x)
        assert torch.equal(neuron(x).nan_to_num(nan=-7.0), expected.nan_to_num(nan=-7.0))


@pytest.mark.parametrize("name", FUSED)
def test_several_programs(name: str, launches: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Neurons of more than one program, the last one not full."""
    for module in (gpu, gpu_levels, gpu_others):
        monkeypatch.setattr(module, "BLOCK", 128)
    agree(name, {}, "rows", torch.float32, launches)


@pytest.mark.parametrize("name", [name for name in FUSED if name not in ("lmht", "lif", "if")])
def test_single_steps(name: str) -> None:
    neuron = away_from_start(name, {"step_mode": "s"}, steps=3)
    x = currents(3, "rows", torch.float32)
    found: list[list[Tensor]] = []
    for plain in (True, False):
        neuron.reset()
        seen: list[Tensor] = []
        for t in range(3):
            leaf = x[t].detach().requires_grad_()
            with plain_neurons(plain):
                out = neuron(leaf)
                out.sum().backward()
            neuron.cut()
            assert leaf.grad is not None
            assert neuron.v is not None
            seen += [out.detach(), neuron.v.detach(), leaf.grad]
        found.append(seen)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_nothing_is_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training step on tensors without values: reading a number (waiting for a GPU) would raise."""

    class Launched:
        def __getitem__(self, grid: tuple[int, ...]) -> Any:
            return lambda *args, **options: None

    class Silent:
        NOTHING, RESET, STATE = range(3)
        level_forward = level_backward = clip_forward = clip_backward = Launched()
        excess_forward = excess_backward = Launched()

    for module in (gpu, gpu_levels, gpu_others):
        monkeypatch.setattr(module, "kernels", lambda device: Silent)
    for name, variant in CASES:
        neuron = make_neuron(name, steps=4, **variant).to("meta")
        x = torch.empty(neuron.input_steps, 2, 8, device="meta", requires_grad=True)
        rule = neuron.fused_rule()
        assert rule is not None
        rule(x).backward(torch.empty(4, 2, 8, device="meta"))
        assert x.grad is not None
        assert all(p.grad is not None for p in neuron.parameters() if p.requires_grad)


def test_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Cuda:
        device, dtype = torch.device("cuda"), torch.float32

    monkeypatch.setattr(fused_room, "why_no_triton", lambda device: "triton is not installed")
    assert why_plain(LIF(steps=2), Cuda()) == "triton is not installed"  # type: ignore[arg-type]


@pytest.mark.parametrize("order", ["first", "last"])
@pytest.mark.parametrize(
    "constants", [{"theta": 0.75}, {"theta": [0.5, 1.0, 0.3], "psi": 0.25, "phi": [0.1, 0.0, 0.2]}]
)
def test_the_parallel_neuron(order: Any, constants: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the torch code on currents whose sums are exact in any order, ties among them."""
    module = load_kernels("snn2chip.nn.fused.triton_parallel")
    monkeypatch.setattr(gpu_parallel, "kernels", lambda device: module)
    neuron = ParallelNeuron(steps=5, order=order, **constants)
    x = torch.randint(-8, 17, (5, 2, 3, 7, 4)) / 8
    sent = gpu_parallel.parallel_spikes(x, neuron.theta, neuron.psi, neuron.phi, last=order == "last")
    assert sent is not None
    assert torch.equal(sent, neuron(x))
    assert (sent != 0).any()
    for other in (x.double(), x.bfloat16(), x.transpose(3, 4), x[:, :0]):
        assert gpu_parallel.parallel_spikes(other, neuron.theta, neuron.psi, neuron.phi, last=False) is None
