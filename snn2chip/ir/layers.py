"""Float layers: what a traced network is made of before it becomes integers.

A `Layer` is one float operation with a unique name, the user's own layer path and typed fields; the edges
live in `LayerGraph`. Layers with weights are in `linear_layers.py`, norms and pools in `channel_layers.py`,
neurons in `neuron_layer.py`.
`FloatSoma` is the float twin of the integer `Soma`: every trainable neuron describes itself as one.

    step t:  m = leak[t]*v + gain[t]*I[t] + bias[t]     (I mixed by `window` first, if there is one)
             fire = levels: s = clip(floor(m/theta), 0, levels)    excess: s = max(m - theta, 0)
                    none: s = 0    relay: s = m    ladder: s = number of rows with m >= ladder[k]
                    sigmoid: s = 1/(1 + exp(-m))   (becomes a table)
                    membrane: s = m, a potential that is read and never reset
             reset = subtract: v = m - s*theta (levels)    clamp: v = min(m, theta)
                     zero, value: v = 0, v_reset where s > 0    drop: v = 0
                     subtract-delayed: m also has - theta*s of the step before, and v = m
             then v = max(v, v_min);    payload value = s * unit
             current-based: u = syn_leak*u + gain*I takes the place of gain*I;    strict: fire at m > theta
             excess with out_max: unit * clip(round(s/unit), 0, out_max), a graded payload of few bits
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import attrs
import torch
from torch import Tensor

from snn2chip.ir.trained import TrainedSoma

Shape = tuple[int, ...]
Names = tuple[str, ...]
REDUCE = ("steps", "sum", "mean", "last", "count")
PER_CHANNEL = ("theta", "unit", "leak", "gain", "bias", "v_init", "ladder", "syn_leak", "v_min", "v_reset")
"""Fields of a FloatSoma whose last axis may be the channels."""


def as_tensor(value: Any) -> Tensor:
    """Return a detached tensor; plain numbers become float64."""
    return torch.as_tensor(value, dtype=torch.float64) if not isinstance(value, Tensor) else value.detach()


def optional_tensor(value: Any) -> Tensor | None:
    """Return None or a detached tensor (float64 for plain numbers)."""
    return None if value is None else as_tensor(value)


def _one() -> Tensor:
    return torch.ones((), dtype=torch.float64)


def _zero() -> Tensor:
    return torch.zeros((), dtype=torch.float64)


@attrs.frozen(kw_only=True, eq=False)
class FloatSoma:
    """A neuron population in float: what a trained neuron module hands to the quantizer.

    Tensors are scalars, `[C]` (per channel) or `[T, C or 1]` (per step); `window` is `[T, T]`.
    `unit` is the float value of one payload unit (theta for a multi-level neuron, 1 for a real excess, the step of
    a graded one). `out_rounding` is half-up, the integer machine's rule, or half-even. `ladder`, thresholds
    `[levels, C or 1]` that do not decrease, goes with fire = ladder and reset = drop. `syn_leak`, `v_min`, `v_reset`
    are None or like theta, and the same at every step; `strict` is for one level.
    """

    steps: int
    theta: Tensor = attrs.field(converter=as_tensor)
    unit: Tensor = attrs.field(converter=as_tensor)
    levels: int = 1
    fire: str = "levels"
    reset: str = "subtract"
    leak: Tensor = attrs.field(factory=_one, converter=as_tensor)
    gain: Tensor = attrs.field(factory=_one, converter=as_tensor)
    bias: Tensor = attrs.field(factory=_zero, converter=as_tensor)
    v_init: Tensor = attrs.field(factory=_zero, converter=as_tensor)
    v_init_rule: str = attrs.field(default="round")  # "half-theta": floor(theta_int/2); "strict": one unit lower
    window: Tensor | None = None
    ladder: Tensor | None = attrs.field(default=None, converter=optional_tensor)
    out_max: int | None = None
    out_rounding: str = "half-up"
    method: str = ""
    trained: TrainedSoma | None = None  # integers it was trained on, if it was
    syn_leak: Tensor | None = attrs.field(default=None, converter=optional_tensor)
    v_min: Tensor | None = attrs.field(default=None, converter=optional_tensor)
    v_reset: Tensor | None = attrs.field(default=None, converter=optional_tensor)
    strict: bool | None = None


def brief(value: Tensor) -> str:
    """Return a short stable text of a tensor: all of it up to eight numbers, else shape and range."""
    if value.numel() == 1:
        return f"{value.item():.6g}"
    if value.numel() <= 8:
        rows = ", ".join(f"{v + 0.0:.6g}" for v in value.flatten().tolist())
        return f"[{rows}]" if value.dim() == 1 else f"{list(value.shape)}[{rows}]"
    return f"{list(value.shape)} {value.min().item():.4g}..{value.max().item():.4g}"


def per_channel(value: Tensor, like: Tensor, *, lead: int) -> Tensor:
    """Return a scalar or `[C]` tensor ready to broadcast against `like` `[lead axes, C, ...]`."""
    value = value.to(like)
    return value.view(-1, *[1] * (like.dim() - lead - 1)) if value.dim() == 1 else value


@attrs.frozen(kw_only=True, eq=False)
class Layer:
    """One float operation; `name` is unique in its graph, `path` and `source` say where the user wrote it.

    `out_shape` returns the shape without steps and batch, and what does not fit. `apply` takes and returns
    `[T or 1, B, *shape]`; one step stands for all of them where nothing changes in time.
    """

    kind: ClassVar[str] = "layer"
    arity: ClassVar[int | None] = 1  # number of inputs; None: one or more

    name: str
    path: str = ""
    source: str = ""

    @property
    def label(self) -> str:
        """The name and the user's own layer path, as error messages show them."""
        return f"{self.name} ({self.path})" if self.path else self.name

    def out_shape(self, shapes: Sequence[Shape]) -> tuple[Shape, list[str]]:
        """Return the shape of the result, and what does not fit."""
        return shapes[0], []

    def apply(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return the layer's value for the values of its inputs."""
        return inputs[0]

    def details(self) -> list[str]:
        """Return the fields the stable text form shows."""
        return []


@attrs.frozen(kw_only=True, eq=False)
class InputLayer(Layer):
    """What enters: raw values, turned into the network's input.

        x = (raw*scale - mean) / std        or, once folded,        x = raw - offset

    `scale` None means that raw values are x itself, of no declared integer unit; a number declares that raw values
    are integers (`mean`, `std`: None, scalars or `[C]`). `offset` is `[C]` integers in raw units. `layout` is how the
    model itself takes a batch: B for `[B, *shape]`, TB for `[T, B, *shape]`, BT for `[B, T, *shape]`. With `frames` F,
    raw samples are F event frames `[F, B, *shape]` (layout FB or BF) and x comes from their mean, one for all steps.
    `sample_shape`: the shape in which a user gives a sample, where x is read in another one of the same size. `reads`:
    how many of the steps' frames, the first ones, anything is made of.
    """

    kind: ClassVar[str] = "input"
    arity: ClassVar[int | None] = 0
    shape: Shape
    scale: float | None = None
    mean: Tensor | None = attrs.field(default=None, converter=optional_tensor)
    std: Tensor | None = attrs.field(default=None, converter=optional_tensor)
    offset: Tensor | None = attrs.field(default=None, converter=optional_tensor)
    layout: str = "B"
    frames: int | None = None
    sample_shape: Shape | None = None
    reads: int | None = None

    @property
    def raw_shape(self) -> Shape:
        """Shape of a sample as a user gives it."""
        return self.shape if self.sample_shape is None else self.sample_shape

    def out_shape(self, shapes: Sequence[Shape]) -> tuple[Shape, list[str]]:
        """Return the declared shape."""
        channels = self.shape[0] if self.shape else 1
        fields = {"mean": self.mean, "std": self.std, "offset": self.offset}
        bad = [
            f"{key} has shape {list(v.shape)}, expected a number or [{channels}]"
            for key, v in fields.items()
            if v is not None and tuple(v.shape) not in ((), (1,), (channels,))
        ]
        if math.prod(self.raw_shape) != math.prod(self.shape):
            bad.append(f"samples {list(self.raw_shape)} cannot be read as {list(self.shape)}")
        if self.std is not None and not bool((self.std > 0).all()):
            bad.append("std must be positive")
        if self.scale is None and (self.mean is not None or self.std is not None):
            bad.append("mean and std need a declared scale, the float value of one raw unit")
        if self.offset is not None and (self.normalises or bool((self.offset != self.offset.round()).any())):
            bad.append("offset is integer and replaces scale, mean and std")
        return self.shape, bad

    @property
    def normalises(self) -> bool:
        """Whether scale, mean or std still change the raw values."""
        return self.scale not in (None, 1.0) or self.mean is not None or self.std is not None

    def apply(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return x of the raw values `[T or 1, B, *shape]`, or of frames `[F, B, *shape]`."""
        x = inputs[0] if self.frames is None else inputs[0].mean(0, keepdim=True)
        x = x if self.scale in (None, 1.0) else x * self.scale
        for shift in (self.offset, self.mean):
            if shift is not None:
                x = x - per_channel(shift, x, lead=2)
        return x if self.std is None else x / per_channel(self.std, x, lead=2)

    def details(self) -> list[str]:
        """Return the normalisation."""
        shown = [("mean", self.mean), ("std", self.std), ("offset", self.offset)]
        scale = [] if self.scale is None else [f"scale={self.scale:.6g}"]
        frames = [] if self.frames is None else [f"frames={self.frames}"]
        return frames + scale + [f"{key}={brief(v)}" for key, v in shown if v is not None]


def read_steps(x: Tensor, how: str) -> Tensor:
    """What one of `REDUCE` reads of `[T,B,...]`."""
    if how == "count":
        return (x != 0).sum(0).to(x)
    return x if how == "steps" else x[-1] if how == "last" else x.sum(0) if how == "sum" else x.mean(0)


@attrs.frozen(kw_only=True, eq=False)
class OutputLayer(Layer):
    """What the model returns: all steps `[T,B,*shape]`, or `[B,*shape]` their sum, mean, the last one, or a count.

    `count`: steps at which something was sent (the value is not 0), of spikes only.
    `shape`, if given, only renames the features of the source (a flatten at the very end). A model that returns several
    tensors names them in `heads`, one per source; its value is then all their features in a row. Heads that are read
    in different ways say so in `reduces`, one per head (`reduce` is then "each"). `over`: how many steps, the first
    ones, are read.
    """

    kind: ClassVar[str] = "output"
    arity: ClassVar[int | None] = None
    reduce: str = "mean"
    shape: Shape | None = None
    heads: Names = ()
    reduces: Names = ()
    over: int | None = None

    def how(self, index: int = 0) -> str:
        """How the source `index` is read over the steps."""
        return self.reduces[index] if self.reduces else self.reduce

    def out_shape(self, shapes: Sequence[Shape]) -> tuple[Shape, list[str]]:
        """Return the shape the user reads."""
        ways = set(self.reduces or (self.reduce,))
        bad = [f"reduce={way!r} is none of {', '.join(REDUCE)}" for way in sorted(ways) if way not in REDUCE]
        if (self.reduce == "each") != bool(self.reduces) or (self.reduces and len(self.reduces) != len(self.heads)):
            bad.append(f"reduce={self.reduce!r} with {len(self.reduces)} ways for {len(self.heads)} heads")
        if len(ways) > 1 and "steps" in ways:
            bad.append("all steps of one tensor do not go in a row with a sum, mean or last step of another")
        if len(shapes) != max(len(self.heads), 1):
            bad.append(f"{len(self.heads)} names for {len(shapes)} returned values")
        shape = (sum(map(math.prod, shapes)),) if self.heads else shapes[0]
        if self.shape is not None and math.prod(self.shape) != math.prod(shape):
            bad.append(f"{list(shape)} cannot be read as {list(self.shape)}")
        return (shape if self.shape is None else self.shape), bad

    def apply(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return what the model returned; the sources must come with all their steps."""
        inputs = [v[: self.over] for v in inputs]
        if self.reduces:
            return torch.cat([read_steps(v, way).flatten(1) for v, way in zip(inputs, self.reduces, strict=True)], 1)
        x = torch.cat([v.flatten(2) for v in inputs], 2) if self.heads else inputs[0]
        x = x if self.shape is None else x.reshape(*x.shape[:2], *self.shape)
        return read_steps(x, self.reduce)

    def details(self) -> list[str]:
        """Return how steps are reduced, and the names of several values."""
        ways = ",".join(self.reduces) if self.reduces else self.reduce
        over = [] if self.over is None else [f"over={self.over}"]
        return [f"reduce={ways}", *over, *([f"heads={','.join(self.heads)}"] if self.heads else [])]


@attrs.frozen(kw_only=True, eq=False)
class AddLayer(Layer):
    """Sum of two or more values of one shape: a residual connection."""

    kind: ClassVar[str] = "add"
    arity: ClassVar[int | None] = None

    def out_shape(self, shapes: Sequence[Shape]) -> tuple[Shape, list[str]]:
        """Return the common shape."""
        shown = ", ".join(str(list(s)) for s in shapes)
        return shapes[0], [f"adds values of shapes {shown}"] if len(set(shapes)) > 1 else []

    def apply(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return the sum in the order of the inputs."""
        total = inputs[0]
        for x in inputs[1:]:
            total = total + x
        return total


@attrs.frozen(kw_only=True, eq=False)
class FlattenLayer(Layer):
    """All features in one axis, the last one fastest: `[C,H,W] -> [C*H*W]`."""

    kind: ClassVar[str] = "flatten"

    def out_shape(self, shapes: Sequence[Shape]) -> tuple[Shape, list[str]]:
        """Return the number of features."""
        return (math.prod(shapes[0]),), []

    def apply(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return `[T,B,N]`."""
        return inputs[0].flatten(2)


@attrs.frozen(kw_only=True, eq=False)
class IdentityLayer(Layer):
    """A layer that returns its input."""

    kind: ClassVar[str] = "identity"


@attrs.frozen(kw_only=True, eq=False)
class DropoutLayer(IdentityLayer):
    """Dropout as it is at inference: nothing happens."""

    kind: ClassVar[str] = "dropout"


@attrs.frozen(kw_only=True, eq=False)
class ReluLayer(Layer):
    """max(x, 0), or min(max(x, 0), top): not a spiking neuron, to be converted before it becomes integers."""

    kind: ClassVar[str] = "relu"
    top: float | None = None

    def out_shape(self, shapes: Sequence[Shape]) -> tuple[Shape, list[str]]:
        """Return the source's shape."""
        return shapes[0], [] if self.top is None or self.top > 0 else [f"top={self.top} must be positive"]

    def apply(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return x between 0 and top."""
        return inputs[0].clamp(min=0, max=self.top)

    def details(self) -> list[str]:
        """Return the ceiling, if there is one."""
        return [] if self.top is None else [f"top={self.top:.6g}"]
