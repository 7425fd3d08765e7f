"""The exact statements of the papers on nets that were really trained, on real images, in fixed point.

Fixed point: 8-bit weights, dyadic thresholds and biases, so that float64 rounds nothing and == means equal.
"""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.methods.exact import BIAS_LSB, THETA_LSB, compare, fixed_point
from snn2chip.api import run
from snn2chip.checkpoint import CheckpointHeader, load_checkpoint
from snn2chip.checkpoint_compile import compile_checkpoint
from snn2chip.convert import to_hybrid, to_if, to_parallel
from snn2chip.data import open_data
from snn2chip.errors import UnsupportedError
from snn2chip.float_graph import float_graph
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.linear_layers import AffineLayer
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.train import predict

TRAINED = Path(__file__).parents[2] / "data" / "trained"
QCFS = TRAINED / "cifar10-small-qcfs.safetensors"

needs_data = pytest.mark.skipif(
    "SNN2CHIP_DATA" not in os.environ, reason="SNN2CHIP_DATA is not set: the CIFAR-10 test images are needed"
)


@pytest.fixture(scope="module")
def net() -> tuple[Any, CheckpointHeader]:
    return load_checkpoint(QCFS)


@pytest.fixture(scope="module")
def images() -> Tensor:
    arrays, _ = open_data("cifar10", split="test").take(200).arrays()
    return torch.as_tensor(arrays["x"])


def graph(model: Any, header: CheckpointHeader, *, steps: int = 1) -> LayerGraph:
    """The folded graph of raw pixels in fixed point."""
    sample = torch.zeros(2, *header.input.shape)
    folded = float_graph(model, sample, steps=steps, normalise=header.input.normalisation)
    return fixed_point(folded, levels=4)


def test_assets_are_small() -> None:
    assert all(path.stat().st_size <= 2**20 for path in TRAINED.glob("*.safetensors"))


def test_fixed_point_fits_float64(net: tuple[Any, CheckpointHeader]) -> None:
    """Everything a neuron sums in four steps is a multiple of its finest grid, and fewer than 2^53 of them."""
    lsb, top = Fraction(1), Fraction(255)  # of a payload: pixels
    for layer in graph(*net).layers:
        if isinstance(layer, AffineLayer):
            rows = [[Fraction(w) for w in row] for row in layer.weight.flatten(1).tolist()]
            grid = Fraction(1, max(w.denominator for row in rows for w in row))
            assert max(abs(w) for row in rows for w in row) <= 128 * grid
            bias = [Fraction(b) for b in ([0.0] if layer.bias is None else layer.bias.tolist())]
            assert all(b % Fraction(BIAS_LSB) == 0 for b in bias)
            current = 4 * top * max(sum(map(abs, row)) for row in rows) + max(map(abs, bias))  # four: a sum pool
            finest = min(lsb * grid, Fraction(BIAS_LSB))
        elif isinstance(layer, NeuronLayer):
            theta = Fraction(float(layer.soma.theta))
            assert theta % Fraction(THETA_LSB) == 0
            finest = min(finest, Fraction(THETA_LSB) / 2)  # v(0) = theta/2
            assert 4 * (current + 4 * theta) < 2**53 * finest
            lsb, top = Fraction(THETA_LSB), 4 * theta


@pytest.mark.data
@needs_data
def test_replacement_of_hybrid_training_changes_no_count(net: tuple[Any, CheckpointHeader], images: Tensor) -> None:
    """P2.6 with L*T = T~ = 4: the LM-HT (2,2) network fires the QCFS level, neuron by neuron."""
    model, header = net
    lmht = to_hybrid(model, torch.zeros(2, *header.input.shape), steps=2, levels=2)
    found = compare(graph(model, header), graph(lmht, header, steps=2), images[:50])
    assert found.neurons == 50 * 57344
    assert (found.total, found.answers) == (0, 0)


@pytest.mark.data
@needs_data
def test_parallel_network_fires_the_qcfs_level(net: tuple[Any, CheckpointHeader], images: Tensor) -> None:
    """P4.1 with T = T~ = 4: four binary steps, counts and answers of all 200 images."""
    source = graph(*net)
    found = compare(source, to_parallel(source, steps=4, form="steps"), images)
    assert found.neurons == 200 * 57344
    assert (found.total, found.answers) == (0, 0)


@pytest.mark.data
@needs_data
def test_plain_if_differs_where_currents_are_uneven(net: tuple[Any, CheckpointHeader], images: Tensor) -> None:
    """P1.2 needs currents in 0..theta at every step; a trained net leaves them, so the comparison does see faults."""
    source = graph(*net)
    found = compare(source, to_if(source, steps=4), images[:20])
    first, *deeper = found.mismatches.values()
    assert first == 0  # a constant current: P1.1
    assert all(count > 0 for count in deeper)


SHORT = {"cifar10-resnet20-lif": (0.3, 0.75), "cifar10-resnet20-empf": (0.45, 0.93)}
"""Nets trained for two epochs on 20,000 images: right answers and agreement, where chance is 0.1 in both."""


@pytest.mark.data
@needs_data
@pytest.mark.parametrize("name", sorted(path.stem for path in TRAINED.glob("*.safetensors") if "relu" not in path.stem))
def test_every_trained_spiking_net_compiles(name: str) -> None:
    """8 bits and integer somas lose at most a few points; an error of a unit or a shift loses nearly all of them."""
    path = TRAINED / f"{name}.safetensors"
    model, header = load_checkpoint(path)
    program = compile_checkpoint(path)
    data = open_data(header.provenance["data"], split="test", steps=header.T if header.input.time else None).take(100)
    arrays, labels = data.arrays()
    raw = arrays["x"]
    integer = run(program, np.moveaxis(raw, 1, 0) if header.input.time else raw, record="outputs").outputs.argmax(1)
    floating = predict(model, raw, spec=header.input).argmax(1)
    assert labels is not None
    right, same = SHORT.get(name, (0.75, 0.93))
    assert (floating == labels).mean() > right  # a trained net: the agreement below means something
    assert (integer == floating).mean() >= same


@pytest.mark.parametrize("name", ["cifar10-small-relu", "cifar10-small-relu-nobn"])
def test_relu_nets_are_refused_by_name(name: str) -> None:
    with pytest.raises(UnsupportedError, match="an ordinary ReLU network, it has no neurons to compile"):
        compile_checkpoint(TRAINED / f"{name}.safetensors")
