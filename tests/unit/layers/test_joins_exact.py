"""Joined channels and added spikes: each branch in one unit, exactly."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from snn2chip.nn import IF, MHT, BinaryConv2d
from snn2chip.testing.whole import assert_exact, folded, spikes, whole

T = 4


class Branches(nn.Module):
    """Two spiking branches, joined or added by `meet`, then a reader and spikes."""

    def __init__(self, meet: Callable[[Tensor, Tensor, Tensor], Tensor], reader: nn.Module, theta: float = 2.0) -> None:
        super().__init__()
        self.a, self.spike_a = nn.Conv2d(2, 4, 3, padding=1), IF(steps=T, theta=2.0)
        self.b, self.spike_b = nn.Conv2d(2, 4, 3, padding=1), MHT(steps=T, levels=2, theta=theta)
        self.meet, self.reader, self.fire = meet, reader, IF(steps=T, theta=4.0)
        self.head = nn.Linear(6 * 36, 3)

    def forward(self, x: Tensor) -> Tensor:
        joined = self.meet(x, self.spike_a(folded(self.a, x)), self.spike_b(folded(self.b, x)))
        y = self.fire(folded(self.reader, joined))
        return folded(self.head, y.flatten(2)).mean(0)


def conv(channels: int, **options: int) -> nn.Module:
    return nn.Conv2d(channels, 6, 3, padding=1, **options)  # type: ignore[arg-type]


JOINS: dict[str, Callable[[], nn.Module]] = {
    "two branches": lambda: Branches(lambda x, a, b: torch.cat([a, b], 2), conv(8)),
    "other thresholds": lambda: Branches(lambda x, a, b: torch.cat([b, a], 2), conv(8), theta=1.0),
    "input and spikes": lambda: Branches(lambda x, a, b: torch.cat([x, a, b], 2), conv(10)),
    "groups that fit": lambda: Branches(lambda x, a, b: torch.cat([a, b], 2), conv(8, groups=2)),
    "groups that do not": lambda: Branches(lambda x, a, b: torch.cat([x, b], 2), conv(6, groups=2)),
    "depthwise": lambda: Branches(lambda x, a, b: torch.cat([x, b], 2), conv(6, groups=6)),
    "pooled and read": lambda: Branches(
        lambda x, a, b: torch.cat([a, b], 2),
        nn.Sequential(nn.Upsample(scale_factor=2), nn.AvgPool2d(2), nn.Conv2d(8, 6, 1)),
    ),
    "nested": lambda: Branches(lambda x, a, b: torch.cat([torch.cat([x, a], 2), torch.cat([b, x], 2)], 2), conv(12)),
    "itself": lambda: Branches(lambda x, a, b: torch.cat([a, a], 2), conv(8)),
    "by the neuron": lambda: Branches(lambda x, a, b: torch.cat([x, b], 2), nn.Identity()),
    "added": lambda: Branches(lambda x, a, b: a + b, conv(4)),
    "added, other thresholds": lambda: Branches(lambda x, a, b: b + a + b, conv(4), theta=1.0),
}


@pytest.mark.parametrize("name", JOINS)
def test_joined(name: str) -> None:
    program = assert_exact(whole(JOINS[name]()), spikes(T, 5, 2, 6, 6))
    relays = [s.name for s in program.somas if s.fire == "relay"]
    assert bool(relays) == (name.startswith("added") or name == "pooled and read"), relays


@pytest.mark.parametrize("theta", [2.0, 1.0])
def test_binary_weights_stay_binary(theta: float) -> None:
    """One weight matrix read by two branches: its parts keep their signs, and meet in one soma without a relay."""
    net = whole(Branches(lambda x, a, b: torch.cat([a, b], 2), BinaryConv2d(8, 6, 3, padding=1), theta=theta))
    net.reader.weight.data = torch.where(net.reader.weight > 0, 1.0, -1.0)  # type: ignore[union-attr, operator]
    program = assert_exact(net, spikes(T, 5, 2, 6, 6))
    readers = [s for s in program.synapses if s.layer == "reader" and s.kind == "conv2d"]
    assert [s.bits for s in readers] == [1, 1]
    assert not [s.name for s in program.somas if s.fire == "relay"]
    assert {s.exponent for s in readers} == ({3} if theta == 2.0 else {2, 3})


class Currents(nn.Module):
    """Currents joined in front of one neuron, behind a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.norm = nn.Conv2d(2, 3, 3), nn.Conv2d(2, 2, 3), nn.BatchNorm2d(5)
        self.fire, self.head = IF(steps=T, theta=2.0), nn.Linear(5 * 16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x0 = x.flatten(0, 1)
        y = self.norm(torch.cat([self.a(x0), self.b(x0)], 1)).unflatten(0, x.shape[:2])
        return folded(self.head, self.fire(y).flatten(2)).mean(0)


def test_currents_joined_in_front_of_a_neuron() -> None:
    net = whole(Currents())
    norm = net.norm
    assert isinstance(norm, nn.BatchNorm2d)
    norm.eps, norm.running_var = 0.0, torch.tensor([1.0, 4.0, 1.0, 0.25, 4.0])
    norm.weight.data = torch.tensor([1.0, 2.0, -1.0, 1.0, 4.0])
    program = assert_exact(net, spikes(T, 5, 2, 6, 6))
    assert sorted(s.shape[0] for s in program.somas if s.layer == "fire") == [2, 3]
