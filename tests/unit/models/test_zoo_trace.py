"""The larger nets through the front end and the compiler: what they become, and what is refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from snn2chip_models import build

import snn2chip
from snn2chip.errors import TraceError, UnsupportedError
from snn2chip.frontends.torch import trace

RES = {"blocks": [1, 1], "channels": [4, 6], "strides": [1, 2], "stem_channels": 4, "input_shape": [3, 8, 8]}
SMALL = {"stages": [[4, 4], [6]], "input_shape": [3, 8, 8]}
X = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))

# name, arguments -> steps, activations, sums of two branches in the float graph
TRACED: list[tuple[str, dict[str, Any], tuple[int, int, int]]] = [
    ("small-vgg", {**SMALL, "activation": "relu"}, (1, 3, 0)),
    ("small-vgg", {**SMALL, "activation": "relu", "bn": False, "hidden": [5]}, (1, 4, 0)),
    ("small-vgg", {**SMALL, "activation": "qcfs", "L": 8}, (1, 3, 0)),
    ("small-vgg", {**SMALL, "L": 2, "T": 3}, (3, 3, 0)),
    ("vgg13", {**SMALL, "activation": "empf-norm", "weights": "binary", "T": 4}, (4, 3, 0)),
    ("resnet20", {**RES, "activation": "relu"}, (1, 5, 2)),
    ("resnet20", {**RES, "activation": "qcfs", "bn": False}, (1, 5, 2)),
    ("resnet20", {**RES, "L": 2}, (2, 5, 2)),
    ("resnet20", {**RES, "L": 2, "preactivation": True}, (2, 4, 2)),
    ("resnet50", {**RES, "L": 2}, (2, 7, 2)),
    ("resnet18", {**RES, "L": 2, "stem": "imagenet"}, (2, 5, 2)),
    ("resnet18-empf", {**RES, "T": 2}, (2, 4, 2)),
    ("resnet18-empf", {**RES, "T": 2, "version": "II", "parallel": False}, (2, 4, 2)),
]


@pytest.mark.parametrize(("name", "args", "expected"), TRACED)
def test_nets_trace(name: str, args: dict[str, Any], expected: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    graph = trace(build(name, **args), X)
    assert (graph.steps, len(graph.of_kind("relu", "neuron")), len(graph.of_kind("add"))) == expected


def test_event_nets_trace() -> None:
    torch.manual_seed(0)
    model = build("vgg-snn", stages=[[3, 4], [4]], T=3, L=2)
    graph = trace(model, torch.rand(3, 2, 2, 48, 48))
    assert graph.steps == 3
    assert len(graph.of_kind("neuron")) == 3


def test_full_size_resnet20_traces() -> None:
    torch.manual_seed(0)
    graph = trace(build("resnet20", L=2, T=2), torch.rand(2, 3, 32, 32), replay=False)
    assert (len(graph.of_kind("neuron")), len(graph.of_kind("add")), len(graph.of_kind("conv2d"))) == (19, 9, 21)


@pytest.mark.parametrize("args", [{"L": 2, "T": 2}, {"activation": "qcfs", "L": 4}, {"activation": "if", "T": 4}])
def test_small_vgg_compiles_and_runs(args: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = build("small-vgg", **SMALL, **args).eval()
    x = 8 * X  # every layer spikes
    logits = np.asarray(snn2chip.run(snn2chip.compile(model, x), x.numpy(), backend="reference").outputs)
    with torch.no_grad():
        expected = model(x).numpy()
    assert logits.shape == expected.shape == (2, 10)
    assert all(np.corrcoef(a, b)[0, 1] > 0.95 for a, b in zip(logits, expected, strict=True))


def test_refusals_name_the_layer() -> None:
    with pytest.raises(TraceError, match=r"layers\.pool1 \(MaxPool2d\).*use average pooling"):
        trace(build("small-vgg", **SMALL, pool="max"), X)
    with pytest.raises(UnsupportedError, match=r"layers\.act1_1\): relu has no integer form"):
        snn2chip.compile(build("small-vgg", **SMALL, activation="relu").eval(), X)
