"""Parameter counts of the full-size nets against published figures and the papers' byte table, on the meta device."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from snn2chip_models import build
from snn2chip_models.params import NETS, ChargeName, model_weights, parameter_bytes
from torch import nn

IMAGENET = {"stem": "imagenet", "classes": 1000, "activation": "relu", "pool": "max"}
ORIGINAL = {**IMAGENET, "hidden": [4096, 4096], "bias": True}
COUNTS: dict[str, tuple[dict[str, Any], int]] = {  # torchvision's published numbers of parameters
    "resnet18": (IMAGENET, 11689512),
    "resnet34": (IMAGENET, 21797672),
    "resnet50": (IMAGENET, 25557032),
    "resnet101": (IMAGENET, 44549160),
    "vgg11": ({**ORIGINAL, "bn": False}, 132863336),
    "vgg13-standard": ({**ORIGINAL, "bn": False}, 133047848),
    "vgg16": ({**ORIGINAL, "bn": False}, 138357544),
}
TABLE: dict[str, tuple[str, dict[str, Any]]] = {  # net of the papers' table -> zoo model and arguments
    "resnet18-cifar10": ("resnet18-empf", {}),
    "resnet18-cifar100": ("resnet18-empf", {"classes": 100}),
    "vgg13-imagenet200": (
        "vgg13",
        {"activation": "empf", "weights": "binary", "classes": 200, "input_shape": [3, 64, 64]},
    ),
    "resnet34-imagenet1k": ("resnet34-empf", {"classes": 1000, "stem": "imagenet"}),
    "resnet18-dvscifar10": ("resnet18-empf", {"stem": "dvs"}),
    "vggsnn-dvscifar10": ("vgg-snn", {"activation": "empf-norm", "weights": "binary"}),
}


def on_meta(name: str, **args: Any) -> nn.Module:
    with torch.device("meta"):
        return build(name, **args)


def size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_imagenet_nets_have_the_published_number_of_parameters(name: str) -> None:
    args, count = COUNTS[name]
    assert size(on_meta(name, **args)) == count


def test_norms_of_vgg16() -> None:
    """torchvision's vgg16_bn has 138,365,992 parameters: two more for each of 4224 channels."""
    assert size(on_meta("vgg16", **ORIGINAL)) == 138365992 == 138357544 + 2 * 4224


def test_resnet20_by_hand() -> None:
    """0.27 M without projections (He et al.): 269,722; two 1x1 projections with norm add 2560 + 192."""
    assert size(on_meta("resnet20", activation="relu")) == 269722 + 16 * 32 + 32 * 64 + 2 * (32 + 64)


def test_resnet19_by_hand() -> None:
    def block(a: int, b: int) -> int:
        return 9 * a * b + 9 * b * b + 4 * b + (a * b + 2 * b if a != b else 0)

    stages = block(64, 128) + 2 * block(128, 128) + block(128, 256) + 2 * block(256, 256)
    stages += block(256, 512) + block(512, 512)
    stem, head = 27 * 64 + 2 * 64, 512 * 256 + 256 + 256 * 10 + 10
    assert size(on_meta("resnet19", activation="relu")) == stem + stages + head


@pytest.mark.parametrize("net", sorted(NETS))
@pytest.mark.parametrize("charge", ["float32", "paper", "honest"])
def test_binary_nets_have_the_bytes_of_the_papers_table(net: str, charge: ChargeName) -> None:
    name, args = TABLE[net]
    found = parameter_bytes(model_weights(on_meta(name, **args)), charge=charge)
    assert found == parameter_bytes(NETS[net](), charge=charge)


@pytest.mark.parametrize(
    ("name", "classes", "count"),
    [("vgg16", 100, 14714688 + 4224 * 2 - 4224 + 512 * 100 + 100), ("vgg16", 10, 14714688 + 4224 + 512 * 10 + 10)],
)
def test_vgg16_on_cifar(name: str, classes: int, count: int) -> None:
    """14,714,688 parameters in the biased convolutions of VGG-16; norms put two per channel in place of one bias."""
    assert size(on_meta(name, classes=classes, activation="relu")) == count


def test_small_vgg_products() -> None:
    """About 10 million products on a 32 x 32 image: 9*(3*16 + 16*16)*1024 + 9*(16*32 + 32*32)*256 + .. ."""
    products = 9 * (48 + 256) * 1024 + 9 * (512 + 1024) * 256 + 9 * (2048 + 4096) * 64 + 64 * 16 * 10
    assert 9e6 < products < 11e6
    seen = 0
    model = build("small-vgg", activation="relu")

    def note(module: nn.Module, args: Any, output: torch.Tensor) -> None:
        nonlocal seen
        assert isinstance(module, nn.Conv2d | nn.Linear)
        seen += output[0].numel() * module.weight[0].numel()

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(note)
    model(torch.zeros(1, 3, 32, 32))
    assert seen == products
