"""The programs that are measured: random integer weights, thresholds that keep a fifth of the neurons busy."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from snn2chip.ir.nodes import Input, Output, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma


def mlp(sizes: tuple[int, ...] = (784, 256, 256, 10), *, steps: int = 4) -> Program:
    """8-bit input, int8 weights, integrate-and-fire layers with soft reset, read out as potentials."""
    rng = np.random.default_rng(0)
    nodes: list[Input | Synapse | Soma | Output] = [Input("input", sizes[0], 0, 255)]
    edges = []
    before = "input"
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        last = i == len(sizes) - 2
        weight = rng.integers(-127, 128, size=(fan_out, fan_in))
        theta = 400_000 if i == 0 else 900
        neuron = Soma(f"soma{i}", fan_out, fire="none") if last else Soma(f"soma{i}", fan_out, theta=theta)
        nodes += [Synapse(f"w{i}", "linear", weight), neuron]
        edges += [(before, f"w{i}"), (f"w{i}", f"soma{i}")]
        before = f"soma{i}"
    nodes.append(Output("out", "potential"))
    return Program(nodes=nodes, edges=[*edges, (before, "out")], steps=steps)


def conv_net(*, steps: int = 4, channels: int = 64) -> Program:
    """Two 3x3 convolutions on 32x32 pixels, 3 -> 64 -> 64 channels, the second with stride 2; spike counts out."""
    rng, c = np.random.default_rng(1), channels
    first = rng.integers(-127, 128, size=(c, 3, 3, 3))
    second = rng.integers(-127, 128, size=(c, c, 3, 3))
    return Program(
        nodes=[
            Input("input", (3, 32, 32), 0, 255),
            Synapse("conv0", "conv2d", first, padding=1),
            Soma("soma0", (c, 32, 32), theta=100_000),
            Synapse("conv1", "conv2d", second, padding=1, stride=2),
            Soma("soma1", (c, 16, 16), theta=1_500),
            Output("out", "count"),
        ],
        edges=[("input", "conv0"), ("conv0", "soma0"), ("soma0", "conv1"), ("conv1", "soma1"), ("soma1", "out")],
        steps=steps,
    )


def pixels(program: Program, samples: int) -> NDArray[np.int64]:
    """Random 8-bit samples for the program's input."""
    rng = np.random.default_rng(2)
    return rng.integers(0, 256, size=(samples, *program.inputs[0].shape))


MEAN, STD = [125.0, 123.0, 114.0], [63.0, 62.0, 67.0]


@lru_cache(maxsize=8)
def converted(name: str, *, steps: int = 4, levels: int = 1) -> Program:
    """A net of the zoo with calibrated random weights, converted to IF neurons, as an integer program for 32x32 pixels.

    `steps` = 1 with `levels` = 4 converts the source for one graded step; `fuse-time` is for nets of `summing`.
    """
    from snn2chip_models import build

    from benchmarks.lowering.random_weights import calibrate, tune
    from snn2chip.compiler import compile_graph
    from snn2chip.convert import to_if

    torch.manual_seed(0)
    raw, given = _images(8 if name == "resnet18" else 32)  # sets weights and ranges; the large net takes its time
    model = build(name, activation="qcfs", L=4, neuron_args={"vth": 2.0}).eval()
    calibrate(model, given, rate=0.35)
    graph = tune(to_if(model, given[:4], steps=steps, levels=levels), given)
    return compile_graph(graph, given[:4], calibration=raw, normalise={"scale": 1.0, "mean": MEAN, "std": STD})[0]


def _images(count: int) -> tuple[NDArray[np.int64], torch.Tensor]:
    """Random raw pixels, and what a model sees of them."""
    raw = np.random.default_rng(0).integers(0, 256, size=(count, 3, 32, 32))
    given = (torch.as_tensor(raw).float() - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    return raw, given


@lru_cache(maxsize=4)
def summing(name: str, *, steps: int, levels: int) -> Program:
    """A net of the zoo with LM-HT neurons of `levels` levels as they start: windows 1/T, leak 1.

    Such neurons only need the sum of their currents, so `fuse-time` applies (methods.md P2.9). Weights are random.
    """
    from snn2chip_models import build

    from benchmarks.lowering.random_weights import calibrate
    from snn2chip.compiler import compile as compile_module

    torch.manual_seed(0)
    raw, given = _images(32)
    model = build(name, activation="lmht", L=levels, T=steps).eval()
    calibrate(model, given, rate=0.35)
    return compile_module(model, given[:4], calibration=raw, normalise={"scale": 1.0, "mean": MEAN, "std": STD})


def float_forward(name: str, images: int, *, channels_last: bool) -> Callable[[], torch.Tensor]:
    """Forward of `images` images through the ordinary ReLU net of the same layers, norms folded into its biases."""
    from snn2chip_models import build

    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = build(name, activation="relu", bn=False).eval().to(memory_format=layout)
    x = torch.randn(images, 3, 32, 32).contiguous(memory_format=layout)

    def forward() -> torch.Tensor:
        with torch.inference_mode():
            return model(x)

    return forward
