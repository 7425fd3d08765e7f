"""Neurons that read their own spikes one step later: traced from a loop, run, and lowered with an edge of delay 1."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from snn2chip.errors import TraceError
from snn2chip.frontends.torch import trace
from snn2chip.ir.graph_files import from_parts, to_parts
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.nn import IF, LIF, MHT, BinaryLinear, Neuron, Recurrent, Seq, TimeMean
from snn2chip.testing.whole import assert_exact, spikes, whole

T = 4
HERE = Path(__file__)


def line_of(marker: str) -> int:
    lines = HERE.read_text(encoding="utf-8").splitlines()
    (found,) = (i + 1 for i, line in enumerate(lines) if line.rstrip().endswith(f"# {marker}"))
    return found


class Loop(nn.Module):
    """A user's own loop over steps, with a convolution that feeds spikes back."""

    def __init__(self, neuron: Neuron, *, bias: bool = True) -> None:
        super().__init__()
        self.conv, self.back = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, bias=bias)
        self.neuron, self.head = neuron, nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        self.neuron.reset()
        sent, total = torch.zeros_like(self.conv(x[0])), 0.0
        for current in x:
            sent = self.neuron(self.back(sent) + self.conv(current))
            total = total + self.head(sent.flatten(1))
        return total / T  # type: ignore[return-value]


def layered(neuron: Neuron, back: nn.Module) -> nn.Module:
    return whole(Seq(nn.Linear(6, 8), Recurrent(neuron, back), nn.Linear(8, 3), TimeMean()))


NETS = {
    "linear": lambda: layered(IF(steps=T, theta=2.0), nn.Linear(8, 8)),
    "leaky": lambda: layered(LIF(steps=T, leak=0.5, theta=2.0), nn.Linear(8, 8, bias=False)),
    "hard reset": lambda: layered(IF(steps=T, theta=4.0, reset="zero"), nn.Linear(8, 8)),
    "levels": lambda: layered(MHT(steps=T, levels=3, theta=2.0), nn.Linear(8, 8)),
    "loop": lambda: whole(Loop(IF(steps=T, theta=2.0, step_mode="s"))),
    "loop without bias": lambda: whole(Loop(MHT(steps=T, levels=2, theta=2.0, step_mode="s"), bias=False)),
}


@pytest.mark.parametrize("name", NETS)
def test_own_spikes_come_back(name: str) -> None:
    sample = (2, 4, 4) if name.startswith("loop") else (6,)
    program = assert_exact(NETS[name](), spikes(T, 5, *sample))
    delays = [edge for edge in program.edges if edge.delay]
    assert [(edge.src, edge.delay) for edge in delays] == [("neuron1", 1)]
    assert [edge.dst for edge in program.out_of[delays[0].dst]] == ["neuron1"]


def test_what_comes_back_matters() -> None:
    """The same net with nothing coming back sends other spikes: the tests above see the loop."""
    net, x = NETS["linear"](), spikes(T, 5, 6)
    with torch.no_grad():
        want = net(x)
        net[1].layer.weight.zero_()  # type: ignore[union-attr, operator]
        assert not torch.equal(net(x), want)


def test_binary_weights_come_back_binary() -> None:
    net = layered(IF(steps=T, theta=2.0), BinaryLinear(8, 8))
    net[1].layer.weight.data = torch.where(net[1].layer.weight > 0, 1.0, -1.0)  # type: ignore[union-attr, operator]
    program = assert_exact(net, spikes(T, 5, 6))
    (back,) = (edge.dst for edge in program.edges if edge.delay)
    assert program[back].bits == 1  # type: ignore[union-attr]


def test_two_loops_and_a_read_out_of_spikes() -> None:
    net = whole(
        Seq(
            nn.Linear(6, 8),
            Recurrent(IF(steps=T, theta=2.0), nn.Linear(8, 8)),
            nn.Linear(8, 5),
            Recurrent(IF(steps=T, theta=2.0), nn.Linear(5, 5)),
            TimeMean(),
        )
    )
    program = assert_exact(net, spikes(T, 5, 6))
    assert len([edge for edge in program.edges if edge.delay]) == 2


def test_a_loop_is_stored_with_its_network() -> None:
    graph = trace(NETS["loop"](), spikes(T, 5, 2, 4, 4))
    again = from_parts(*to_parts(graph), path="net")
    assert again.text() == graph.text()
    x = spikes(T, 3, 2, 4, 4, seed=5)
    assert torch.equal(again.run(x).output, graph.run(x).output)


def test_forced_spikes_come_back_instead_of_its_own() -> None:
    """Teacher forcing: step t reads W o(t-1) of the given payloads, by the equation in float64."""
    graph = trace(NETS["linear"](), spikes(T, 5, 6))
    x = spikes(T, 5, 6, seed=3).double()
    given = 2.0 * spikes(T, 5, 8, seed=4).double()
    (neuron,) = (layer for layer in graph.layers if isinstance(layer, NeuronLayer))
    run = graph.run(x, collect=True, forced={neuron.name: given})
    assert neuron.feedback is not None
    weight, bias = neuron.feedback.weight.double(), neuron.feedback.bias_or_zero().double()
    current = run.values[graph.inputs[neuron.name][0]]
    v = np.zeros((5, 8))
    for t in range(T):
        past = given[t - 1] if t else torch.zeros_like(given[0])
        m = v + (current[t] + past @ weight.T + bias).numpy()
        s = m >= 2.0
        v = m - 2.0 * s
        np.testing.assert_array_equal(run.values[neuron.name][t].numpy(), 2.0 * s)


class OtherSpikes(nn.Module):
    """Spikes of one neuron reach another one step late: not its own."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.back = nn.Linear(6, 8), nn.Linear(8, 8)
        self.one, self.two = (IF(steps=T, theta=2.0, step_mode="s") for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        old, out = torch.zeros_like(self.fc(x[0])), []
        for current in x:
            y = self.fc(current)
            out.append(self.two(y + self.back(old)))  # other
            old = self.one(y)
        return torch.stack(out)


class LateStart(Loop):
    """Nothing is added in the first step, not even the bias."""

    def forward(self, x: Tensor) -> Tensor:
        self.neuron.reset()
        sent, total = None, 0.0
        for current in x:
            y = self.conv(current)
            sent = self.neuron(y if sent is None else y + self.back(sent))  # late
            total = total + self.head(sent.flatten(1))
        return total / T  # type: ignore[return-value]


class Normed(Loop):
    def forward(self, x: Tensor) -> Tensor:
        sent, out = torch.zeros_like(self.conv(x[0])), []
        for current in x:
            sent = self.neuron(2.0 * (self.back(sent) + self.conv(current)))  # scaled
            out.append(sent)
        return torch.stack(out)


@pytest.mark.parametrize(
    ("make", "shape", "layer", "marker", "advice"),
    [
        (OtherSpikes, (6,), "two", "other", "only a neuron's own spikes"),
        (lambda: LateStart(IF(steps=T, theta=2.0, step_mode="s")), (2, 4, 4), "neuron", "late", "s = zeros before"),
        (lambda: Normed(IF(steps=T, theta=2.0, step_mode="s")), (2, 4, 4), "", "scaled", "add what comes back last"),
    ],
)
def test_refused_with_layer_and_line(make, shape, layer, marker, advice) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(TraceError) as error:
        trace(whole(make()), spikes(T, 5, *shape))
    mine = [b for b in error.value.breaches if f"{HERE.name}:{line_of(marker)}" in b]
    assert mine, error.value.breaches
    assert any(b.startswith(layer) and advice in b for b in mine), mine


def test_a_window_cannot_feed_itself() -> None:
    from snn2chip.errors import InputError
    from snn2chip.nn import LMHT

    with pytest.raises(InputError, match=re.escape("mixes all steps")):
        Recurrent(LMHT(steps=T, levels=2), nn.Linear(8, 8))


@pytest.mark.lava
def test_lava_runs_the_loop() -> None:
    assert_exact(NETS["linear"](), spikes(T, 2, 6), backends=("reference", "lava"))
