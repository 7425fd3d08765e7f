"""Mixed precision and torch.compile: potentials stay in float32, and the time loop is one graph."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from snn2chip.nn import IF, LMHT, MHT, NEURONS, BinaryLinear, Repeat, Seq, TimeMean, make_neuron

HALVES = [torch.bfloat16, torch.float16]


def net(name: str, **args: Any) -> Seq:
    torch.manual_seed(0)
    return Seq(
        nn.Linear(6, 8),
        nn.BatchNorm1d(8),
        Repeat(3),
        make_neuron(name, steps=3, channels=8, **args),
        BinaryLinear(8, 8),
        make_neuron(name, steps=3, channels=8, **args),
        nn.Linear(8, 4),
        TimeMean(),
    )


@pytest.mark.parametrize("dtype", HALVES)
def test_small_currents_are_not_lost(dtype: torch.dtype) -> None:
    """64 + 1/4 is not a bfloat16, nor 2048 + 1/2 a float16: four steps of it must still reach the next whole one."""
    big, small = (64.0, 0.25) if dtype is torch.bfloat16 else (2048.0, 0.5)
    x = torch.tensor([[big]] + [[small]] * 4, dtype=dtype)
    neuron = IF(steps=5, theta=big + 4 * small)
    got = neuron(x)
    assert got.dtype == dtype
    assert (got != 0).flatten().tolist() == [False] * 4 + [True]
    single = IF(steps=5, theta=big + 4 * small, step_mode="s")
    outs = [single(step) for step in x]
    assert [o.dtype for o in outs] == [dtype] * 5
    assert [bool(o != 0) for o in outs] == [False] * 4 + [True]
    assert single.v is not None
    assert single.v.dtype == torch.float32


@pytest.mark.parametrize("name", sorted(NEURONS))
def test_half_currents_give_the_float_spikes_of_the_same_currents(name: str) -> None:
    neuron = make_neuron(name, steps=3, channels=5).eval()
    x = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    with torch.no_grad():
        got, wide = neuron(x), neuron(x.float())
    assert got.dtype == torch.bfloat16
    if not neuron.windowed:  # a window is a matrix product, in the precision of its input
        assert torch.equal(got, wide.to(torch.bfloat16))


@pytest.mark.parametrize("name", sorted(NEURONS))
def test_autocast_trains(name: str) -> None:
    model, x = net(name), torch.rand(5, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(x).float().square().sum()
    loss.backward()  # type: ignore[no-untyped-call]
    for key, p in model.named_parameters():
        assert p.dtype == torch.float32, key
        assert p.grad is not None, key
        assert p.grad.isfinite().all(), key


@pytest.mark.parametrize("name", sorted(NEURONS))
def test_the_time_loop_is_one_graph(name: str) -> None:
    """`fullgraph=True` raises at a graph break; forward and gradients are the eager ones."""
    torch._dynamo.reset()
    eager, model = net(name), net(name)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    x = torch.rand(5, 6)
    expected, got = eager(x), compiled(x)
    torch.testing.assert_close(got, expected)
    expected.square().sum().backward()
    got.square().sum().backward()
    for (key, a), b in zip(eager.named_parameters(), model.parameters(), strict=True):
        assert a.grad is not None, key
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-4, atol=1e-5)


def test_choices_compile_too() -> None:
    for neuron in (LMHT(steps=2, frames=3, leak_range="unit"), MHT(steps=3, surrogate_on="spike", detach="nothing")):
        torch._dynamo.reset()
        x = torch.rand(3, 4, 5)
        assert torch.equal(torch.compile(neuron, backend="eager", fullgraph=True)(x), neuron(x))
