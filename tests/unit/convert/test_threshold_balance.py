"""Thresholds from activations: quantiles with and without zeros, residual blocks as one unit, search."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from snn2chip.convert import Pool, balance, search, to_ic_snn
from snn2chip.convert.ic_snn import CORRECTED
from snn2chip.convert.threshold_balance import CANDIDATES, MAXIMUM, block_units, layer_units
from snn2chip.errors import InputError, UnsupportedError
from snn2chip.frontends.torch import trace
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.neuron_layer import NeuronLayer


def identity_net() -> LayerGraph:
    """relu(x) and relu(3x) of one feature: the activations are the data."""
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU(), nn.Linear(1, 1, bias=False), nn.ReLU()).double()
    net[0].weight.data.fill_(1.0)
    net[2].weight.data.fill_(3.0)
    return trace(net, torch.rand(4, 1).double())


VALUES = torch.arange(-100, 100).double()[:, None]  # 101 outputs are zero, 1..99 positive


@pytest.mark.parametrize(
    ("pool", "value"), [(MAXIMUM, 99), (Pool(quantile=0.9), 80), (Pool(quantile=0.9, zeros=False), 90)]
)
def test_the_statistic_is_the_one_named(pool: Pool, value: float) -> None:
    """Of 200 outputs the 0.9-quantile is the 181st smallest, 80; of the 99 positive ones the 90th."""
    assert balance(identity_net(), [VALUES[:77], VALUES[77:]], pool=pool) == {"relu1": value, "relu2": 3 * value}


class Blocks(nn.Module):
    """A stem, an identity block, a block with a convolution in its shortcut, and a plain tail."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(1 if i == 0 else 3, 3, 3, padding=1) for i in range(6))
        self.short = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        c = self.convs
        x = c[0](x).relu()  # relu1
        x = (c[2](c[1](x).relu()) + x).relu()  # relu2, relu3
        x = (c[4](c[3](x).relu()) + self.short(x)).relu()  # relu4, relu5
        return c[5](x).relu().mean((2, 3))  # relu6


def blocks() -> tuple[LayerGraph, Tensor]:
    torch.manual_seed(1)
    x = torch.rand(12, 1, 6, 6).double()
    return trace(Blocks().double(), x[:3]), x


def test_a_residual_block_is_one_unit() -> None:
    graph, x = blocks()
    assert block_units(graph) == (("relu1",), ("relu2", "relu3"), ("relu4", "relu5"), ("relu6",))
    assert layer_units(graph) == tuple((f"relu{i}",) for i in range(1, 7))
    single = balance(graph, [x], pool=MAXIMUM)
    shared = balance(graph, [x], pool=MAXIMUM, units=block_units(graph))
    assert shared["relu2"] == shared["relu3"] == max(single["relu2"], single["relu3"])
    assert shared["relu1"] == single["relu1"]


def test_only_the_first_layer_of_a_block_has_a_start_and_compensation() -> None:
    graph, x = blocks()
    for options in (CORRECTED["C"], CORRECTED["I-data"]):
        made = to_ic_snn(graph, steps=8, data=x, options=options)
        somas = {n.name: n.soma for n in made.layers if isinstance(n, NeuronLayer)}
        moved = {name for name, s in somas.items() if float(s.bias) != 0 or float(s.v_init) != 0}
        assert moved == {"relu1", "relu2", "relu4", "relu6"}
        assert float(somas["relu2"].theta) == float(somas["relu3"].theta)


def test_units_must_name_every_activation_once() -> None:
    graph, x = blocks()
    with pytest.raises(InputError) as caught:
        balance(graph, [x], units=(("relu1", "relu2"), ("relu2", "relu9"), ("relu3", "relu4", "relu5")))
    assert len(caught.value.breaches) == 3
    for text in ("'relu9', which is no ReLU", "relu6: in no unit", "'relu2': in 2 units"):
        assert text in str(caught.value)


def test_silent_layers_are_named() -> None:
    with pytest.raises(InputError, match=r"relu1 \(1\): the 0\.5-quantile with zeros of the activations is 0"):
        balance(identity_net(), [VALUES[:110]], pool=Pool(quantile=0.5))
    with pytest.raises(InputError, match=r"quantile=1\.5"):
        Pool(quantile=1.5)


def test_search_keeps_the_best_and_tells_all() -> None:
    scores = dict.fromkeys(CANDIDATES, 0.5)
    scores[CANDIDATES[3]] = scores[CANDIDATES[4]] = 0.9
    best, seen = search(CANDIDATES, scores.__getitem__)
    assert best == CANDIDATES[3]
    assert seen == scores
    with pytest.raises(InputError, match="at least one"):
        search((), scores.__getitem__)


def test_norms_must_be_folded_before() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 3)).eval()
    with pytest.raises(UnsupportedError, match="without norms, fold them first"):
        to_ic_snn(net, torch.rand(4, 3), steps=4, data=torch.rand(8, 3))
