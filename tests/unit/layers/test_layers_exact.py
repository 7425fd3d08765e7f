"""Every supported layer between spikes: the integers are those of the torch model, spike by spike."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snn2chip.nn import IF
from snn2chip.testing.whole import assert_exact, folded, spikes, whole

T = 4
Stage = Callable[[], nn.Module]


class Between(nn.Module):
    """conv, spikes, the layer, spikes, linear: the layer reads binary spikes and its result fires again."""

    def __init__(self, layer: nn.Module, *, rows: bool = False, fires: bool = True, conv: bool = False) -> None:
        super().__init__()
        self.first = nn.Conv1d(2, 4, 3, padding=1) if rows else nn.Conv2d(2, 4, 3, padding=1)
        self.spike, self.layer = IF(steps=T, theta=2.0), layer
        self.mix: nn.Module = nn.LazyConv2d(3, 3, padding=1) if conv else nn.Identity()
        self.fire: nn.Module = IF(steps=T, theta=4.0) if fires else nn.Identity()
        self.head = nn.LazyLinear(3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.spike(folded(self.first, x))
        y = self.fire(folded(self.mix, folded(self.layer, y)))
        return folded(self.head, y.flatten(2)).mean(0)


def between(layer: nn.Module, *sample: int, rows: bool = False, fires: bool = True, conv: bool = False) -> nn.Module:
    net = Between(layer, rows=rows, fires=fires, conv=conv)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lazy layers
        net(torch.zeros(T, 1, *sample))
    return whole(net)


PLANES: dict[str, Stage] = {
    "grouped": lambda: nn.Conv2d(4, 6, 3, groups=2),
    "depthwise": lambda: nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=4),
    "depthwise, two each": lambda: nn.Conv2d(4, 8, 3, dilation=2, padding=2, groups=4, bias=False),
    "transposed": lambda: nn.ConvTranspose2d(4, 3, 3),
    "transposed, stride 2": lambda: nn.ConvTranspose2d(4, 3, 4, stride=2, padding=1),
    "transposed, odd": lambda: nn.ConvTranspose2d(4, 3, 3, stride=(2, 3), padding=1, output_padding=(1, 0)),
    "transposed, groups": lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, dilation=(2, 1), groups=2),
    "transposed, cropped": lambda: nn.ConvTranspose2d(4, 3, 2, stride=2, padding=2),
    "transposed, gaps": lambda: nn.ConvTranspose2d(4, 3, 1, stride=2, output_padding=1),
    "maximum": lambda: nn.MaxPool2d(2),
    "maximum, overlapping": lambda: nn.MaxPool2d(3, stride=1, padding=1),
    "maximum of maximum": lambda: nn.Sequential(nn.MaxPool2d(2), nn.Dropout(0.5), nn.MaxPool2d((1, 3))),
    "maximum, adaptive": lambda: nn.AdaptiveMaxPool2d((3, 2)),
    "average, adaptive": lambda: nn.AdaptiveAvgPool2d((4, 9)),
    "upsampled": lambda: nn.Upsample(scale_factor=2),
    "upsampled by size": lambda: nn.Upsample(size=(7, 9)),
    "upsampled unevenly": lambda: nn.Upsample(scale_factor=(1.5, 2.0)),
}


@pytest.mark.parametrize("name", PLANES)
def test_between_spikes(name: str) -> None:
    assert_exact(between(PLANES[name](), 2, 6, 6), spikes(T, 5, 2, 6, 6))


@pytest.mark.parametrize("name", ["maximum", "average, adaptive", "upsampled", "transposed, stride 2"])
def test_then_a_convolution(name: str) -> None:
    assert_exact(between(PLANES[name](), 2, 6, 6, conv=True), spikes(T, 5, 2, 6, 6))


@pytest.mark.parametrize("name", ["maximum", "upsampled", "average, adaptive"])
def test_then_a_linear_layer(name: str) -> None:
    assert_exact(between(PLANES[name](), 2, 6, 6, fires=False), spikes(T, 5, 2, 6, 6))


ROWS: dict[str, Stage] = {
    "conv": lambda: nn.Conv1d(4, 3, 3, stride=2),
    "conv, same": lambda: nn.Conv1d(4, 4, 5, padding="same", groups=2),
    "transposed": lambda: nn.ConvTranspose1d(4, 3, 4, stride=2, padding=1),
    "average": lambda: nn.AvgPool1d(2),
    "average, adaptive": lambda: nn.AdaptiveAvgPool1d(24),
    "maximum": lambda: nn.MaxPool1d(3, stride=2, padding=1),
    "upsampled": lambda: nn.Upsample(scale_factor=2),
}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("fires", [True, False])
def test_over_one_axis(name: str, fires: bool) -> None:
    """`[T, B, C, L]` events: samples keep their shape, the program works on planes of height 1."""
    program = assert_exact(between(ROWS[name](), 2, 16, rows=True, fires=fires), spikes(T, 5, 2, 16))
    assert program.inputs[0].raw_shape == (2, 16)
    assert program.inputs[0].shape == (2, 1, 16)


class Forms(nn.Module):
    """The same layers as functions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.spike = nn.Conv2d(2, 4, 3, padding=1), IF(steps=T, theta=2.0)
        self.weight = nn.Parameter(torch.zeros(4, 2, 3, 3))
        self.head = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.spike(folded(self.first, x)).flatten(0, 1)
        y = F.interpolate(F.max_pool2d(y, 2), size=(4, 4))
        y = F.conv_transpose2d(y, self.weight, None, 2, 1, 1)
        return self.head(y.mean((-2, -1))).unflatten(0, x.shape[:2]).sum(0)


def test_functions() -> None:
    """Functional forms, and a global average that becomes part of the linear layer."""
    net = whole(Forms())
    net.weight.data = torch.randint(-2, 3, net.weight.shape, generator=torch.Generator().manual_seed(3)).float()
    assert_exact(net, spikes(T, 5, 2, 4, 4))


@pytest.mark.lava
@pytest.mark.parametrize("name", ["depthwise", "transposed, stride 2", "maximum, overlapping", "upsampled"])
def test_lava_sends_the_same(name: str) -> None:
    assert_exact(between(PLANES[name](), 2, 6, 6), spikes(T, 2, 2, 6, 6), backends=("reference", "lava"))


@pytest.mark.lava
def test_lava_over_one_axis() -> None:
    assert_exact(between(ROWS["maximum"](), 2, 16, rows=True), spikes(T, 2, 2, 16), backends=("reference", "lava"))
