"""Integer training is exact: the payloads of the eval forward are the compiled program's, one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import snn2chip
from snn2chip.errors import InputError
from snn2chip.ir.program import Program
from snn2chip.nn import (
    Neuron,
    Repeat,
    Seq,
    TimeMean,
    make_neuron,
    quantize_neurons,
    quantize_weights,
)

MEAN, STD = 5.0, 6.0
NORMALISE = {"scale": 1.0, "mean": MEAN, "std": STD}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "if": ("if", {"theta": 0.625}),
    "lif": ("lif", {"leak": 0.9, "theta": 0.7}),
    "lif-zero": ("lif", {"leak": 0.8, "reset": "zero"}),
    "mht": ("mht", {"levels": 4, "leak": 0.83}),
    "lmht": ("lmht", {"levels": 3}),
    "lmht-half": ("lmht", {"levels": 4, "v_init": "half-theta"}),
}


def linear_net(kind: str, steps: int) -> Seq:
    name, extra = KINDS[kind]

    def neuron() -> Neuron:
        return make_neuron(name, steps=steps, **extra)

    layers = [nn.Flatten(), nn.Linear(36, 20), Repeat(steps), neuron(), nn.Linear(20, 16, bias=False)]
    return Seq(*layers, nn.BatchNorm1d(16), neuron(), nn.Linear(16, 12), neuron(), nn.Linear(12, 4), TimeMean())


def conv_net(kind: str, steps: int) -> Seq:
    name, extra = KINDS[kind]

    def neuron() -> Neuron:
        return make_neuron(name, steps=steps, **extra)

    front = [nn.Conv2d(1, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5), Repeat(steps), neuron()]
    middle = [nn.Conv2d(5, 6, 3, padding=1, stride=2), nn.BatchNorm2d(6), neuron(), nn.AvgPool2d(3)]
    back = [nn.Conv2d(6, 8, 1), nn.BatchNorm2d(8), neuron(), nn.Flatten(), nn.Linear(8, 4)]
    return Seq(*front, *middle, *back, TimeMean())


def train(model: nn.Module, x: Tensor, *, rounds: int = 4) -> None:
    y = torch.arange(len(x)) % 4
    with torch.no_grad():  # small layers need large weights to fire
        for layer in (m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)):
            layer.weight.mul_(3)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.02)
    model.train()
    for _ in range(rounds):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimiser.step()
    with torch.no_grad():  # layers that fire; negative and vanishing norm factors
        for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)):
            norm.bias += 0.6
            norm.weight[1] *= -1
            norm.weight[2] = 0.0
            norm.weight[3] *= 1e-7
    model.eval()


def payloads(model: nn.Module, x: Tensor) -> tuple[list[np.ndarray[Any, Any]], Tensor]:
    """What every neuron of the model itself sends, in units, and the model's output."""
    sent: list[np.ndarray[Any, Any]] = []

    def keep(module: Any, _: Any, out: Tensor) -> None:
        sent.append(torch.round(out / module.threshold()).to(torch.int64).numpy())

    hooks = [m.register_forward_hook(keep) for m in model.modules() if isinstance(m, Neuron)]
    with torch.no_grad():
        out = model(x)
    for hook in hooks:
        hook.remove()
    return sent, out


def mismatches(model: nn.Module, program: Program, raw: Any, x: Tensor) -> tuple[list[int], int]:
    """Payloads that differ per neuron, and how many there are; spikes must be there."""
    sent, _ = payloads(model, x)
    trace = snn2chip.run(program, raw, backend="reference", record="all")
    somas = [s for s in program.somas if s.fire == "levels"]
    assert len(somas) == len(sent)
    assert all(p.any() for p in sent)
    differ = [int((trace.payloads[s.name] != p).sum()) for s, p in zip(somas, sent, strict=True)]
    return differ, sum(p.size for p in sent)


@pytest.mark.parametrize("make", [linear_net, conv_net])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("bits", "steps"), [(2, 2), (3, 3), (4, 4), (5, 2), (6, 3), (7, 2), (8, 3)])
def test_eval_payloads_are_the_programs(make: Any, kind: str, bits: int, steps: int) -> None:
    torch.manual_seed(bits)
    raw = np.random.default_rng(bits).integers(0, 17, (24, 1, 6, 6))
    x = (torch.as_tensor(raw, dtype=torch.float32) - MEAN) / STD
    model = make(kind, steps)
    quantize_neurons(quantize_weights(model, bits=bits), input_unit=1 / STD)
    train(model, x)
    program = snn2chip.compile(model, x[:4], calibration=raw, normalise=NORMALISE)
    assert set(program.meta["trained"].values()) == {"exact"}
    differ, compared = mismatches(model, program, raw, x)
    assert differ == [0] * len(differ)
    assert compared > 2000


def test_samples_off_the_declared_grid_are_refused_and_float_weights_named() -> None:
    model = quantize_neurons(quantize_weights(linear_net("lif", 2), bits=4), input_unit=0.25).eval()
    model(torch.full((2, 1, 6, 6), 0.75))
    with pytest.raises(InputError, match=r"not whole multiples of input_unit = 0\.25"):
        model(torch.full((2, 1, 6, 6), 0.8))
    floats = quantize_neurons(linear_net("lif", 2)).eval()
    floats(torch.ones(2, 1, 6, 6))
    reasons = [m.exact for m in floats.modules() if isinstance(m, Neuron)]
    assert all("are floats; train them" in reason for reason in reasons)


def test_a_sum_and_a_real_input_are_named_as_not_exact() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 6)
            self.first, self.second = make_neuron("if", steps=1), make_neuron("if", steps=1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.first(self.one(x))
            out: Tensor = self.second(self.two(y) + y).mean(0)
            return out

    model = quantize_neurons(quantize_weights(Residual(), bits=4)).eval()
    model(torch.rand(1, 5, 6))
    assert "input is real" in model.first.exact
    assert "is a sum" in model.second.exact
