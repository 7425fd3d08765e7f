"""Max-pools: the stem of ImageNet's ResNets stays ordinary, any other is refused; nothing goes wrong silently."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import snn2chip
from snn2chip.compiler import compile_float_graph
from snn2chip.convert import to_ic_snn, to_if, to_parallel
from snn2chip.convert.activations import find, stem
from snn2chip.errors import Snn2ChipError, UnsupportedError
from snn2chip.frontends.torch import trace
from snn2chip.ir.graph import LayerGraph
from snn2chip.nn import QCFS, Repeat, Seq, TimeMean
from snn2chip.passes import run_passes


class Net(nn.Module):
    """conv, act, 3x3 max-pool of stride 2, then a block with two more activations; `late` puts a second pool there."""

    def __init__(self, *, late: bool = False, act: nn.Module | None = None) -> None:
        super().__init__()
        self.a = nn.Conv2d(1, 4, 3, padding=1)
        self.b, self.c = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4 * (4 if late else 16), 3)
        self.late, self.act = late, nn.ReLU() if act is None else act

    def forward(self, x: Tensor) -> Tensor:
        h = functional.max_pool2d(self.act(self.a(x)), 3, 2, 1)
        h = torch.relu(self.c(torch.relu(self.b(h))) + h)
        if self.late:
            h = functional.max_pool2d(h, 2)
        return self.head(h.flatten(1))


def traced(**args: bool) -> tuple[LayerGraph, Tensor]:
    torch.manual_seed(0)
    x = torch.rand(24, 1, 8, 8).double()
    return trace(Net(**args).double().eval(), x[:2]), x


def test_the_stem_stays_ordinary_and_the_rest_is_converted() -> None:
    graph, x = traced()
    assert stem(graph) == (frozenset({"relu1"}), [])
    assert [a.name for a in find(graph)] == ["relu2", "relu3"]
    want = graph.run(x).output
    made = {
        "parallel": to_parallel(graph, steps=256, data=x),
        "steps": to_parallel(graph, steps=256, data=x, form="steps"),
        "ic-snn": to_ic_snn(graph, steps=256, data=x),
    }
    for name, found in made.items():
        assert [layer.name for layer in found.of_kind("relu")] == ["relu1"], name
        assert len(found.of_kind("neuron")) == 2
        assert any(note.layer == "relu1" and "stays ordinary" in note.text for note in found.notes)
        error = (found.run(x).output - want).abs().mean()
        assert float(error) < 0.05 * float(want.abs().mean()), name


def test_a_network_with_an_ordinary_stem_compiles() -> None:
    graph, x = traced()
    made = to_parallel(graph, steps=32, data=x)
    program = compile_float_graph(run_passes(made), x.numpy())
    got = snn2chip.run(program, x.numpy(), backend="reference")
    assert np.mean(got.pred == made.run(x).output.argmax(1).numpy()) > 0.9
    assert len(program.somas) >= 2


def test_a_maximum_behind_further_activations_is_refused_by_every_conversion() -> None:
    graph, x = traced(late=True)
    for convert in (
        lambda: to_parallel(graph, steps=8, data=x),
        lambda: to_ic_snn(graph, steps=8, data=x),
        lambda: to_if(graph, steps=8),
    ):
        with pytest.raises(UnsupportedError, match=r"maxpool2.*a maximum over spikes is not the spikes of a maximum"):
            convert()


def test_a_maximum_over_quantised_activations_is_refused() -> None:
    stages = [Repeat(1), nn.Conv2d(1, 4, 3), QCFS(levels=4, vth=1.0), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)]
    net = Seq(*stages, TimeMean()).eval()
    with pytest.raises(Snn2ChipError, match=r"(?i)max"):
        to_parallel(net, torch.rand(2, 1, 8, 8), steps=4)


def test_a_stem_alone_leaves_nothing_to_convert() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(18, 3))
    with pytest.raises(UnsupportedError, match=r"but the stem's \(relu1\): there is nothing to convert"):
        to_parallel(net, torch.rand(2, 1, 8, 8), steps=4, data=torch.rand(4, 1, 8, 8))
