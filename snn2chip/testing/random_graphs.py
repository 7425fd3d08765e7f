"""Random float networks from plain seeds, for tests of passes: every kind of layer, numbers that are exact in binary.

Weights are multiples of 1/4, norms have variances 4^k and pools areas 2^k, so that float64 sums do not round and a
network and its rewritten form agree to the last bit. Only channel attention (a sigmoid) leaves these numbers;
`RandomGraph.exact` says whether it is there.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor

from snn2chip.ir.attention_layers import SecaLayer
from snn2chip.ir.channel_layers import MaxPoolLayer
from snn2chip.ir.delay_layer import DelayLayer
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import (
    AddLayer,
    DropoutLayer,
    FlattenLayer,
    IdentityLayer,
    Layer,
    OutputLayer,
    ReluLayer,
    Shape,
)
from snn2chip.ir.linear_layers import LinearLayer
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.ir.space_layers import ConcatLayer
from snn2chip.testing import random_layers as made
from snn2chip.testing.random_layers import named
from snn2chip.testing.random_somas import random_soma

STEPS = (1, 2, 3, 4)
SHAPES: tuple[Shape, ...] = ((1, 4, 4), (2, 5, 4), (3, 4, 6), (2, 6), (3, 8), (5,))
KINDS = ("map", "map", "map", "neuron", "neuron", "pool", "space", "quiet", "join", "spikes", "spikes", "attention")
QUIET: tuple[type[Layer], ...] = (DropoutLayer, IdentityLayer, FlattenLayer)
MOST, BATCH = 7, 2


@attrs.frozen(kw_only=True, eq=False)
class RandomGraph:
    """A graph, whole raw values `[B, *shape]` or `[T, B, *shape]`, and whether its numbers are exact in binary."""

    graph: LayerGraph
    x: Tensor
    exact: bool

    @property
    def framed(self) -> bool:
        """Whether every step has an input of its own."""
        return self.x.dim() == len(self.graph.input.raw_shape) + 2


@attrs.frozen
class _Tip:
    """A value to go on from: `raw` while linear layers alone lie between it and the input."""

    name: str
    shape: Shape
    raw: bool = False
    binary: bool = False
    payload: bool = False


def random_graph(seed: int) -> RandomGraph:
    """The random network of one seed, with two samples."""
    return _Grower(np.random.default_rng(seed)).grow()


class _Grower:
    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.steps = int(rng.choice(STEPS))
        self.inputs: dict[str, tuple[str, ...]] = {}
        self.shape = SHAPES[rng.integers(len(SHAPES))]
        given, self.off_mean = made.raw_input(rng, "x", self.shape)
        self.layers: list[Layer] = [given]
        self.tips = [_Tip("x", self.shape, raw=True, payload=True)]
        self.exact = True

    def grow(self) -> RandomGraph:
        rng = self.rng
        if len(self.shape) == 3 and rng.random() < 0.15:
            self._stem()
        for _ in range(int(rng.integers(2, MOST + 1))):
            getattr(self, "_" + str(rng.choice(KINDS)))(self._tip())
        self._neuron(self.tips[-1])
        self._add(made.linear(rng, self._name("fc"), self.tips[-1].shape), self.tips[-1])
        self._output()
        lead = (BATCH,) if rng.random() < 0.5 else (self.steps, BATCH)
        x = torch.as_tensor(rng.integers(0, 16, (*lead, *self.shape)), dtype=torch.float64)
        graph = LayerGraph(layers=tuple(self.layers), inputs=self.inputs, steps=self.steps)
        return RandomGraph(graph=graph, x=x, exact=self.exact)

    def _tip(self) -> _Tip:
        """The last value more often than others."""
        return self.tips[-1 - min(int(self.rng.geometric(0.6)) - 1, len(self.tips) - 1)]

    def _add(self, layer: Layer, *sources: _Tip, linear: bool = True, **kind: bool) -> _Tip:
        shape, bad = layer.out_shape([tip.shape for tip in sources])
        assert not bad, bad
        self.layers.append(layer)
        self.inputs[layer.name] = tuple(tip.name for tip in sources)
        self.tips.append(_Tip(layer.name, shape, raw=linear and any(tip.raw for tip in sources), **kind))
        return self.tips[-1]

    def _name(self, kind: str) -> str:
        return f"{kind}{len(self.layers)}"

    def _padded(self, tip: _Tip) -> bool:
        """Padding may be 0: behind an input whose integers are off its mean, folding moves what 0 means."""
        return not (self.off_mean and tip.raw)

    def _stem(self) -> None:
        """Convolution, ReLU and maximum as ImageNet networks begin."""
        tip = self._add(made.conv(self.rng, "stem", self.shape, padded=not self.off_mean), self.tips[0])
        top = float(self.rng.integers(1, 9)) if self.rng.random() < 0.5 else None
        tip = self._add(ReluLayer(**named("relu"), top=top), tip, linear=False)
        if min(tip.shape[1:]) > 1 and self.rng.random() < 0.5:
            tip = self._add(MaxPoolLayer(**named("largest"), kernel=2, stride=1), tip, linear=False)
        self.tips = [tip]

    def _map(self, tip: _Tip) -> None:
        """A linear map or a convolution, often with a norm or a scale behind it."""
        rng = self.rng
        if len(tip.shape) == 1 or rng.random() < 0.2:
            tip = self._add(made.linear(rng, self._name("fc"), tip.shape), tip)
        else:
            tip = self._add(made.conv(rng, self._name("conv"), tip.shape, padded=self._padded(tip)), tip)
        choice = rng.random()
        if choice < 0.45:
            self._add(made.norm(rng, self._name("norm"), tip.shape[0]), tip)
        elif choice < 0.6:
            self._add(made.scale(rng, self._name("scale"), tip.shape[0], shifted=True), tip)

    def _pool(self, tip: _Tip) -> None:
        if len(tip.shape) == 1:
            self._add(made.scale(self.rng, self._name("scale"), tip.shape[0], shifted=tip.name != "x"), tip)
        else:
            self._add(made.pool(self.rng, self._name("pool"), tip.shape, padded=self._padded(tip)), tip)

    def _space(self, tip: _Tip) -> None:
        if len(tip.shape) > 1 and self._padded(tip):
            self._add(made.resample(self.rng, self._name("space"), tip.shape), tip)

    def _quiet(self, tip: _Tip) -> None:
        """Layers that do nothing at inference, and a change of shape."""
        kind = QUIET[self.rng.integers(len(QUIET))]
        self._add(kind(**named(self._name("quiet"))), tip)

    def _join(self, tip: _Tip) -> None:
        """A sum or a concatenation with what has the same shape or plane, itself at least."""
        concat = self.rng.random() < 0.4
        skip = 1 if concat else 0
        fits = [o for o in self.tips if o.shape[skip:] == tip.shape[skip:] and len(o.shape) == len(tip.shape)]
        chosen = [fits[i] for i in self.rng.integers(0, len(fits), int(self.rng.integers(1, 3)))]
        kind: type[Layer] = ConcatLayer if concat else AddLayer
        self._add(kind(**named(self._name("join"))), *chosen, tip)

    def _neuron(self, tip: _Tip, *, one: bool = False) -> _Tip:
        soma = random_soma(self.rng, self.steps, tip.shape[0], one=one)
        feedback = None
        if len(tip.shape) == 1 and soma.window is None and self.rng.random() < 0.15:
            weight = torch.as_tensor(self.rng.integers(-2, 3, (tip.shape[0], tip.shape[0])) / 4)
            feedback = LinearLayer(**named(self._name("back")), weight=weight)
        layer = NeuronLayer(**named(self._name("act")), soma=soma, feedback=feedback)
        return self._add(layer, tip, linear=False, binary=layer.binary, payload=True)

    def _spikes(self, tip: _Tip) -> None:
        """What payloads alone have: a delay, and the maximum of binary spikes."""
        tip = tip if tip.payload else self._neuron(tip, one=True)
        if tip.binary and len(tip.shape) == 3 and min(tip.shape[1:]) > 1:
            stride, padding = (int(n) for n in self.rng.integers((1, 0), (3, 2)))
            geometry: dict[str, Any] = {"kernel": 2, "stride": stride, "padding": padding}
            layer = MaxPoolLayer(**named(self._name("largest")), **geometry)
            self._add(layer, tip, linear=False, binary=True, payload=True)
        elif tip.name != "x":
            late = DelayLayer(**named(self._name("late")), delay=int(self.rng.integers(1, 3)), steps=self.steps)
            self._add(late, tip, linear=False)

    def _attention(self, tip: _Tip) -> None:
        area = int(np.prod(tip.shape[1:]))
        if len(tip.shape) != 3 or area & (area - 1):
            return self._map(tip)
        weight = torch.as_tensor(self.rng.integers(-2, 3, int(self.rng.choice([1, 3]))) / 4)
        tip = tip if tip.payload else self._neuron(tip)
        self._add(SecaLayer(**named(self._name("attend")), weight=weight, bias=0.25), tip, linear=False)
        self.exact = False
        return None

    def _output(self) -> None:
        """The last value, or several: everything that nothing reads."""
        read = {src for sources in self.inputs.values() for src in sources}
        loose = [tip.name for tip in self.tips if tip.name not in read]
        heads = tuple(f"head{i}" for i in range(len(loose))) if len(loose) > 1 else ()
        reduce = str(self.rng.choice(["mean" if self.steps in (1, 2, 4) else "sum", "sum", "last", "steps"]))
        self.layers.append(OutputLayer(name="output", reduce=reduce, heads=heads))
        self.inputs["output"] = tuple(loose)
