"""Text of a small graph before and after each pass, kept under tests/golden/passes.

Set SNN2CHIP_UPDATE_GOLDEN=1 to write the files anew, then read the difference before committing it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snn2chip.frontends.torch import trace
from snn2chip.ir.graph import LayerGraph
from snn2chip.nn import IF, LMHT, MHT, QCFS, SECA, BinaryConv2d, Repeat, TimeFold
from snn2chip.passes import PASSES, run_passes
from snn2chip.testing.graphs import chain
from snn2chip.testing.nets import dyadic, sample

GOLDEN = Path(__file__).parents[2] / "golden" / "passes"


def identities() -> LayerGraph:
    layers = [
        nn.Flatten(),
        nn.Dropout(),
        nn.Identity(),
        QCFS(levels=2, vth=2.0, step_mode="s"),
        nn.Flatten(),
        nn.Linear(8, 2),
    ]
    return trace(dyadic(nn.Sequential(*layers), seed=1), sample(3, 2, 2, 2))


class Norms(nn.Module):
    """One norm behind binary weights, one behind a sum, one on payloads."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm1, self.act1 = BinaryConv2d(2, 2, 1), nn.BatchNorm2d(2), LMHT(steps=2, levels=4)
        self.norm2, self.act2 = TimeFold(nn.BatchNorm2d(2)), LMHT(steps=2, levels=2)
        self.norm3 = TimeFold(nn.BatchNorm2d(2))

    def forward(self, x: Tensor) -> Tensor:
        y = self.act1(self.norm1(self.conv(x.flatten(0, 1))).view(x.shape))
        return self.norm3(self.act2(self.norm2(y + x))).mean(0)


class Pools(nn.Module):
    """Pools in front of and behind convolutions, a scaled head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.act = BinaryConv2d(1, 2, 1), MHT(steps=1, levels=4, step_mode="s")
        self.conv2, self.act2 = BinaryConv2d(2, 1, 1), MHT(steps=1, levels=4, step_mode="s")
        self.head = nn.Linear(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(F.avg_pool2d(self.conv1(x), 2))
        x = self.act2(self.conv2(F.avg_pool2d(x, 2)))
        return 2 * self.head(x.mean((2, 3)))


def normalised() -> LayerGraph:
    graph = trace(dyadic(nn.Sequential(nn.Conv2d(1, 2, 2, padding=1)), seed=1), sample(2, 1, 2, 2))
    return graph.with_normalisation(scale=0.125, mean=0.53125, std=0.5)


class Residual(nn.Module):
    """A sum of payloads that a convolution and another sum read."""

    def __init__(self) -> None:
        super().__init__()
        self.act1, self.act2 = MHT(steps=2, levels=2), MHT(steps=2, levels=2)
        self.conv = TimeFold(nn.Conv2d(1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.act1(x)
        return x + self.act2(self.conv(x))


def steady() -> LayerGraph:
    """Two windowed neurons: only the first sees the same current at every step."""
    layers = [nn.Linear(2, 2), Repeat(2), LMHT(steps=2, levels=4), TimeFold(nn.Linear(2, 2)), LMHT(steps=2, levels=4)]
    return trace(dyadic(nn.Sequential(*layers), seed=1), sample(3, 2))


class Stem(nn.Module):
    """What a host does before the first neuron, up to the last maximum; the average behind it stays."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head, self.act = nn.Conv2d(1, 2, 2), nn.Linear(2, 2), MHT(steps=1, levels=2, step_mode="s")

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(F.max_pool2d(F.relu(self.conv(x)), 2), 2)
        return self.act(self.head(x.flatten(1)))


class Binary(nn.Module):
    """A maximum over binary spikes."""

    def __init__(self) -> None:
        super().__init__()
        self.act, self.act2 = IF(steps=2, theta=0.5), MHT(steps=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.act2(F.max_pool2d(self.act(x).flatten(0, 1), 2).unflatten(0, x.shape[:2]))


class Joined(nn.Module):
    """Joined channels that a convolution and a neuron read, and that are returned."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = TimeFold(nn.Conv2d(2, 1, 1)), MHT(steps=2, levels=2)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat([x, self.act(x)], 2)
        return torch.cat([self.conv(y), y], 2)


class Attended(nn.Module):
    """Channel attention of a sum, read by a neuron."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.seca, self.act = nn.Conv2d(2, 2, 1), SECA(3), MHT(steps=1, levels=2, step_mode="s")

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.seca(x + self.conv(x)))


CASES: dict[str, Callable[[], LayerGraph]] = {
    "remove-identities": identities,
    "fold-batchnorm": lambda: trace(dyadic(Norms(), seed=1), sample(2, 3, 2, 2, 2)),
    "lift-rows": lambda: trace(dyadic(nn.Sequential(nn.Conv1d(2, 1, 3)), seed=1), sample(2, 2, 4)),
    "split-concat": lambda: trace(dyadic(Joined(), seed=1), sample(2, 3, 1, 2, 2)),
    "spike-pools": lambda: trace(dyadic(Binary(), seed=1), sample(2, 3, 1, 4, 4)),
    "compose-linear": lambda: trace(dyadic(Pools(), seed=1), sample(3, 1, 4, 4)),
    "fold-input-norm": normalised,
    "steady-windows": steady,
    "host-prefix": lambda: trace(dyadic(Stem(), seed=1), sample(3, 1, 5, 5)),
    "expand-attention": lambda: trace(dyadic(Attended(), seed=1), sample(3, 2, 2, 2)),
    "leak-range": lambda: chain(2, fire="excess", reset="clamp", leak=torch.tensor([[20.0], [-3.0]]), out_max=15),
    "insert-relays": lambda: trace(dyadic(Residual(), seed=1), sample(2, 3, 1, 2, 2)),
}


@pytest.mark.parametrize("name", PASSES)
def test_text_before_and_after(name: str) -> None:
    torch.manual_seed(0)
    before = CASES[name]()
    after = run_passes(before, passes=[PASSES[name]()], normal_form=False)
    notes = [
        f"  {n.layer}: {n.text}" + ("" if n.value is None else f" = {n.value:.6g}") for n in after.notes if n.by == name
    ]
    text = "\n".join(["before", before.text(), "after", after.text(), "notes", *notes, ""])
    file = GOLDEN / f"{name}.txt"
    if os.environ.get("SNN2CHIP_UPDATE_GOLDEN"):
        file.write_text(text, encoding="utf-8")
    assert before.text() != after.text()
    assert file.read_text(encoding="utf-8") == text


def test_every_golden_file_has_its_pass() -> None:
    assert sorted(CASES) == sorted(PASSES) == sorted(file.stem for file in GOLDEN.glob("*.txt"))


def test_steady_windows_change_no_value() -> None:
    before = steady()
    after = run_passes(before, passes=[PASSES["steady-windows"]()], normal_form=False)
    x = torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    a, b = before.run(x, collect=True), after.run(x, collect=True)
    for name in a.before:
        assert torch.allclose(a.before[name], b.before[name], rtol=0, atol=1e-12)
    assert [n.soma.window is None for n in after.of_kind("neuron")] == [True, False]
