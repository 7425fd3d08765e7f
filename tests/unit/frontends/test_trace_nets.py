"""Differently written nets: their graphs must equal them bit for bit (see `snn2chip.testing.nets` for why they can)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snn2chip.errors import InputError, TraceError
from snn2chip.frontends.torch import trace
from snn2chip.frontends.torch_checks import reset_neurons
from snn2chip.nn import IF, TimeFold, make_neuron, quantize_neurons
from snn2chip.testing.nets import NETS, MultiStep, OneStep, SharedWeights, dyadic, sample


@pytest.mark.parametrize("name", NETS)
def test_graph_equals_model(name: str) -> None:
    make, shape, neurons, steps = NETS[name]
    model = dyadic(make(), seed=3)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    graph = trace(model, sample(*shape, seed=2))
    assert len(graph.of_kind("neuron")) == neurons
    assert graph.steps == steps
    x = sample(*shape, seed=7)
    with torch.no_grad():
        expected = model(x)
    run = graph.run(x.transpose(0, 1) if name == "batch first" else x, collect=True)
    assert torch.equal(run.output, expected)
    for layer in graph.of_kind("neuron"):
        assert bool((run.values[layer.name] != 0).any()), f"{layer.label} is silent: the comparison shows nothing"
    rates = {note.layer: note.value for note in graph.notes}
    assert all((rates[layer.name] or 0) > 0 for layer in graph.of_kind("neuron"))
    reset_neurons(model)
    after = model.state_dict()
    assert after.keys() == state.keys()
    assert all(torch.equal(after[key], value) for key, value in state.items())
    assert all("forward" not in module.__dict__ for module in model.modules())


def test_one_step_model_is_unrolled() -> None:
    model = dyadic(OneStep(), seed=3)
    graph = trace(model, sample(3, 6), steps=4)
    x = sample(4, 3, 6, seed=9)
    with torch.no_grad():
        expected = torch.stack([model(step) for step in x])
    run = graph.run(x, collect=True)
    assert torch.equal(run.output, expected)
    assert 0 < float((run.values["neuron1"] != 0).double().mean()) < 1


def test_paths_lines_and_edges() -> None:
    graph = trace(dyadic(SharedWeights(), seed=3), sample(2, 3, 8))
    first, second = (layer for layer in graph.of_kind("linear") if layer.path == "fc")
    lines = SharedWeights.forward.__code__.co_firstlineno
    assert first.source.endswith(f"nets.py:{lines + 1}")
    assert second.source.endswith(f"nets.py:{lines + 2}")
    assert graph.inputs[first.name] == ("input",)
    assert graph.inputs[second.name] == ("neuron1",)
    assert graph.inputs["add1"] == ("neuron1", "neuron2")
    assert [layer.path for layer in graph.of_kind("neuron")] == ["act1", "act2", "act3"]


def test_training_mode_comes_back() -> None:
    model = dyadic(MultiStep(), seed=3).train()
    model.norm1.eval()
    trace(model, sample(2, 3, 1, 8, 8))
    assert model.training
    assert not model.norm1.training
    assert model.norm2.training


def test_integer_trained_model_is_within_its_rounding() -> None:
    model = dyadic(MultiStep(), seed=3)
    quantize_neurons(model, theta_bits=6, window_bits=6)
    graph = trace(model, torch.rand(2, 3, 1, 8, 8))
    assert len(graph.of_kind("neuron")) == 2


class HardReset(IF):
    """Fires like IF but resets to zero, and hides that from the compiler."""

    def settle(self, m: Tensor, o: Tensor) -> Tensor:
        return torch.where(o > 0, torch.zeros_like(m), m)


def test_neuron_that_lies_about_its_soma_is_found() -> None:
    model = dyadic(nn.Sequential(nn.Linear(6, 16), HardReset(steps=4), nn.Linear(16, 2)), seed=3)
    with pytest.raises(TraceError, match=r"neuron1 \(1\): \d+ neurons fire otherwise"):
        trace(model, sample(4, 3, 6))


class Moody(nn.Module):
    """Changes its mind with every call."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.act, self.calls = nn.Linear(6, 8), IF(steps=2), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.act(self.fc(x) * self.calls)


def test_state_outside_of_neurons_is_found() -> None:
    with pytest.raises(TraceError, match="another result than the model"):
        trace(dyadic(Moody(), seed=3), sample(2, 3, 6))


def test_dead_network_cannot_pass() -> None:
    model = nn.Sequential(nn.Linear(6, 8), IF(steps=2, theta=1e9), nn.Linear(8, 2))
    with pytest.raises(TraceError, match="no neuron spikes"):
        trace(model, sample(2, 3, 6))


def test_wrong_number_of_steps() -> None:
    with pytest.raises(TraceError, match="runs 2 steps, expected 3"):
        trace(dyadic(MultiStep(), seed=3), sample(2, 3, 1, 8, 8), steps=3)


def test_sample_must_be_float() -> None:
    with pytest.raises(InputError, match="uint8"):
        trace(OneStep(), torch.zeros(2, 6, dtype=torch.uint8))


@pytest.mark.parametrize("args", [{}, {"payload_bits": 4}, {"payload_bits": 3, "payload_rounding": "half-even"}])
def test_excess_neurons(args: dict[str, Any]) -> None:
    """EM-PF neurons: real payloads within float tolerance, coded ones equal but at ties."""
    torch.manual_seed(0)
    model = nn.Sequential(TimeFold(nn.Conv2d(1, 8, 3)), make_neuron("empf", steps=4, **args), TimeFold(nn.Flatten()))
    graph = trace(model, torch.rand(4, 5, 1, 6, 6))
    assert graph.layer("neuron1").soma.fire == "excess"  # type: ignore[attr-defined]
    x = torch.rand(4, 5, 1, 6, 6)
    with torch.no_grad():
        expected = model(x)
    got = graph.run(x).output
    assert 0.05 < float((expected != 0).double().mean()) < 0.95
    assert float((got - expected).abs().gt(1e-5).double().mean()) < 1e-3
