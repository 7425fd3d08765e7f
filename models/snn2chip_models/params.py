"""Parameter bytes of nets with binary or ternary weights, as the EM-PF papers count them and as they are stored.

    bytes = 4*(first convolution + classifier with bias + SECA) + b*(binary or ternary weights)

    charge      binary b      ternary b
    float32     4             4           every weight in full precision
    paper       2/8           3/8         what the papers' tables are made of: two bits for a binary weight
    honest      1/8           2/8         what the weights need

Norms and neuron parameters are not counted. `NETS` holds the weight shapes of the papers' nets as plain data:
ResNet-18/34 with binary 1x1 shortcuts, VGG-13 and VGG-SNN with one linear head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, get_args

import attrs

from snn2chip.errors import InputError

if TYPE_CHECKING:
    from torch import nn

WeightKind = Literal["full", "binary", "ternary"]
ChargeName = Literal["float32", "paper", "honest"]

BITS: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "float32": {"full": 32, "binary": 32, "ternary": 32},
        "paper": {"full": 32, "binary": 2, "ternary": 3},
        "honest": {"full": 32, "binary": 1, "ternary": 2},
    }
)


@attrs.frozen(kw_only=True)
class WeightShape:
    """One counted parameter tensor: its shape, and whether it has full precision, one bit or three values."""

    name: str
    shape: tuple[int, ...]
    kind: WeightKind = "full"

    @property
    def count(self) -> int:
        """Number of values."""
        return prod(self.shape)


def parameter_bytes(weights: Iterable[WeightShape], *, charge: ChargeName = "paper") -> float:
    """Return the bytes of these tensors, exact in eighths; InputError for an unknown charge."""
    if charge not in get_args(ChargeName):
        raise InputError(f"charge={charge!r} is unknown; known: {', '.join(get_args(ChargeName))}")
    return sum(BITS[charge][weight.kind] * weight.count for weight in weights) / 8


def model_weights(model: nn.Module) -> tuple[WeightShape, ...]:
    """Return the counted tensors of a model: convolutions, linear layers and SECA, in the model's order."""
    from torch import nn

    from snn2chip.nn.binary import BinaryConv2d, BinaryLinear, TernaryConv2d, TernaryLinear

    found = []
    for path, module in model.named_modules():
        if not isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear)):
            continue
        kind: WeightKind = "full"
        if isinstance(module, (BinaryConv2d, BinaryLinear, TernaryConv2d, TernaryLinear)):
            kind = "binary" if module.weight_bits == 1 else "ternary"
        found.append(WeightShape(name=f"{path}.weight", shape=tuple(module.weight.shape), kind=kind))
        if module.bias is not None:
            found.append(WeightShape(name=f"{path}.bias", shape=tuple(module.bias.shape)))
    return tuple(found)


def head(inputs: int, classes: int) -> list[WeightShape]:
    """Return the classifier with its bias."""
    return [WeightShape(name="head.weight", shape=(classes, inputs)), WeightShape(name="head.bias", shape=(classes,))]


def resnet(
    blocks: Sequence[int], *, classes: int, inputs: int = 3, stem: int = 3, kind: WeightKind = "binary"
) -> tuple[WeightShape, ...]:
    """Return a ResNet of two-convolution blocks with 64, 128, 256, 512 channels and a `stem` x `stem` stem."""
    found = [WeightShape(name="stem.weight", shape=(64, inputs, stem, stem))]
    width = 64
    for stage, count in enumerate(blocks):
        outputs = 64 << stage
        for block in range(count):
            name = f"stage{stage + 1}.{block}"
            found.append(WeightShape(name=f"{name}.conv1", shape=(outputs, width, 3, 3), kind=kind))
            found.append(WeightShape(name=f"{name}.conv2", shape=(outputs, outputs, 3, 3), kind=kind))
            if width != outputs:
                found.append(WeightShape(name=f"{name}.shortcut", shape=(outputs, width, 1, 1), kind=kind))
            width = outputs
    return (*found, *head(width, classes))


def vgg(
    channels: Sequence[int], *, classes: int, inputs: int = 3, pixels: int = 1, kind: WeightKind = "binary"
) -> tuple[WeightShape, ...]:
    """Return 3x3 convolutions of these channels, the first in full precision; `pixels` reach the head per channel."""
    found, width = [], inputs
    for index, outputs in enumerate(channels):
        full: WeightKind = "full" if index == 0 else kind
        found.append(WeightShape(name=f"conv{index + 1}", shape=(outputs, width, 3, 3), kind=full))
        width = outputs
    return (*found, *head(width * pixels, classes))


VGG13 = (64, 64, 128, 128, 256, 256, 512, 512, 512, 512)
VGG_SNN = (64, 128, 256, 256, 512, 512, 512, 512)

NETS: Mapping[str, Callable[[], tuple[WeightShape, ...]]] = MappingProxyType(
    {
        "resnet18-cifar10": lambda: resnet((2, 2, 2, 2), classes=10),
        "resnet18-cifar100": lambda: resnet((2, 2, 2, 2), classes=100),
        "vgg13-imagenet200": lambda: vgg(VGG13, classes=200),
        "resnet34-imagenet1k": lambda: resnet((3, 4, 6, 3), classes=1000, stem=7),
        "resnet18-dvscifar10": lambda: resnet((2, 2, 2, 2), classes=10, inputs=2),
        "vggsnn-dvscifar10": lambda: vgg(VGG_SNN, classes=10, inputs=2, pixels=9),
    }
)
