"""EM-PF's residual nets: binary pre-activation blocks between a stem and a head in full precision.

    current = norm(conv(x)), repeated T times;  stages of EMPFBlock;  global average;  linear head;  mean over T

No neuron stands between stem and first block, and none behind the last block. `version` I or II (membrane norm),
`parallel` puts version III behind the first convolution of every block, `seca` adds channel attention. With
binary weights the bytes are those of the paper's table (`snn2chip_models.params`).

    resnet18-empf, resnet34-empf    64..512 channels      resnet19-empf   128,256,512       resnet20-empf   16,32,64
    resnet50-empf, resnet101-empf   bottlenecks, 256..2048 channels out

Source: Hao et al. (EM-PF, arXiv 2410.07547).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from snn2chip.nn.binary import InitName
from snn2chip.nn.qat import quantize_neurons
from snn2chip_models.blocks_empf import SecaName, VersionName, empf_stages
from snn2chip_models.resnet import EXPANSION
from snn2chip_models.stems import Named, Parts, start_weights

_NEURON = {"I": "empf", "II": "empf-norm"}


class EMPFResNet(nn.Module):
    """Binary residual net with EM-PF neurons; returns logits `[B,classes]`.

    `version`, `parallel`, `seca`, `binary_init`, `neuron_args` as in `EMPFBlock`; `stem`, `frames`: see
    `snn2chip_models.stems`. Raises InputError that lists what does not fit.
    """

    def __init__(
        self,
        *,
        blocks: Sequence[int] = (2, 2, 2, 2),
        channels: Sequence[int] = (64, 128, 256, 512),
        strides: Sequence[int] = (1, 2, 2, 2),
        stem_channels: int = 64,
        version: VersionName = "I",
        parallel: bool = True,
        bottleneck: bool = False,
        seca: SecaName = "none",
        weights: str = "binary",
        binary_init: InitName = "kaiming",
        stem: str = "cifar",
        input_shape: Sequence[int] | None = None,
        classes: int = 10,
        pool: str = "avg",
        T: int = 4,
        frames: str | None = None,
        neuron_args: Mapping[str, Any] | None = None,
        qat: bool = False,
    ) -> None:
        super().__init__()
        parts = Parts(
            owner="EMPFResNet",
            stem=stem,
            input_shape=None if input_shape is None else tuple(input_shape),
            activation=_NEURON.get(version, "empf"),
            L=None,
            T=T,
            weights=weights,
            pool=pool,
            frames=frames,
            bn=True,
            bias=None,
            neuron_args={},
        )
        shape = parts.format
        start = parts.conv(
            inputs=parts.shape[0],
            outputs=stem_channels,
            kernel=shape.kernel,
            stride=shape.stride,
            extra=shape.extra,
            edge=True,
        )
        entry = parts.entry(start)
        if shape.pool:
            entry["pool"] = parts.pooling(3, stride=2, padding=1)
        self.T = parts.steps
        self.stem = parts.chain(entry)
        self.stages = empf_stages(
            blocks=blocks,
            channels=channels,
            strides=strides,
            inputs=stem_channels,
            steps=parts.steps,
            expansion=EXPANSION if bottleneck else None,
            version=version,
            parallel=parallel,
            seca=seca,
            weights=weights,
            binary_init=binary_init,
            neuron_args=neuron_args,
        )
        head: Named = {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
        outputs = channels[-1] * (EXPANSION if bottleneck else 1)
        self.head = parts.chain({**head, **parts.head(inputs=outputs, hidden=(), classes=classes)})
        start_weights(self)
        if qat:
            quantize_neurons(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits `[B,classes]`, averaged over the steps."""
        logits: Tensor = self.head(self.stages(self.stem(x)))
        return logits


def _preset(**fixed: Any) -> Callable[..., EMPFResNet]:
    def factory(**args: Any) -> EMPFResNet:
        return EMPFResNet(**{**fixed, **args})

    return factory


resnet18 = _preset(blocks=(2, 2, 2, 2))
resnet19 = _preset(blocks=(3, 3, 2), channels=(128, 256, 512), strides=(1, 2, 2))
resnet20 = _preset(blocks=(3, 3, 3), channels=(16, 32, 64), strides=(1, 2, 2), stem_channels=16)
resnet34 = _preset(blocks=(3, 4, 6, 3))
resnet50 = _preset(blocks=(3, 4, 6, 3), bottleneck=True)
resnet101 = _preset(blocks=(3, 4, 23, 3), bottleneck=True)
