"""Weight kinds and activations by name: what the layers of the zoo models are made of.

weights       float | binary | ternary | int2 .. int8
activations   relu (an ordinary net) | any neuron of `snn2chip.nn.NEURONS` | parallel (converted, never trained)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from snn2chip.errors import InputError
from snn2chip.nn.binary import BinaryConv2d, BinaryLinear, TernaryConv2d, TernaryLinear
from snn2chip.nn.intweight import IntConv2d, IntLinear
from snn2chip.nn.parallel import ParallelNeuron
from snn2chip.nn.registry import NEURONS, make_neuron

ACTIVATIONS = ("relu", "parallel", *sorted(NEURONS))
PARALLEL_ARGS = ("theta", "psi", "phi", "order", "evaluation")
WEIGHT_KINDS = ("float", "binary", "ternary", *(f"int{bits}" for bits in range(2, 9)))


def check_kind(kind: str, *, owner: str) -> str:
    """Return `kind`; raise InputError that lists the kinds when it is none of them."""
    if kind not in WEIGHT_KINDS:
        raise InputError(f"{owner}: weights={kind!r} is unknown; known: {', '.join(WEIGHT_KINDS)}")
    return kind


def edge_kind(kind: str) -> str:
    """Return the kind of the first and last layer: 8 bits among integer weights, else float."""
    return "int8" if kind.startswith("int") else "float"


def activation(
    name: str, *, steps: int, levels: int | None, channels: int, args: Mapping[str, Any], owner: str
) -> nn.Module:
    """Return one activation for currents `[T,B,channels,..]`; InputError names every argument it does not take.

    A parallel neuron has its conversion's constants: theta 1 and psi 1/2 unless given, until a checkpoint is loaded.
    """
    if name not in ACTIVATIONS:
        raise InputError(f"{owner}: activation {name!r} is unknown; known: {', '.join(ACTIVATIONS)}")
    if name not in ("relu", "parallel"):
        return make_neuron(name, steps=steps, levels=levels, channels=channels, **dict(args))
    known = PARALLEL_ARGS if name == "parallel" else ()
    given = {**args, **({"levels": levels} if levels is not None else {})}
    if unknown := [key for key in given if key not in known]:
        takes = f"it takes {', '.join(known)}" if known else "it takes none"
        raise InputError([f"{owner}: activation {name!r} takes no {key}={given[key]!r}; {takes}" for key in unknown])
    return ParallelNeuron(steps=steps, **dict(args)) if name == "parallel" else nn.ReLU()


def conv2d(
    kind: str,
    *,
    inputs: int,
    outputs: int,
    kernel: int = 3,
    stride: int = 1,
    padding: int | None = None,
    bias: bool = False,
) -> nn.Conv2d:
    """Return a convolution `[N,inputs,H,W] -> [N,outputs,H,W]` at stride 1; padding None keeps the size."""
    shape: dict[str, Any] = {"stride": stride, "padding": kernel // 2 if padding is None else padding, "bias": bias}
    check_kind(kind, owner="conv2d")
    if kind == "float":
        return nn.Conv2d(inputs, outputs, kernel, **shape)
    if kind == "binary":
        return BinaryConv2d(inputs, outputs, kernel, **shape)
    if kind == "ternary":
        return TernaryConv2d(inputs, outputs, kernel, **shape)
    return IntConv2d(inputs, outputs, kernel, bits=int(kind[3:]), **shape)


def linear(kind: str, *, inputs: int, outputs: int, bias: bool = False) -> nn.Linear:
    """Return a linear layer `[N,inputs] -> [N,outputs]` of this weight kind."""
    check_kind(kind, owner="linear")
    if kind == "float":
        return nn.Linear(inputs, outputs, bias=bias)
    if kind == "binary":
        return BinaryLinear(inputs, outputs, bias=bias)
    if kind == "ternary":
        return TernaryLinear(inputs, outputs, bias=bias)
    return IntLinear(inputs, outputs, bias=bias, bits=int(kind[3:]))
