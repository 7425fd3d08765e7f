"""What the larger nets are assembled from: stems for the input formats, and layers around any activation.

    cifar     [B,3,32,32]      3x3 stem                   mnist   [B,1,28,28]   3x3 stem, two extra zeros: 32 x 32
    imagenet  [B,3,224,224]    7x7 stem, stride 2, then a 3x3 pool of stride 2 (ResNets; VGG keeps 3x3)
    dvs       [T,B,2,48,48]    nmnist  [T,B,2,34,34]      event frames, every layer at every step

activation = "relu": an ordinary net on `[B,..]` (event frames are averaged first). "qcfs": the quantised net, T = 1
unless given. Any name in `snn2chip.nn.NEURONS`: a spiking net whose logits are averaged over T = 2 (or given) steps;
a static input passes the first convolution once and is repeated. `frames = "mean"` averages event frames into one
static input, as the released LM-HT code does; `frames = F`, a number, lets the first LM-HT neurons mix F frames into T
steps through a window [T,F]. "parallel" is the neuron of a converted net: it is evaluated, not trained. `host_stem`
puts ReLU behind the stem instead of a neuron (and behind it ImageNet's pool): the part of a net that stays on the host.
Everything is a JSON value, so that a checkpoint can store it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, get_args

import attrs
from torch import nn

from snn2chip.errors import InputError
from snn2chip.nn.encode import Repeat, Seq, TimeMean
from snn2chip_models.layers import ACTIVATIONS, WEIGHT_KINDS, activation, conv2d, edge_kind, linear

PoolName = Literal["avg", "max"]
FramesName = Literal["steps", "mean"]
Named = dict[str, nn.Module]


@attrs.frozen(kw_only=True)
class Stem:
    """An input format: its shape `[C,H,W]`, whether it comes in steps, and how a net starts on it."""

    shape: tuple[int, int, int]
    events: bool = False
    extra: int = 0  # zeros on every side, besides those that keep the size
    kernel: int = 3
    stride: int = 1
    pool: bool = False  # a 3x3 pool of stride 2 behind the first activation


STEMS: Mapping[str, Stem] = MappingProxyType(
    {
        "cifar": Stem(shape=(3, 32, 32)),
        "mnist": Stem(shape=(1, 28, 28), extra=2),
        "imagenet": Stem(shape=(3, 224, 224), kernel=7, stride=2, pool=True),
        "dvs": Stem(shape=(2, 48, 48), events=True),
        "nmnist": Stem(shape=(2, 34, 34), events=True),
    }
)


@attrs.frozen(kw_only=True)
class Parts:
    """The choices all layers of one net share; raises InputError that lists every choice that is not allowed."""

    owner: str
    stem: str
    input_shape: tuple[int, ...] | None
    activation: str
    L: int | None
    T: int | None
    weights: str
    pool: str
    frames: str | int | None
    bn: bool
    bias: bool | None
    neuron_args: Mapping[str, Any]

    def __attrs_post_init__(self) -> None:
        """Check every choice."""
        known = ACTIVATIONS
        mixed = isinstance(self.frames, int)
        relu = {"L": self.L, "T": None if self.T == 1 else self.T, "neuron_args": dict(self.neuron_args) or None}
        checks = {
            f"stem={self.stem!r} is unknown; known: {', '.join(STEMS)}": self.stem in STEMS,
            f"activation={self.activation!r} is unknown; known: {', '.join(known)}": self.activation in known,
            f"weights={self.weights!r} is unknown; known: {', '.join(WEIGHT_KINDS)}": self.weights in WEIGHT_KINDS,
            f"pool={self.pool!r} is none of avg, max": self.pool in get_args(PoolName),
            f"frames={self.frames!r} is none of steps, mean or a number": mixed
            or self.frames in (None, *get_args(FramesName)),
            f"frames={self.frames!r}: only event frames into lmht neurons have a window over frames": not mixed
            or (self.activation == "lmht" and self.stem in STEMS and self.format.events),
            "frames='steps' needs a spiking activation": not (self.relu and self.frames == "steps"),
            f"input_shape={self.input_shape!r}, expected [C,H,W]": self.input_shape is None
            or len(self.input_shape) == 3,
            **{
                f"activation='relu' takes no {name}={value!r}": value is None or not self.relu
                for name, value in relu.items()
            },
        }
        if breaches := [f"{self.owner}: {text}" for text, fine in checks.items() if not fine]:
            raise InputError(breaches)

    @property
    def relu(self) -> bool:
        """Whether the net is an ordinary one."""
        return self.activation == "relu"

    @property
    def shape(self) -> tuple[int, int, int]:
        """The input `[C,H,W]`: given, or the stem's."""
        channels, height, width = self.input_shape or self.format.shape
        return channels, height, width

    @property
    def format(self) -> Stem:
        """The record of the stem."""
        return STEMS[self.stem]

    @property
    def steps(self) -> int:
        """T: given, or 1 for ReLU and QCFS and 2 for spiking nets."""
        return (1 if self.activation in ("relu", "qcfs") else 2) if self.T is None else self.T

    def act(self, channels: int, *, first: bool = False) -> nn.Module:
        """Return one activation for currents of this many channels; the first one reads F = `frames`, if a number."""
        args = {**self.neuron_args, **({"frames": self.frames} if first and isinstance(self.frames, int) else {})}
        return activation(
            self.activation, steps=self.steps, levels=self.L, channels=channels, args=args, owner=self.owner
        )

    def conv(
        self,
        *,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        stride: int = 1,
        extra: int = 0,
        edge: bool = False,
        tag: str = "",
    ) -> Named:
        """Return {conv, norm} (no norm with bn = False), named with `tag`; an edge layer keeps full precision."""
        made: Named = {
            f"conv{tag}": conv2d(
                edge_kind(self.weights) if edge else self.weights,
                inputs=inputs,
                outputs=outputs,
                kernel=kernel,
                stride=stride,
                padding=kernel // 2 + extra,
                bias=not self.bn if self.bias is None else self.bias,
            )
        }
        if self.bn:
            made[f"norm{tag}"] = nn.BatchNorm2d(outputs)
        return made

    def entry(self, stem: Named) -> Named:
        """Return the first layers with what leads into time: `stem` runs once for a static input."""
        events = self.format.events
        average = self.frames == "mean" if self.frames else self.activation in ("relu", "qcfs")
        before: Named = {"frames": TimeMean()} if events and average else {}
        after: Named = {} if self.relu or (events and not average) else {"repeat": Repeat(self.steps)}
        return {**before, **stem, **after}

    def pooling(self, kernel: int = 2, *, stride: int | None = None, padding: int = 0) -> nn.Module:
        """Return an average (padding counts) or maximum pool."""
        kind = nn.AvgPool2d if self.pool == "avg" else nn.MaxPool2d
        return kind(kernel, stride=stride or kernel, padding=padding)

    def head(self, *, inputs: int, hidden: Sequence[int], classes: int, dropout: float = 0.0) -> Named:
        """Return linear layers: hidden ones with activations, one in full precision to the logits, mean over T."""
        made: Named = {}
        for index, outputs in enumerate(hidden, start=1):
            made[f"fc{index}"] = linear(self.weights, inputs=inputs, outputs=outputs, bias=True)
            made[f"act_fc{index}"] = self.act(outputs)
            if dropout:
                made[f"drop_fc{index}"] = nn.Dropout(dropout)
            inputs = outputs
        made["head"] = linear(edge_kind(self.weights), inputs=inputs, outputs=classes, bias=True)
        return made if self.relu else {**made, "mean": TimeMean()}

    def chain(self, made: Named) -> nn.Sequential:
        """Return the named layers in order; over `[T,B,..]` unless the net is an ordinary one."""
        return (nn.Sequential if self.relu else Seq)(OrderedDict(made))


def start_weights(model: nn.Module) -> None:
    """Start plain layers as LM-HT does: convolutions Kaiming-normal over fan-out, biases of linear layers zero."""
    for module in model.modules():
        if type(module) is nn.Conv2d:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
