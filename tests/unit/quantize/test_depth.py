"""Compiling takes work in proportion to the depth of a net: no pass searches a list for every layer."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from snn2chip.compiler import compile_graph
from snn2chip.ir.layers import Layer, Shape
from snn2chip.ir.program import Program
from snn2chip.nn import IF, Repeat, Seq, TimeMean
from snn2chip.passes import DEFAULT, run_passes
from snn2chip.passes.edit import GraphEdit
from snn2chip.testing.random_graphs import random_graph

DEPTHS = (10, 30)
FEW = 2 * max(DEPTHS)
"""Calls of a function at the greater depth from which on they are judged."""


class Residual(nn.Module):
    """A convolution, an identity around it, and a neuron."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = Seq(nn.Conv2d(4, 4, 3, padding=1)), IF(steps=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(x) + x)


def chain(depth: int) -> nn.Module:
    layers = [m for _ in range(depth) for m in (nn.Linear(4, 4), IF(steps=1))]
    return Seq(Repeat(1), *layers, nn.Linear(4, 3), TimeMean())


def residual(depth: int) -> nn.Module:
    stem, blocks = nn.Conv2d(2, 4, 3, padding=1), [Residual() for _ in range(depth)]
    return Seq(
        Repeat(1), stem, IF(steps=1), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3), TimeMean()
    )


def pools(depth: int) -> nn.Module:
    """Every convolution has a pool of one pixel, a norm and a flat detour around it: much to compose."""
    layers = [
        m
        for _ in range(depth)
        for m in (nn.AvgPool2d(1), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.AvgPool2d(1), IF(steps=1))
    ]
    return Seq(Repeat(1), nn.Conv2d(2, 4, 1), IF(steps=1), *layers, nn.Flatten(), nn.Linear(36, 3), TimeMean())


NETS: dict[str, tuple[Callable[[int], nn.Module], tuple[int, ...]]] = {
    "chain": (chain, (4,)),
    "residual": (residual, (2, 3, 3)),
    "pools": (pools, (2, 3, 3)),
}


def calls_of(work: Callable[[], Any]) -> Counter[str]:
    """How often `work` enters each function of Python (and resumes each generator), and calls each built-in one."""
    found: Counter[str] = Counter()

    def heard(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            found[f"{frame.f_code.co_filename}:{frame.f_code.co_firstlineno}:{frame.f_code.co_name}"] += 1
        elif event == "c_call":
            found[f"{getattr(argument, '__module__', '')}.{argument.__qualname__}"] += 1

    gc.disable()
    sys.setprofile(heard)
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return found


def compiled(net: Callable[[int], nn.Module], shape: tuple[int, ...], depth: int) -> Callable[[], Program]:
    """Half of the neurons stay silent: no potential saturates, so that every depth is lowered once."""
    torch.manual_seed(0)
    model = net(depth).eval()
    for m in model.modules():
        if isinstance(m, (nn.Linear, nn.Conv2d)):
            nn.init.constant_(m.weight, 0.0)
            for i in range(min(m.weight.shape[:2])):
                m.weight.data[i, i] = 0.25 if m.weight.dim() == 2 else 0.25 / m.weight[i, i].numel()
            m.bias = nn.Parameter(torch.full((len(m.weight),), 0.25))
    raw = np.random.default_rng(0).random((4, *shape), dtype=np.float32)
    return lambda: compile_graph(model, torch.as_tensor(raw[:1]), calibration=raw, input_range=(0, 1))[0]


@pytest.mark.parametrize("name", NETS)
def test_no_function_is_called_more_often_than_in_proportion(name: str) -> None:
    """Three times the layers: every function is called at most 3.3 times as often, list scans included."""
    net, shape = NETS[name]
    compiled(net, shape, 2)()  # what is done once: imports, compiled kernels
    low, high = DEPTHS
    few, many = (calls_of(compiled(net, shape, depth)) for depth in DEPTHS)
    steep = {call: (few[call], n) for call, n in many.items() if n > FEW and n > 1.1 * high / low * few[call]}
    assert not steep
    assert many.total() > 10_000


@pytest.mark.parametrize("seed", range(30))
def test_readers_and_shapes_of_a_draft_by_their_definition(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever a pass asks for the readers or the shape of a layer, a search of the whole draft says the same."""
    asked, users, shape = [0, 0], GraphEdit.users, GraphEdit.shape

    def searched(edit: GraphEdit, name: str) -> list[Layer]:
        found = [edit.layers[dst] for dst, sources in edit.inputs.items() for src in sources if src == name]
        assert users(edit, name) == found
        asked[0] += 1
        return found

    def followed(edit: GraphEdit, name: str) -> Shape:
        found = edit.layers[name].out_shape([followed(edit, src) for src in edit.inputs.get(name, ())])[0]
        assert shape(edit, name) == found
        asked[1] += 1
        return found

    monkeypatch.setattr(GraphEdit, "users", searched)
    monkeypatch.setattr(GraphEdit, "shape", followed)
    run_passes(random_graph(seed).graph, passes=DEFAULT, normal_form=False)
    assert asked[0] > 0
