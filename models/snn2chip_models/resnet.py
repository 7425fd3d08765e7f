"""Residual nets with any activation: blocks of two 3x3 or of 1x1, 3x3, 1x1 convolutions.

    standard         y = act(conv2(act(conv1(x))) + shortcut(x))          He et al. CVPR 2016; stride in the 3x3
    preactivation    y = conv2(act(conv1(act(x)))) + shortcut(x)          currents between blocks, no stem activation

(every conv with its norm.) shortcut: x itself, or a 1x1 convolution with norm where the shape changes.

    resnet18/34      2,2,2,2 / 3,4,6,3 blocks of two, 64..512 channels
    resnet50/101     3,4,6,3 / 3,4,23,3 blocks of three, 4 times the channels out
    resnet19         3,3,2 blocks of 128,256,512 channels, strides 1,2,2, one hidden linear layer of 256
    resnet20         3,3,3 blocks of 16,32,64 channels

`preactivation` with a neuron "empf", "empf-norm" and binary weights is EM-PF's form for any depth; the parallel
block and SECA are in `snn2chip_models.resnet_empf`. `bn = False` gives convolutions with biases and no norms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from snn2chip.errors import InputError
from snn2chip.nn.qat import quantize_neurons
from snn2chip_models.stems import Named, Parts, start_weights

EXPANSION = 4  # outputs of a block of three, in units of its inner channels


class ResidualBlock(nn.Module):
    """One residual unit `[..,inputs,H,W] -> [..,outputs,H/stride,W/stride]`; `width` inner channels."""

    def __init__(
        self, parts: Parts, *, inputs: int, width: int, stride: int, bottleneck: bool, preactivation: bool
    ) -> None:
        super().__init__()
        outputs = width * EXPANSION if bottleneck else width
        shapes = [(inputs, width, 3, stride), (width, outputs, 3, 1)]
        if bottleneck:
            shapes = [(inputs, width, 1, 1), (width, width, 3, stride), (width, outputs, 1, 1)]
        self.preactivation, self.depth, self.outputs = preactivation, len(shapes), outputs
        for index, (a, b, kernel, step) in enumerate(shapes, start=1):
            synapse = parts.chain(parts.conv(inputs=a, outputs=b, kernel=kernel, stride=step))
            self.add_module(f"synapse{index}", synapse)
            self.add_module(f"act{index}", parts.act(a if preactivation else b))
        self.shortcut: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.shortcut = parts.chain(parts.conv(inputs=inputs, outputs=outputs, kernel=1, stride=stride))

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's payloads, or currents in the pre-activation form."""
        same = x if self.shortcut is None else self.shortcut(x)
        y = x
        for index in range(1, self.depth + 1):
            synapse, act = getattr(self, f"synapse{index}"), getattr(self, f"act{index}")
            if self.preactivation:
                y = synapse(act(y))
            else:
                y = act(synapse(y) + same) if index == self.depth else act(synapse(y))
        return y + same if self.preactivation else y


class ResNet(nn.Module):
    """Stem, stages of blocks, global average, linear head; returns logits `[B,classes]`.

    `stem`, `activation`, `L`, `T`, `frames`, `neuron_args`, `host_stem`: see `snn2chip_models.stems`; `pool` is the
    stem's.
    Raises InputError that lists what does not fit.
    """

    def __init__(
        self,
        *,
        blocks: Sequence[int] = (2, 2, 2, 2),
        channels: Sequence[int] = (64, 128, 256, 512),
        strides: Sequence[int] = (1, 2, 2, 2),
        stem_channels: int = 64,
        bottleneck: bool = False,
        preactivation: bool = False,
        stem: str = "cifar",
        input_shape: Sequence[int] | None = None,
        classes: int = 10,
        hidden: Sequence[int] = (),
        pool: str = "avg",
        activation: str = "lmht",
        L: int | None = None,
        T: int | None = None,
        frames: str | int | None = None,
        host_stem: bool = False,
        weights: str = "float",
        bn: bool = True,
        bias: bool | None = None,
        neuron_args: Mapping[str, Any] | None = None,
        qat: bool = False,
    ) -> None:
        super().__init__()
        if not blocks or not len(blocks) == len(channels) == len(strides):
            raise InputError(
                f"ResNet: {len(blocks)} block counts, {len(channels)} channels and {len(strides)} strides; "
                "give one of each per stage"
            )
        parts = Parts(
            owner="ResNet",
            stem=stem,
            input_shape=None if input_shape is None else tuple(input_shape),
            activation=activation,
            L=L,
            T=T,
            weights=weights,
            pool=pool,
            frames=frames,
            bn=bn,
            bias=bias,
            neuron_args=dict(neuron_args or {}),
        )
        self.blocks, self.hidden, self.T = tuple(blocks), tuple(hidden), parts.steps
        self.input_shape, self.events = parts.shape, parts.format.events
        self.bottleneck, self.preactivation = bottleneck, preactivation
        if host_stem and (parts.format.events or preactivation):
            raise InputError("ResNet: host_stem needs a static input and a standard net, whose stem has an activation")
        if isinstance(frames, int) and preactivation:
            raise InputError("ResNet: frames as a number needs a standard net; here currents pass by the first neurons")
        self.stem = parts.chain(_stem(parts, outputs=stem_channels, preactivation=preactivation, host_stem=host_stem))
        stages: Named = {}
        inputs = stem_channels
        for s, (count, width, stride) in enumerate(zip(blocks, channels, strides, strict=True), start=1):
            made: Named = {}
            for b in range(count):
                block = ResidualBlock(
                    parts,
                    inputs=inputs,
                    width=width,
                    stride=1 if b else stride,
                    bottleneck=bottleneck,
                    preactivation=preactivation,
                )
                made[str(b)], inputs = block, block.outputs
            stages[f"stage{s}"] = parts.chain(made)
        self.stages = parts.chain(stages)
        head: Named = {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
        self.head = parts.chain({**head, **parts.head(inputs=inputs, hidden=self.hidden, classes=classes)})
        start_weights(self)
        if qat:
            quantize_neurons(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits `[B,classes]`, averaged over the steps."""
        logits: Tensor = self.head(self.stages(self.stem(x)))
        return logits


def _stem(parts: Parts, *, outputs: int, preactivation: bool, host_stem: bool) -> Named:
    """Return the first convolution in full precision, its activation, and ImageNet's pool; a host stem runs once."""
    shape = parts.format
    conv = parts.conv(
        inputs=parts.shape[0],
        outputs=outputs,
        kernel=shape.kernel,
        stride=shape.stride,
        extra=shape.extra,
        edge=True,
    )
    pool: Named = {"pool": parts.pooling(3, stride=2, padding=1)} if shape.pool else {}
    if host_stem:
        return parts.entry({**conv, "act": nn.ReLU(), **pool})
    made = parts.entry(conv)
    if not preactivation:
        made["act"] = parts.act(outputs, first=True)
    return {**made, **pool}


def _preset(**fixed: Any) -> Callable[..., ResNet]:
    def factory(**args: Any) -> ResNet:
        return ResNet(**{**fixed, **args})

    return factory


_NARROW = {"channels": (16, 32, 64), "strides": (1, 2, 2), "stem_channels": 16}
_WIDE = {"channels": (128, 256, 512), "strides": (1, 2, 2), "hidden": (256,)}

resnet18 = _preset(blocks=(2, 2, 2, 2))
resnet19 = _preset(blocks=(3, 3, 2), **_WIDE)
resnet20 = _preset(blocks=(3, 3, 3), **_NARROW)
resnet34 = _preset(blocks=(3, 4, 6, 3))
resnet50 = _preset(blocks=(3, 4, 6, 3), bottleneck=True)
resnet101 = _preset(blocks=(3, 4, 23, 3), bottleneck=True)
