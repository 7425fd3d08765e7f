"""Param.(B): all six nets of the papers' table at two bits and at one, full precision, ternary, and real modules."""

from __future__ import annotations

import pytest
import torch
from snn2chip_models.blocks_empf import empf_stages
from snn2chip_models.params import NETS, model_weights, parameter_bytes, resnet
from torch import nn

from snn2chip.errors import InputError
from snn2chip.nn import SECA, BinaryConv2d, TernaryConv2d

# net -> megabytes in full precision and with binary weights as the papers print them; values of stem + head, and
# binary values, added up by hand: 64*inputs*9 (R34: 64*3*49) + classes*(features + 1), and all 3x3 and 1x1 weights
TABLE = {
    "resnet18-cifar10": (44.66, 2.82, 1728 + 5130, 11157504),
    "resnet18-cifar100": (44.84, 3.00, 1728 + 51300, 11157504),
    "vgg13-imagenet200": (38.02, 2.77, 1728 + 102600, 9400320),
    "resnet34-imagenet1k": (87.12, 7.40, 9408 + 513000, 21258240),
    "resnet18-dvscifar10": (44.66, 2.81, 1152 + 5130, 11157504),
    "vggsnn-dvscifar10": (37.05, 2.49, 1152 + 46090, 9216000),
}
ONE_BIT = {  # megabytes at one bit a weight
    "resnet18-cifar10": 1.422,
    "resnet18-cifar100": 1.607,
    "vgg13-imagenet200": 1.592,
    "resnet34-imagenet1k": 4.747,
    "resnet18-dvscifar10": 1.420,
    "vggsnn-dvscifar10": 1.341,
}


@pytest.mark.parametrize("name", sorted(NETS))
def test_the_papers_table(name: str) -> None:
    printed, reported, full, binary = TABLE[name]
    weights = NETS[name]()
    assert parameter_bytes(weights, charge="float32") == 4 * (full + binary)
    assert parameter_bytes(weights, charge="paper") == 4 * full + 0.25 * binary
    assert parameter_bytes(weights, charge="honest") == 4 * full + 0.125 * binary
    assert round(parameter_bytes(weights, charge="float32") / 1e6, 2) == printed
    assert round(parameter_bytes(weights, charge="paper") / 1e6, 2) == reported
    assert round(parameter_bytes(weights, charge="honest") / 1e6, 3) == ONE_BIT[name]


def test_every_net_of_the_table_is_there() -> None:
    assert set(NETS) == set(TABLE) == set(ONE_BIT)


def test_ternary_figures_of_the_later_version() -> None:
    """4.40 MB for ResNet-18 on CIFAR-100 and 10.06 MB for ResNet-34 on ImageNet: three bits a weight."""
    small = resnet((2, 2, 2, 2), classes=100, kind="ternary")
    large = resnet((3, 4, 6, 3), classes=1000, stem=7, kind="ternary")
    assert round(parameter_bytes(small) / 1e6, 2) == 4.40
    assert round(parameter_bytes(large) / 1e6, 2) == 10.06
    assert parameter_bytes(small, charge="honest") == 4 * (1728 + 51300) + 0.25 * 11157504


def test_bytes_by_hand() -> None:
    """One full 1x3x3 conv of 4 channels (36 values), 144 binary weights, head 4 -> 2 with bias, one attention."""
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), BinaryConv2d(4, 4, 3), SECA(5), nn.Linear(4, 2)
    )
    full = 36 + 6 + 10
    assert parameter_bytes(model_weights(model), charge="paper") == 4 * full + 0.25 * 144
    assert parameter_bytes(model_weights(model), charge="honest") == 4 * full + 0.125 * 144
    assert parameter_bytes(model_weights(model), charge="float32") == 4 * (full + 144)
    ternary = nn.Sequential(TernaryConv2d(4, 4, 3))
    assert parameter_bytes(model_weights(ternary)) == 0.375 * 144
    assert parameter_bytes(model_weights(ternary), charge="honest") == 0.25 * 144
    with pytest.raises(InputError, match="known: float32, paper, honest"):
        parameter_bytes((), charge="two")  # type: ignore[arg-type]


@pytest.mark.parametrize(("seca", "more"), [("none", 0), ("II", 8 * 2 * 6)])
def test_a_real_resnet18_of_blocks_counts_like_the_table(seca: str, more: int) -> None:
    """The module itself, neurons and norms left out; each of 8 blocks has two attentions of K + 1 = 6 parameters."""
    with torch.device("meta"):
        stages = empf_stages(
            blocks=(2, 2, 2, 2), channels=(64, 128, 256, 512), strides=(1, 2, 2, 2), inputs=64, steps=4, seca=seca
        )
        model = nn.Sequential(nn.Conv2d(3, 64, 3, bias=False), stages, nn.Linear(512, 10))
    weights = model_weights(model)
    for charge in ("float32", "paper", "honest"):
        expected = parameter_bytes(NETS["resnet18-cifar10"](), charge=charge) + 4 * more
        assert parameter_bytes(weights, charge=charge) == expected
