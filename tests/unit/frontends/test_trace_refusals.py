"""What cannot be expressed is refused, all at once, with the user's layer path and source line.

The line of each construct is found by its marker comment in this very file.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snn2chip.errors import TraceError
from snn2chip.frontends.torch import trace
from snn2chip.nn import IF, MHT

HERE = Path(__file__)
LINES = HERE.read_text(encoding="utf-8").splitlines()


def line_of(marker: str) -> int:
    """Return the number of the only line that ends with the marker comment."""
    found = [i + 1 for i, line in enumerate(LINES) if line.rstrip().endswith(f"# {marker}")]
    assert len(found) == 1, marker
    return found[0]


class MaxPool(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.act, self.pool = MHT(steps=1, step_mode="s"), nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.act(x)).repeat_interleave(4, 1).view(x.shape)  # use-pool


class Sigmoid(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x)  # sigmoid


class Gate(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.mean((2, 3), keepdim=True)  # gate


class Concat(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, x], 2)[:, :, : x.shape[2]]  # concat


class HandWritten(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x > 1.0).float()  # by-hand


class DataBranch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.max() > 3.0:  # branch
            return x
        return x + x


class Noise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand(1)  # noise


class PlainTensor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.offset = torch.ones(1)  # neither parameter nor buffer

    def forward(self, x: Tensor) -> Tensor:
        return x + self.offset  # baked


class AlwaysDropping(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.5)  # dropout


class Preallocated(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        out = torch.zeros(2, *x.shape)
        out[0] = x  # setitem
        return x


class LayerNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)  # norm


class Crop(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[..., 1:], (1, 0))  # crop


class BatchStatistics(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0, keepdim=True)  # batch


class Counter(nn.Module):
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1  # counter
        return x


class StaleView(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x + 0.5
        flat = y.flatten(1)
        y += 1.0
        return flat.view(x.shape)  # stale


class Doubling(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * super().forward(input)  # doubling


CONSTRUCTS: dict[str, tuple[Callable[[], nn.Module], str, str, str]] = {
    "max_pool": (MaxPool, "pool", "use-pool", "use average pooling"),
    "sigmoid": (Sigmoid, "", "sigmoid", "not a spiking neuron"),
    "gate": (Gate, "", "gate", "multiplies two activations"),
    "concat": (Concat, "", "concat", "not the channels"),
    "by_hand": (HandWritten, "", "by-hand", "derive from snn2chip.nn.Neuron"),
    "branch": (DataBranch, "", "branch", "depend on the data"),
    "noise": (Noise, "", "noise", "random"),
    "baked": (PlainTensor, "", "baked", "register_buffer"),
    "dropout": (AlwaysDropping, "", "dropout", "training=self.training"),
    "setitem": (Preallocated, "", "setitem", "torch.stack"),
    "layer_norm": (LayerNorm, "norm", "norm", "use BatchNorm"),
    "crop": (Crop, "", "crop", "some of the positions"),
    "batch": (BatchStatistics, "", "batch", "over the batch"),
    "counter": (Counter, "", "counter", "'branches.counter.count'"),
    "stale": (StaleView, "", "stale", "changed in place"),
    "doubling": (lambda: Doubling(2, 2, 1), "", "doubling", "multiplies two activations"),
}


class Everything(nn.Module):
    """One branch per construct, so that every one is met."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleDict({name: make() for name, (make, *_) in CONSTRUCTS.items()})
        self.act, self.head = MHT(steps=1, step_mode="s"), nn.Linear(2 * 4 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        total = x
        for branch in self.branches.values():
            total = total + branch(x)
        return self.head(self.act(total).flatten(1))


@pytest.fixture(scope="module")
def breaches() -> list[str]:
    with pytest.raises(TraceError) as error:
        trace(Everything(), torch.rand(3, 2, 4, 4))
    return error.value.breaches


@pytest.mark.parametrize("name", CONSTRUCTS)
def test_refused_with_layer_and_line(name: str, breaches: list[str]) -> None:
    _, inner, marker, advice = CONSTRUCTS[name]
    path = f"branches.{name}" + (f".{inner}" if inner else "")
    place = f"{HERE.name}:{line_of(marker)}"
    mine = [b for b in breaches if re.match(rf"{re.escape(path)} \(\w+\): ", b) and f"{place}: " in b]
    assert mine, f"nothing about {path} at {place} in {breaches}"
    assert any(advice in b for b in mine), mine


def test_nothing_else_is_refused(breaches: list[str]) -> None:
    assert all(b.startswith("branches.") for b in breaches)
    assert len(set(breaches)) == len(breaches)


class SharedNeuron(nn.Module):
    def __init__(self, mode: str) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, 4), nn.Linear(4, 4)
        self.act = IF(steps=2, step_mode=mode)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.fc2(self.act(self.fc1(x))))  # shared


@pytest.mark.parametrize(("mode", "shape"), [("m", (2, 3, 4)), ("s", (3, 4))])
def test_neuron_shared_by_two_layers(mode: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(TraceError, match=rf"act \(IF\): IF at .*:{line_of('shared')}: .*one neuron module per layer"):
        trace(SharedNeuron(mode), torch.rand(shape))


class TimeDependent(nn.Module):
    """Step 1 runs another layer than step 0."""

    def __init__(self) -> None:
        super().__init__()
        self.fcs = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.act = IF(steps=2, step_mode="s")

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.act(fc(x)) for fc in self.fcs])  # per-step


class TimeDependentHead(TimeDependent):
    def forward(self, x: Tensor) -> Tensor:
        hidden = [self.act(x), self.act(x)]
        return torch.stack([fc(h) for fc, h in zip(self.fcs, hidden, strict=True)])  # per-step head


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.back, self.act = nn.Linear(4, 4), nn.Linear(4, 4), IF(steps=2, step_mode="s")

    def forward(self, x: Tensor) -> Tensor:
        first = self.act(self.fc(x[0]))
        second = self.act(self.fc(x[1]) + self.back(first))  # recurrent
        return torch.stack([first, second])


class SkippedStep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.act = IF(steps=3, step_mode="s")

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x[0]) + self.act(x[1])


class WrongOrder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.act = IF(steps=2, step_mode="s")

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.act(x[1]), self.act(x[0])])  # backwards


class NeuronOnLogits(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.act, self.last = IF(steps=2), IF(steps=1, step_mode="s")

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.act(x).mean(0))


class HeadOnSum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.act, self.fc = IF(steps=2), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.act(x).sum(0))


class PartOfTheSteps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.act = IF(steps=4)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x)[1:].mean(0)


@pytest.mark.parametrize(
    ("model", "shape", "text"),
    [
        (HeadOnSum, (2, 3, 4), "only linear layers after a mean over all steps"),
        (PartOfTheSteps, (4, 3, 4), "only one step or all of them can be picked"),
        (TimeDependent, (3, 4), "is called on linear1 (fcs.0) and on linear2 (fcs.1)"),
        (TimeDependentHead, (3, 4), "joins steps of different layers (linear1 (fcs.0), linear2 (fcs.1))"),
        (Recurrent, (2, 3, 4), "one step old"),
        (SkippedStep, (3, 3, 4), "sums only the steps [0, 1] of 3"),
        (WrongOrder, (2, 3, 4), "gets step 1 in its call number 1"),
        (NeuronOnLogits, (2, 3, 4), "all layers share one T"),
    ],
)
def test_steps_that_differ(model: Callable[[], nn.Module], shape: tuple[int, ...], text: str) -> None:
    with pytest.raises(TraceError, match=re.escape(text)):
        trace(model(), torch.rand(shape))


class TwoOutputs(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, int]:
        return x, 1


class Unregistered(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = [nn.Linear(4, 4)]

    def forward(self, x: Tensor) -> Tensor:
        return self.layers[0](x)  # unregistered


class LastAxis(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x)


class Permuted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2).flatten(1)


@pytest.mark.parametrize(
    ("model", "shape", "text"),
    [
        (TwoOutputs, (3, 4), "must be tensors that depend on the input"),
        (Unregistered, (3, 4), f":{line_of('unregistered')}: uses a tensor that is not made by recorded operations"),
        (LastAxis, (3, 2, 5, 4), "acts on the last axis of [2, 5, 4] only"),
        (Permuted, (3, 2, 5, 4), "keep the order [C,H,W]"),
        (lambda: nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"), (3, 1, 4, 4), "pads with 'reflect'"),
        (lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False), (3, 1, 5, 5), "does not count padding"),
        (lambda: nn.AvgPool2d(2, ceil_mode=True), (3, 1, 5, 5), "ceil_mode"),
        (lambda: nn.AdaptiveAvgPool2d(5), (3, 1, 54, 54), "weights up to 144, more than 127"),
        (lambda: nn.AdaptiveMaxPool2d(2), (3, 1, 5, 5), "windows of different sizes"),
        (lambda: nn.BatchNorm2d(2, track_running_stats=False), (3, 2, 5, 5), "no running statistics"),
    ],
)
def test_layers_that_do_not_fit(model: Callable[[], nn.Module], shape: tuple[int, ...], text: str) -> None:
    with pytest.raises(TraceError, match=re.escape(text)):
        trace(model(), torch.rand(shape))
