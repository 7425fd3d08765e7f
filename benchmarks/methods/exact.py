"""Networks in fixed point, so that float64 computes with them exactly, and counts compared neuron by neuron.

    weights  8 bits, multiples of a power of two per layer       biases   multiples of 2^-16
    theta    multiples of 2^-13 per QCFS level, vth = levels*theta alike in every form of the network

Pixels are whole numbers, payloads k*theta, so every sum is a dyadic number of far less than 53 bits: whatever the
order of the additions, nothing is rounded, and two networks can be compared with ==.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import attrs
import torch
from torch import Tensor

from snn2chip.errors import UnsupportedError
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import FloatSoma, Layer
from snn2chip.ir.linear_layers import AffineLayer
from snn2chip.ir.neuron_layer import NeuronLayer

WEIGHT_BITS, BIAS_LSB, THETA_LSB = 8, 2.0**-16, 2.0**-13


def fixed_point(graph: LayerGraph, *, levels: int) -> LayerGraph:
    """Return a graph in normal form with its numbers on dyadic grids; `levels` is L*T of its neurons.

    Raises UnsupportedError for somas with gains or biases of their own, which have no such grid.
    """
    layers: list[Layer] = []
    for layer in graph.layers:
        if isinstance(layer, AffineLayer):
            layers.append(_affine(layer))
        elif isinstance(layer, NeuronLayer):
            layers.append(attrs.evolve(layer, soma=_soma(layer.soma, layer.label, levels=levels)))
        else:
            layers.append(layer)
    return attrs.evolve(graph, layers=tuple(layers))


def _affine(layer: AffineLayer) -> AffineLayer:
    weight = layer.weight.double()
    lsb = 2.0 ** (math.ceil(math.log2(float(weight.abs().max()))) - (WEIGHT_BITS - 1))
    bias = None if layer.bias is None else torch.round(layer.bias.double() / BIAS_LSB) * BIAS_LSB
    return attrs.evolve(layer, weight=torch.round(weight / lsb) * lsb, bias=bias, parts=None)


def _soma(soma: FloatSoma, label: str, *, levels: int) -> FloatSoma:
    if bool((soma.gain != 1).any()) or bool((soma.bias != 0).any()):
        raise UnsupportedError(f"{label}: a gain or bias of its own")
    lsb = THETA_LSB * levels / soma.levels  # the same vth for every number of levels
    theta = torch.round(soma.theta.double() / lsb) * lsb
    window = None if soma.window is None else soma.window.double()
    return attrs.evolve(soma, theta=theta, unit=theta, v_init=theta / 2, leak=soma.leak.double(), window=window)


def counts(graph: LayerGraph, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Return every neuron's spikes summed over the steps, by layer, and the outputs `[B,classes]`, in float64."""
    run = graph.run(x.double(), collect=True)
    found = {}
    for layer in graph.layers:
        if isinstance(layer, NeuronLayer):
            unit = layer.soma.unit.double()
            found[layer.name] = torch.round(run.values[layer.name] / unit.view(-1, *[1] * 3)[:1]).sum(0)
    return found, run.output


@attrs.frozen(kw_only=True)
class Comparison:
    """Neurons compared, counts that differ by layer, samples, samples whose answer differs."""

    samples: int
    neurons: int
    mismatches: Mapping[str, int]
    answers: int

    @property
    def total(self) -> int:
        """Counts that differ."""
        return sum(self.mismatches.values())


def compare(one: LayerGraph, other: LayerGraph, x: Tensor, *, block: int = 100) -> Comparison:
    """Compare two forms of a network on raw samples `[N,...]`: spike counts of every neuron, and the answers."""
    mismatches: dict[str, int] = {}
    neurons = answers = 0
    for part in torch.split(x, block):
        (a, out_a), (b, out_b) = counts(one, part), counts(other, part)
        assert list(a) == list(b)
        for name in a:
            mismatches[name] = mismatches.get(name, 0) + int((a[name] != b[name]).sum())
            neurons += a[name].numel()
        answers += int((out_a.argmax(-1) != out_b.argmax(-1)).sum())
    return Comparison(samples=len(x), neurons=neurons, mismatches=mismatches, answers=answers)
