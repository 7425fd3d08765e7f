"""Input normalisation with zero padding, against the normalisation's own equation in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snn2chip.errors import TraceError
from snn2chip.frontends.torch import trace
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.linear_layers import Conv2dLayer
from snn2chip.nn import QCFS, BinaryConv2d
from snn2chip.passes import run_passes

SCALE, MEAN, STD = 1 / 255, [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]


def pixels(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(5))


def truth(raw: Tensor, weight: Tensor, bias: Tensor, *, mean: list[float], padding: int) -> Tensor:
    """Normalise in float64, then convolve with zero padding of the normalised image."""
    m, s = (torch.tensor(v, dtype=torch.float64)[:, None, None] for v in (mean, STD))
    x = (raw.double() * SCALE - m) / s
    return F.conv2d(x, weight.detach().double(), bias.detach().double(), padding=padding)


def conv_graph(*, padding: int, mean: list[float]) -> tuple[LayerGraph, nn.Conv2d]:
    torch.manual_seed(3)
    conv = nn.Conv2d(3, 6, 3, padding=padding)
    graph = trace(nn.Sequential(conv), torch.rand(2, 3, 7, 7))
    return graph.with_normalisation(scale=SCALE, mean=mean, std=STD), conv


def border_sum(conv: Conv2dLayer, *, size: int, padding: int) -> Tensor:
    """Return the predicted error `[O, H, W]`: what every tap on padding adds."""
    assert conv.border_error is not None
    outside = 1 - F.pad(torch.ones(3, size, size, dtype=torch.float64), (padding,) * 4)
    return F.conv2d(outside, conv.border_error)


def test_padding_means_mean_up_to_the_recorded_border_error() -> None:
    graph, conv = conv_graph(padding=1, mean=MEAN)
    lowered = run_passes(graph)
    offset = lowered.input.offset
    assert offset is not None
    assert offset.tolist() == [125.0, 123.0, 114.0]  # 255*mean = 125.307, 122.961, 113.8575
    raw = pixels(4, 3, 7, 7)
    expected = truth(raw, conv.weight, conv.bias, mean=MEAN, padding=1)  # type: ignore[arg-type]
    got = lowered.run(raw.double()).output
    error = got - expected
    tolerance = 1e-12 * float(expected.abs().max())
    assert float(error[:, :, 1:-1, 1:-1].abs().max()) < tolerance
    (folded,) = lowered.of_kind("conv2d")
    assert isinstance(folded, Conv2dLayer)
    assert float((error - border_sum(folded, size=7, padding=1)).abs().max()) < tolerance
    notes = {note.layer: note.value for note in lowered.notes if note.by == "fold-input-norm"}
    assert notes["input"] == pytest.approx(0.307, abs=1e-9)  # grey levels, at most one half
    assert notes["conv1"] == pytest.approx(float(folded.border_error.abs().max()))  # type: ignore[union-attr]

    # what the test is for: zero padding of raw pixels is wrong by far more than the rounded mean
    m, s = torch.tensor(MEAN, dtype=torch.float64), torch.tensor(STD, dtype=torch.float64)
    weight = conv.weight.detach().double() * (SCALE / s)[:, None, None]
    bias = conv.bias.detach().double() - (conv.weight.detach().double() * (m / s)[:, None, None]).sum((1, 2, 3))  # type: ignore[union-attr]
    zero_padded = F.conv2d(raw.double(), weight, bias, padding=1)
    assert float((zero_padded - expected)[:, :, 1:-1, 1:-1].abs().max()) < tolerance
    assert float((zero_padded - expected).abs().max()) > 50 * float(error.abs().max())
    unrounded = F.conv2d(raw.double() - offset[:, None, None], weight, conv.bias.detach().double(), padding=1)  # type: ignore[union-attr]
    assert float((unrounded - expected)[:, :, 1:-1, 1:-1].abs().max()) > 1e6 * tolerance, "forgetting the remainder"


@pytest.mark.parametrize(
    ("padding", "mean"),
    [(0, MEAN), (1, [100 / 255, 51 / 255, 204 / 255]), (2, [0.0, 0.0, 0.0])],
    ids=["no padding", "integer mean", "no mean"],
)
def test_exact_without_a_remainder_on_padding(padding: int, mean: list[float]) -> None:
    graph, conv = conv_graph(padding=padding, mean=mean)
    raw = pixels(4, 3, 7, 7)
    expected = truth(raw, conv.weight, conv.bias, mean=mean, padding=padding)  # type: ignore[arg-type]
    got = run_passes(graph).run(raw.double()).output
    assert float((got - expected).abs().max()) < 1e-10 * float(expected.abs().max())


class InModel(nn.Module):
    """Normalises by itself: subtraction, division, a norm on the input."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1))
        self.norm, self.conv = nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3, padding=1)
        self.act = QCFS(levels=4, vth=2.0, step_mode="s")

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(self.norm((x - self.mean) / 0.25)))


def test_normalisation_inside_the_model_is_taken_over() -> None:
    torch.manual_seed(4)
    model = InModel().eval()
    model.norm.running_mean, model.norm.running_var = torch.tensor([0.3, -0.1, 0.2]), torch.tensor([0.8, 1.3, 2.0])
    graph = trace(model, torch.rand(2, 3, 6, 6)).with_normalisation(scale=SCALE)
    lowered = run_passes(graph)
    assert [layer.kind for layer in lowered.layers] == ["input", "conv2d", "neuron", "output"]
    # x*255 where the normalised value is 0: 255*(mean + 0.25*running mean)
    at_zero = [255 * (m + 0.25 * r) for m, r in zip(MEAN, [0.3, -0.1, 0.2], strict=True)]
    assert lowered.input.offset is not None
    assert lowered.input.offset.tolist() == [round(v) for v in at_zero]
    raw = pixels(3, 3, 6, 6).double()
    run, original = (g.run(raw, collect=True) for g in (lowered, graph))
    inside = (slice(None), slice(None), slice(None), slice(1, -1), slice(1, -1))
    potentials = run.before["neuron1"][inside] - original.before["neuron1"][inside]
    assert float(potentials.abs().max()) < 1e-12 * float(original.before["neuron1"].abs().max())
    assert bool((run.values["neuron1"] != 0).any())


def test_undeclared_unit_is_not_rounded() -> None:
    """Without integers to round to, the shift in front of padding stays exact behind a relay."""
    torch.manual_seed(4)
    model = InModel().eval()
    graph = trace(model, torch.rand(2, 3, 6, 6))
    lowered = run_passes(graph)
    assert lowered.input.offset is None
    assert [layer.kind for layer in lowered.layers] == ["input", "scale", "neuron", "conv2d", "neuron", "output"]
    x = torch.rand(3, 3, 6, 6).double()
    run, original = (g.run(x, collect=True) for g in (lowered, graph))
    assert float((run.before["neuron1"] - original.before["neuron1"]).abs().max()) < 1e-12


class TwoReaders(nn.Module):
    """A convolution, a pool in front of a neuron and a neuron read the same input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(3, 3, 2, stride=2), nn.AvgPool2d(2)
        self.act1, self.act2, self.act3 = (QCFS(levels=4, vth=2.0, step_mode="s") for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.act1(self.conv(x)) + self.act2(self.pool(x)) + self.pool(self.act3(x))


def test_every_reader_of_the_input_is_told() -> None:
    torch.manual_seed(4)
    graph = trace(TwoReaders(), torch.randn(2, 3, 6, 6)).with_normalisation(scale=SCALE, mean=MEAN, std=STD)
    lowered = run_passes(graph)
    assert lowered.input.offset is not None
    raw = pixels(3, 3, 6, 6).double()
    run, original = (g.run(raw, collect=True) for g in (lowered, graph))
    for name in ("neuron1", "neuron2", "neuron3"):
        assert float((run.before[name] - original.before[name]).abs().max()) < 1e-12
        assert bool((run.values[name] != 0).any())


@pytest.mark.parametrize(("std", "kind"), [([0.25, 0.25, 0.25], "binary"), (STD, None)])
def test_binary_first_layer(std: list[float], kind: str | None) -> None:
    """One std for all channels keeps the weights binary; different ones cannot, and that is noted."""
    torch.manual_seed(4)
    graph = trace(nn.Sequential(BinaryConv2d(3, 4, 3)), torch.rand(2, 3, 5, 5))
    lowered = run_passes(graph.with_normalisation(scale=SCALE, mean=MEAN, std=std))
    (conv,) = lowered.of_kind("conv2d")
    assert isinstance(conv, Conv2dLayer)
    assert (conv.parts.kind if conv.parts is not None else None) == kind
    assert any("became dense" in note.text for note in lowered.notes) == (kind is None)


def test_mean_needs_a_unit() -> None:
    graph, _ = conv_graph(padding=1, mean=MEAN)
    with pytest.raises(TraceError, match=r"std must be positive"):
        graph.with_normalisation(scale=1.0, mean=0.5, std=0.0)
    with pytest.raises(TraceError, match=r"mean has shape \[2\], expected a number or \[3\]"):
        graph.with_normalisation(scale=1.0, mean=[0.5, 0.5])
