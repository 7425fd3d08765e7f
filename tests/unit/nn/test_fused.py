"""Compiled neurons against the torch code: the same bits forward, gradients up to the order of sums over neurons."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import snn2chip.nn.fused as fused_room
from snn2chip.nn import LIF, LMHT, MHT, Neuron, make_neuron
from snn2chip.nn.fused import plain_neurons, why_plain
from snn2chip.threads import torch_threads

sys.path.insert(0, str(Path(__file__).parent))
from fused_cases import CASES, FUSED, LAYOUTS, away_from_start, both, currents

pytest.importorskip("numba", reason="the compiled neurons need numba")


def agree(neuron: Neuron, x: Tensor, g: Tensor) -> dict[str, Tensor]:
    """Assert that both ways agree and return what the kernels gave."""
    assert why_plain(neuron, x) == ""
    plain, fused = both(neuron, x, g)
    assert set(plain) == set(fused)
    assert torch.equal(fused["out"], plain["out"])
    assert fused["out"].dtype == x.dtype
    assert torch.equal(fused["x"], plain["x"])
    for key in set(plain) - {"out", "x"}:
        torch.testing.assert_close(fused[key], plain[key], rtol=2e-5, atol=2e-4, msg=key)
    return fused


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize(("name", "variant"), CASES)
def test_the_same_bits_and_gradients(name: str, variant: dict[str, Any], steps: int, dtype: torch.dtype) -> None:
    neuron = away_from_start(name, variant, steps=steps)
    for layout in LAYOUTS:
        x = currents(neuron.input_steps, layout, dtype)
        g = torch.randn(steps, *x.shape[1:], generator=torch.Generator().manual_seed(1)).to(dtype)
        found = agree(neuron, x, g)
        assert (found["out"] != 0).any()
        assert (found["x"] != 0).any()


@pytest.mark.parametrize("name", FUSED)
def test_what_is_not_finite_stays_so(name: str) -> None:
    x = torch.tensor([[float("nan"), float("inf"), -float("inf"), 1e38, -1e38]]).repeat(3, 1).requires_grad_()
    neuron = make_neuron(name, steps=3)
    with torch.no_grad():
        with plain_neurons():
            expected = neuron(x)
        assert torch.equal(neuron(x).nan_to_num(nan=-7.0), expected.nan_to_num(nan=-7.0))


@pytest.mark.parametrize("name", FUSED)
def test_pieces_and_threads_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from snn2chip.nn.fused import work

    neuron = away_from_start(name, {}, steps=3)
    x, g = torch.randn(3, 2, 4000), torch.randn(3, 2, 4000)
    whole = agree(neuron, x, g)
    monkeypatch.setattr(work, "CHUNK", 1500)  # not a whole number of blocks
    pieces = agree(neuron, x, g)
    with torch_threads(3):
        threads = agree(neuron, x, g)
    assert torch.equal(whole["out"], pieces["out"])
    assert all(torch.equal(pieces[key], threads[key]) for key in pieces)


ONLINE = [case for case in CASES if case[0] != "lmht" and case[1].get("detach", "state") == "state"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("name", "variant"), ONLINE)
def test_single_steps_are_the_same_too(name: str, variant: dict[str, Any], dtype: torch.dtype) -> None:
    """Payloads, potentials and gradients of every step of an online pass, also when the way changes half-way."""
    neuron = away_from_start(name, {**variant, "step_mode": "s"}, steps=4)
    x = currents(4, "channels_last", dtype)
    g = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    found = []
    for plain in ([True] * 4, [False] * 4, [False, True, False, True]):
        neuron.reset()
        neuron.zero_grad()
        seen: list[Tensor] = []
        for t in range(4):
            leaf = x[t].detach().requires_grad_()
            with plain_neurons(plain[t]):
                out = neuron(leaf)
                out.backward(g[t])
            neuron.cut()
            assert leaf.grad is not None
            assert neuron.v is not None
            seen += [out.detach(), neuron.v.detach(), leaf.grad]
        found.append((seen, [p.grad for p in neuron.parameters() if p.grad is not None]))
    (first, sums), *others = found
    for seen, gradients in others:
        assert all(torch.equal(a, b) for a, b in zip(first, seen, strict=True))
        for a, b in zip(sums, gradients, strict=True):
            torch.testing.assert_close(b, a, rtol=2e-5, atol=2e-4)


@pytest.mark.parametrize("name", ["mht", "empf", "empf-parallel"])
def test_single_steps_take_the_kernels(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    neuron = make_neuron(name, steps=2, step_mode="s")
    monkeypatch.setattr(neuron, "_advance", None)
    assert neuron(torch.ones(3)).shape == (3,)
    assert neuron(torch.ones(3)).shape == (3,)
    neuron.reset()
    with plain_neurons(), pytest.raises(TypeError):
        neuron(torch.ones(3))


@pytest.mark.parametrize("name", FUSED)
def test_memory_order_is_kept(name: str) -> None:
    neuron = make_neuron(name, steps=4)
    x = currents(4, "channels_last", torch.float32).requires_grad_()
    out = neuron(x)
    assert out.stride() == x.stride()
    assert out.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    out.sum().backward()
    assert x.grad is not None
    assert x.grad.stride() == x.stride()


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_gradients_of_gradients_take_the_torch_code(name: str, variant: dict[str, Any]) -> None:
    neuron = away_from_start(name, variant, steps=2)
    weight = torch.randn(2, 40)
    found = []
    for plain in (True, False):
        x = 1.5 * torch.randn(neuron.input_steps, 40, generator=torch.Generator().manual_seed(0))
        x.requires_grad_()
        inputs = [x, *(p for p in neuron.parameters() if p.requires_grad)]
        with plain_neurons(plain):
            loss = (neuron(x) * weight).square().sum()
            first = torch.autograd.grad(loss, inputs, create_graph=True)
            second = torch.autograd.grad(sum(g.square().sum() for g in first), inputs)
        found.append([*first, *second])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-4)


def test_only_what_is_asked_for_gets_a_gradient() -> None:
    neuron = LMHT(steps=2, levels=2, learn_leak=False)
    x = torch.randn(2, 30)
    neuron(x).sum().backward()
    assert neuron.leak_raw.grad is None
    assert neuron.window_raw.grad is not None
    with torch.no_grad():
        assert not neuron(x).requires_grad
    frozen = MHT(steps=2)
    assert not frozen(x).requires_grad


def test_the_kernels_are_really_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FUSED:
        neuron = make_neuron(name, steps=2)
        monkeypatch.setattr(neuron, "_advance", None)  # the torch code cannot run
        monkeypatch.setattr(neuron, "send", None, raising=False)
        assert why_plain(neuron, torch.ones(2, 3)) == ""
        assert neuron(torch.ones(2, 3)).shape == (2, 3)
        with plain_neurons(), pytest.raises(TypeError):
            neuron(torch.ones(2, 3))


class Doubled(MHT):
    """A user's neuron with an equation of its own."""

    def integrate(self, current: Tensor, v: Tensor) -> Tensor:
        """Return m = leak*v + 2*I."""
        return super().integrate(2 * current, v)


def test_equations_that_were_replaced_are_obeyed() -> None:
    x = torch.tensor([[0.6], [0.6]])
    assert MHT(steps=2, levels=1, theta=1.0)(x).flatten().tolist() == [0.0, 1.0]
    assert Doubled(steps=2, levels=1, theta=1.0)(x).flatten().tolist() == [1.0, 1.0]
    neuron = MHT(steps=2, levels=1, theta=1.0)
    neuron.integrate = lambda current, v: v + 2 * current  # type: ignore[method-assign]
    assert neuron(x).flatten().tolist() == [1.0, 1.0]
    window = LMHT(steps=2, levels=1, theta=1.0)
    window.window = lambda: torch.tensor([[0.0, 0.0], [2.0, 0.0]])  # type: ignore[method-assign]
    assert window(x).flatten().tolist() == [0.0, 1.0]


def test_what_the_kernels_do_not_do_takes_the_torch_code() -> None:
    neuron, x = LIF(steps=2), torch.ones(2, 4)
    assert "float64" in why_plain(neuron, x.double())
    assert "meta" in why_plain(neuron, x.to("meta"))
    assert why_plain(LIF(steps=2).double(), x)
    assert why_plain(neuron, torch.ones(2, 0))
    assert neuron(torch.ones(2, 0)).shape == (2, 0)
    seen: list[str] = []

    def watch(z: Tensor) -> Tensor:
        seen.append(why_plain(neuron, z))
        return z.sum()

    torch.func.grad(watch)(x)
    torch.func.vmap(watch)(x)
    torch.func.jvp(watch, (x,), (x,))
    torch.jit.trace(watch, (x,), check_trace=False)
    assert len(seen) >= 4
    assert all(seen)
    with plain_neurons():
        assert why_plain(neuron, x) == "switched off"
    traced = torch.jit.trace(neuron, (x,))
    assert torch.equal(traced(2 * x), neuron(2 * x))


def test_without_numba_everything_still_trains() -> None:
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "import importlib.util; importlib.util.find_spec = lambda name, *a: None\n"
        "import torch; from snn2chip.nn import LMHT; from snn2chip.nn.fused import why_plain\n"
        "n = LMHT(steps=2); x = torch.ones(2, 3, requires_grad=True); n(x).sum().backward()\n"
        "assert why_plain(n, x) == 'numba is not installed', why_plain(n, x)\n"
        "assert n.window_raw.grad is not None and 'llvmlite' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_numba_is_loaded_by_the_first_neuron_that_runs() -> None:
    code = "import sys, snn2chip.nn; from snn2chip.nn import LIF; LIF(steps=2); assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    assert fused_room.installed()
