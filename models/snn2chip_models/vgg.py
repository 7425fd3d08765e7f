"""VGG nets: stages of 3x3 convolutions with a pool behind each, one or more linear layers.

    vgg11            64 P 128 P 256,256 P 512,512 P 512,512 P
    vgg13            64,64 P 128,128 P 256,256 P 512,512,512 P 512 G    LM-HT's and EM-PF's, one linear head
    vgg13-standard   64,64 P 128,128 P 256,256 P 512,512 P 512,512 P
    vgg16            64,64 P 128,128 P 256,256,256 P 512,512,512 P 512,512,512 P
    vgg-snn          64,128 P 256,256 P 512,512 P 512,512 P             event frames 48 x 48
    small-vgg        16,16 P 32,32 P 64,64 P                            about 10 million products on CIFAR

P: 2x2 pool (average, or maximum by name), G: global average. `hidden = [4096, 4096]` adds the linear layers of the
original. `bn = False` gives the nets without norm, convolutions with biases. `seca` puts channel attention in
front of the neurons. Sources: Simonyan and Zisserman ICLR 2015; LM-HT and EM-PF papers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

from torch import Tensor, nn

from snn2chip.errors import InputError
from snn2chip.nn.base import check_choice
from snn2chip.nn.qat import quantize_neurons
from snn2chip.nn.seca import SECA
from snn2chip_models.stems import Named, Parts, start_weights

LastPool = Literal["pool", "global", "none"]

VGG11 = ((64,), (128,), (256, 256), (512, 512), (512, 512))
VGG13 = ((64, 64), (128, 128), (256, 256), (512, 512, 512), (512,))
VGG13_STANDARD = ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512))
VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
VGG_SNN = ((64, 128), (256, 256), (512, 512), (512, 512))
SMALL = ((16, 16), (32, 32), (64, 64))


class VGG(nn.Module):
    """Stages of convolutions, each with a pool; returns logits `[B,classes]`.

    `stem`, `activation`, `L`, `T`, `frames`, `neuron_args`: see `snn2chip_models.stems`. `bias` None: where there is
    no norm. `dropout` is for the hidden linear layers. Raises InputError that lists what does not fit.
    """

    def __init__(
        self,
        *,
        stages: Sequence[Sequence[int]] = SMALL,
        stem: str = "cifar",
        input_shape: Sequence[int] | None = None,
        classes: int = 10,
        hidden: Sequence[int] = (),
        last_pool: LastPool = "pool",
        pool: str = "avg",
        activation: str = "lmht",
        L: int | None = None,
        T: int | None = None,
        frames: str | int | None = None,
        weights: str = "float",
        bn: bool = True,
        bias: bool | None = None,
        seca: bool = False,
        dropout: float = 0.0,
        neuron_args: Mapping[str, Any] | None = None,
        qat: bool = False,
    ) -> None:
        super().__init__()
        check_choice("VGG", last_pool=(last_pool, get_args(LastPool)))
        if not 0 <= dropout < 1:
            raise InputError(f"VGG: dropout={dropout!r}, expected a share from 0 to below 1")
        parts = Parts(
            owner="VGG",
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
        self.stages = tuple(tuple(stage) for stage in stages)
        self.hidden = tuple(hidden)
        self.T = parts.steps
        self.input_shape, self.events = parts.shape, parts.format.events
        pixels = self._pixels(parts, last_pool)
        layers: Named = {}
        width = parts.shape[0]
        for s, stage in enumerate(self.stages, start=1):
            for c, outputs in enumerate(stage, start=1):
                first, tag = not layers, f"{s}_{c}"
                extra = parts.format.extra if first else 0
                made = parts.conv(inputs=width, outputs=outputs, edge=first, extra=extra, tag=tag)
                if seca:
                    made[f"seca{tag}"] = SECA()
                layers |= parts.entry(made) if first else made
                layers[f"act{tag}"] = parts.act(outputs, first=first)
                width = outputs
            if s < len(self.stages) or last_pool == "pool":
                layers[f"pool{s}"] = parts.pooling()
            elif last_pool == "global":
                layers[f"pool{s}"] = nn.AdaptiveAvgPool2d(1)
        layers["flatten"] = nn.Flatten()
        layers |= parts.head(inputs=width * pixels, hidden=self.hidden, classes=classes, dropout=dropout)
        self.layers = parts.chain(layers)
        start_weights(self)
        if qat:
            quantize_neurons(self)

    def _pixels(self, parts: Parts, last_pool: LastPool) -> int:
        """Return the pixels per channel that reach the head; InputError when the input is too small."""
        if not self.stages or not all(self.stages):
            raise InputError("VGG: every stage needs at least one convolution; give channels for each")
        halvings = len(self.stages) - (last_pool != "pool")
        size = [(n + 2 * parts.format.extra) >> halvings for n in parts.shape[1:]]
        if not all(size):
            raise InputError(
                f"VGG: {halvings} pools do not fit an input of {parts.shape[1]} x {parts.shape[2]} with "
                f"stem={parts.stem!r}; use fewer stages, or stem='mnist', which adds zeros around 28 x 28"
            )
        return 1 if last_pool == "global" else size[0] * size[1]

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits `[B,classes]`, averaged over the steps."""
        logits: Tensor = self.layers(x)
        return logits


def _preset(**fixed: Any) -> Callable[..., VGG]:
    def factory(**args: Any) -> VGG:
        return VGG(**{**fixed, **args})

    return factory


vgg11 = _preset(stages=VGG11)
vgg13 = _preset(stages=VGG13, last_pool="global")
vgg13_standard = _preset(stages=VGG13_STANDARD)
vgg16 = _preset(stages=VGG16)
small_vgg = _preset(stages=SMALL)


def vgg_snn(**args: Any) -> VGG:
    """Return the net for event frames 48 x 48: ten steps, or one for ReLU and QCFS on the averaged frame."""
    steps = {} if args.get("activation") in ("relu", "qcfs") else {"T": 10}
    return VGG(**{"stages": VGG_SNN, "stem": "dvs", **steps, **args})
