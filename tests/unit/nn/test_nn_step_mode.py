"""Neurons inside a user's own time loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from snn2chip.errors import InputError, UnsupportedError
from snn2chip.nn import IF, NEURONS, make_neuron

CASES = [(name, variant) for name, kind in NEURONS.items() if not kind.windowed for variant in kind.variants]
WINDOWED = [name for name, kind in NEURONS.items() if kind.windowed]


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_a_time_loop_equals_the_multi_step_call(name: str, variant: dict[str, Any]) -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 3, 7).requires_grad_()
    at_once = make_neuron(name, steps=5, **variant)(x)
    looped = make_neuron(name, steps=5, step_mode="s", **variant)
    for _ in range(2):  # a second sample after reset() is the same again
        looped.reset()
        assert looped.v is None
        each = torch.stack([looped(x[t]) for t in range(5)])
        assert torch.equal(at_once, each)
        weight = torch.arange(1.0, 6.0).view(5, 1, 1)
        (expected,) = torch.autograd.grad((at_once * weight).sum(), x, retain_graph=True)
        (got,) = torch.autograd.grad((each * weight).sum(), x)
        assert torch.allclose(got, expected)


@pytest.mark.parametrize("name", WINDOWED)
def test_windowed_neurons_refuse_single_steps(name: str) -> None:
    neuron = make_neuron(name, steps=3, step_mode="s")
    with pytest.raises(UnsupportedError, match="step_mode='m'"):
        neuron(torch.zeros(2, 4))


def test_forgotten_reset_and_other_batches_are_errors() -> None:
    neuron = IF(steps=2, step_mode="s")
    neuron(torch.zeros(2, 4))
    with pytest.raises(InputError, match=r"\[2, 4\], got \[3, 4\]"):
        neuron(torch.zeros(3, 4))
    neuron(torch.zeros(2, 4))
    with pytest.raises(InputError, match="step 3 of a sample of 2 steps"):
        neuron(torch.zeros(2, 4))
    neuron.reset()
    assert neuron(torch.ones(3, 4)).shape == (3, 4)


def test_kept_potential_by_hand() -> None:
    neuron = IF(steps=3, theta=1.0, step_mode="s")
    assert neuron(torch.tensor([[0.75, 1.5]])).tolist() == [[0.0, 1.0]]
    assert neuron.v is not None
    assert neuron.v.tolist() == [[0.75, 0.5]]
    assert neuron(torch.tensor([[0.5, 0.25]])).tolist() == [[1.0, 0.0]]
    assert neuron.v.tolist() == [[0.25, 0.75]]
