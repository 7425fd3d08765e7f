"""A small network from PyTorch to integers by hand: an MLP with QCFS activations on handwritten digits.

    float   h = QCFS(W1 x + b1),  logits = W2 h + b2,     QCFS(z) = vth/L * clip(floor(z*L/vth + 1/2), 0, L)

Each hidden layer becomes a synapse and a multi-level soma. With weights `scale_c * q` (q integers of the
declared width), payload unit `unit` of the source and `f` fraction bits, one unit of the potential of channel c
is `mu_c = scale_c * unit / 2^f`, and

    weight = q    gain = 2^f    theta = round(vth/(levels*mu_c))    bias = round(b_c/mu_c)    v_init = floor(theta/2)

In one step with `levels = L` the soma is QCFS itself; in T steps of `levels` a constant current gives QCFS
with levels*T levels (Bu et al., ICLR 2022, arXiv 2303.04347). The read-out has one unit for all classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor, nn

from snn2chip.errors import InputError, QuantizeError
from snn2chip.ir.nodes import Input, Node, Output, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.nn import QCFS, IntLinear, TernaryLinear
from snn2chip.nn.quantized import QuantizedLinear
from snn2chip.threads import torch_threads

KINDS = ("ternary", "int8")
PIXEL = 1 / 16
"""Value of one grey level of the digits after normalisation to 0..1."""
HEADROOM = 1 << 21
"""Potentials stay below this, a quarter of the 24-bit range."""


class QCFSMLP(nn.Module):
    """Hidden layers with quantised weights and QCFS activations; pixels `[B, ...]` 0..16 to logits `[B, classes]`.

    `weights`: "ternary" or "int8" for the hidden layers; the head keeps 8 bits. `levels`: L of every QCFS.
    """

    def __init__(
        self,
        *,
        inputs: int = 64,
        hidden: Sequence[int] = (128, 64),
        classes: int = 10,
        weights: str = "int8",
        levels: int = 8,
    ) -> None:
        super().__init__()
        if weights not in KINDS:
            raise InputError(f"QCFSMLP: weights={weights!r}; expected one of {', '.join(KINDS)}")
        sizes = [inputs, *hidden]
        self.weights, self.levels = weights, levels
        self.linears = nn.ModuleList(_linear(weights, a, b) for a, b in pairwise(sizes))
        self.neurons = nn.ModuleList(QCFS(steps=1, levels=levels, vth=2.0) for _ in hidden)
        self.head = nn.Linear(sizes[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of raw pixels."""
        h = (x.flatten(1) * PIXEL)[None]
        for linear, neuron in zip(self.linears, self.neurons, strict=True):
            h = neuron(linear(h))
        logits: Tensor = self.head(h[0])
        return logits


def _linear(weights: str, inputs: int, outputs: int) -> QuantizedLinear:
    if weights == "ternary":
        return TernaryLinear(inputs, outputs, bias=True)
    return IntLinear(inputs, outputs, bits=8)


def ternary() -> QCFSMLP:
    """The untrained network with ternary hidden layers, for loading its checkpoint."""
    return QCFSMLP(weights="ternary")


def int8() -> QCFSMLP:
    """The untrained network with 8-bit hidden layers, for loading its checkpoint."""
    return QCFSMLP(weights="int8")


def train(model: nn.Module, x: Any, y: Any, *, epochs: int = 40, seed: int = 0, batch: int = 64) -> None:
    """Fit `model` to raw pixels `x` `[N, ...]` and labels `y` `[N]` with Adam and a cosine schedule.

    Runs on one thread: layers this small are slower on several, much slower when other work fills the cores.
    """
    with torch_threads(1):
        _fit(model, x, y, epochs=epochs, seed=seed, batch=batch)


def _fit(model: nn.Module, x: Any, y: Any, *, epochs: int, seed: int, batch: int) -> None:
    torch.manual_seed(seed)
    samples, labels = torch.as_tensor(np.asarray(x, np.float32)), torch.as_tensor(np.asarray(y, np.int64))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    model.train()
    for _ in range(epochs):
        for rows in torch.utils.data.BatchSampler(torch.randperm(len(samples)).tolist(), batch, drop_last=False):
            loss: Any = nn.functional.cross_entropy(model(samples[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    model.eval()


def accuracy(model: nn.Module, x: Any, y: Any) -> float:
    """Share of correct predictions of the float model."""
    with torch.no_grad():
        pred = model(torch.as_tensor(np.asarray(x, np.float32))).argmax(1).numpy()
    return float((pred == np.asarray(y)).mean())


def lower(model: QCFSMLP, *, steps: int = 1, levels: int | None = None, name: str = "digits-qcfs") -> Program:
    """Lower a trained model to an integer program of `steps` steps with somas of `levels` levels (default L).

    Raises QuantizeError naming the layer when a threshold vanishes or nothing fits the 24-bit potential.
    """
    levels = model.levels if levels is None else levels
    first = model.linears[0]
    assert isinstance(first, QuantizedLinear)
    nodes: list[Node] = [Input("pixels", (first.in_features,), 0, 16)]
    edges: list[tuple[str, str]] = []
    source, unit, top = "pixels", PIXEL, 16
    for i, (linear, neuron) in enumerate(zip(model.linears, model.neurons, strict=True), start=1):
        assert isinstance(linear, QuantizedLinear)
        assert isinstance(neuron, QCFS)
        theta = float(neuron.vth.detach()) / levels
        layer = _hidden(linear, theta=theta, unit=unit, top=top, levels=levels, where=f"linears.{i - 1}")
        bits = "ternary" if model.weights == "ternary" else 8
        soma = Soma(
            f"hidden{i}",
            (linear.out_features,),
            v_init=layer.theta // 2,
            gain=layer.gain,
            bias=layer.bias,
            theta=layer.theta,
            levels=levels,
            layer=f"neurons.{i - 1}",
        )
        nodes += [Synapse(f"weights{i}", weight=layer.weight, bits=bits, layer=f"linears.{i - 1}"), soma]
        edges += [(source, f"weights{i}"), (f"weights{i}", soma.name)]
        source, unit, top = soma.name, theta, levels
    weight, bias = _head(model.head, unit=unit)
    nodes += [
        Synapse("weights_out", weight=weight, bits=8, layer="head"),
        Soma("logits", (len(weight),), bias=bias, fire="none", layer="head"),
        Output("classes"),
    ]
    edges += [(source, "weights_out"), ("weights_out", "logits"), ("logits", "classes")]
    meta = {"name": f"{name}-{model.weights}", "data": "digits", "classes": len(weight)}
    return Program(nodes=nodes, edges=edges, steps=steps, meta=meta)


@attrs.frozen(kw_only=True)
class _Layer:
    weight: Any
    gain: int
    theta: Any
    bias: Any


def _hidden(linear: QuantizedLinear, *, theta: float, unit: float, top: int, levels: int, where: str) -> _Layer:
    """Integers of one hidden layer: the largest gain 2^f for which potentials stay within the headroom."""
    scale, weight = (part.numpy() for part in linear.weight_parts())
    delta = scale.astype(np.float64) * unit
    shift = np.zeros_like(delta) if linear.bias is None else linear.bias.detach().numpy().astype(np.float64) / delta
    reach = np.abs(weight).sum(1) * top + np.abs(shift) + levels * theta / delta
    fraction = int(np.clip(np.floor(np.log2(HEADROOM / reach.max())), -1, 8))
    if fraction < 0 or not theta > 0:
        raise QuantizeError(f"{where}: threshold {theta:g} or potentials up to {reach.max():g} do not fit 24 bits")
    gain = 1 << fraction
    integer_theta = _half_up(theta / delta * gain)
    if integer_theta.min() < 1:
        raise QuantizeError(
            f"{where}: {int((integer_theta < 1).sum())} thresholds round to 0; train with larger weights"
        )
    return _Layer(weight=weight, gain=gain, theta=integer_theta, bias=_half_up(shift * gain))


def _head(head: nn.Linear, *, unit: float) -> tuple[Any, Any]:
    """8-bit weights and biases of the read-out in one unit for all classes."""
    w = head.weight.detach().numpy().astype(np.float64)
    delta = np.abs(w).max() / 127
    return _half_up(w / delta), _half_up(head.bias.detach().numpy().astype(np.float64) / (delta * unit))


def _half_up(x: Any) -> Any:
    return np.floor(x + 0.5).astype(np.int64)
