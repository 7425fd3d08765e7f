"""EM-PF's residual block: neurons in front of the binary convolutions, a shortcut of signed currents.

    u = SECA1( BN1(BConv1(act1(x))) )          SECA form II: the sum x + BN1(..) is attended, where shapes allow
    y = SECA2( BN2(BConv2(act2(u))) ) + shortcut(x)             form II: u + BN2(..)

shortcut is x itself, or BN(BConv1x1(x)) where the shape changes, on the current stream and not on spikes. `act1` is
version I or II; `act2` is the same, or version III in the parallel block. A bottleneck block has three convolutions,
1x1, 3x3 (with the stride), 1x1, `width` channels between them, `act3` like `act1`, and no SECA. Shapes `[T,B,C,H,W]`
throughout. No neuron stands before the first block and none after the last: stem and head stay in full precision.
Source: Hao et al. (EM-PF, arXiv 2410.07547).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from torch import Tensor, nn

from snn2chip.errors import InputError
from snn2chip.nn.base import check_choice
from snn2chip.nn.binary import BinaryConv2d, InitName
from snn2chip.nn.encode import Seq
from snn2chip.nn.registry import make_neuron
from snn2chip.nn.seca import SECA
from snn2chip_models.layers import check_kind, conv2d

VersionName = Literal["I", "II"]
SecaName = Literal["none", "I", "II"]

_NEURON = {"I": "empf", "II": "empf-norm"}
_KEPT_ONLY = ("detach", "scales", "eps", "momentum")  # arguments of neurons that keep a potential
_PARALLEL_ONLY = ("tied",)  # arguments of version III


class EMPFBlock(nn.Module):
    """Pre-activation residual block on currents `[T,B,inputs,H,W] -> [T,B,outputs,H/stride,W/stride]`.

    `width` None: two convolutions of 3x3, a number: a bottleneck of that many channels. `neuron_args` go to the neurons
    that have them (payload width, detach, ..); `binary_init`: how binary weights start.
    InputError lists every argument that is not allowed.
    """

    def __init__(
        self,
        *,
        inputs: int,
        outputs: int,
        steps: int,
        stride: int = 1,
        version: VersionName = "I",
        parallel: bool = False,
        width: int | None = None,
        seca: SecaName = "none",
        weights: str = "binary",
        binary_init: InitName = "kaiming",
        neuron_args: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_choice("EMPFBlock", version=(version, get_args(VersionName)), seca=(seca, get_args(SecaName)))
        check_kind(weights, owner="EMPFBlock")
        if width is not None and seca != "none":
            raise InputError(f"EMPFBlock: seca={seca!r} is for blocks of two convolutions, not for a bottleneck")
        args = dict(neuron_args or {})
        kept_args = {k: v for k, v in args.items() if not (parallel and k in _PARALLEL_ONLY)}
        other_args = {k: v for k, v in args.items() if not (parallel and k in _KEPT_ONLY)}
        kept, other = _NEURON[version], "empf-parallel" if parallel else _NEURON[version]
        self.seca = seca
        self.act1 = make_neuron(kept, steps=steps, channels=inputs, **kept_args)
        inner = outputs if width is None else width
        self.act2 = make_neuron(other, steps=steps, channels=inner, **other_args)
        shapes = [(inputs, inner, 3, stride), (inner, outputs, 3, 1)]
        if width is not None:
            shapes = [(inputs, inner, 1, 1), (inner, inner, 3, stride), (inner, outputs, 1, 1)]
        made = [_conv_norm(weights, inputs=a, outputs=b, kernel=k, stride=s, init=binary_init) for a, b, k, s in shapes]
        self.first, self.second, *last = made
        self.third: Seq | None = None
        if last:
            self.act3 = make_neuron(kept, steps=steps, channels=inner, **kept_args)
            self.third = last[0]
        self.same_shape = inputs == outputs and stride == 1
        self.shortcut: Seq | None = None
        if not self.same_shape:
            self.shortcut = _conv_norm(
                weights, inputs=inputs, outputs=outputs, kernel=1, stride=stride, init=binary_init
            )
        self.seca1 = None if seca == "none" else Seq(SECA())
        self.seca2 = None if seca == "none" else Seq(SECA())

    def forward(self, x: Tensor) -> Tensor:
        """Return the current behind the block."""
        u = self.first(self.act1(x))
        if self.seca1 is not None:
            u = self.seca1(x + u if self.seca == "II" and self.same_shape else u)
        y = self.second(self.act2(u))
        if self.third is not None:
            y = self.third(self.act3(y))
        if self.seca2 is not None:
            y = self.seca2(u + y if self.seca == "II" else y)
        total: Tensor = y + (x if self.shortcut is None else self.shortcut(x))
        return total


def empf_stages(
    *,
    blocks: Sequence[int],
    channels: Sequence[int],
    strides: Sequence[int],
    inputs: int,
    steps: int,
    expansion: int | None = None,
    **args: Any,
) -> Seq:
    """Return stages of EM-PF blocks on currents; the first block of stage i has `strides[i]`, `args` as `EMPFBlock`.

    Shapes `[T,B,inputs,H,W] -> [T,B,channels[-1],H',W']`; with `expansion` n, bottlenecks of these channels and n times
    as many out. Raises InputError when the three lists differ in length.
    """
    if not len(blocks) == len(channels) == len(strides):
        raise InputError(
            f"empf_stages: {len(blocks)} block counts, {len(channels)} channels and {len(strides)} strides; "
            "give one of each per stage"
        )
    made: list[nn.Module] = []
    width = inputs
    for count, outputs, stride in zip(blocks, channels, strides, strict=True):
        inner, wide = (None, outputs) if expansion is None else (outputs, outputs * expansion)
        for index in range(count):
            step = 1 if index else stride
            made.append(EMPFBlock(inputs=width, outputs=wide, width=inner, stride=step, steps=steps, **args))
            width = wide
    return Seq(*made)


def _conv_norm(kind: str, *, inputs: int, outputs: int, init: InitName, kernel: int = 3, stride: int = 1) -> Seq:
    conv = conv2d(kind, inputs=inputs, outputs=outputs, kernel=kernel, stride=stride)
    if isinstance(conv, BinaryConv2d):
        conv.choose(init=init, zero_sign=conv.zero_sign)
    return Seq(conv, nn.BatchNorm2d(outputs))
