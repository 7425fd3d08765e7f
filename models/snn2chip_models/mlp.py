"""A multi-layer perceptron: flatten, (linear - norm - neuron) stages, linear head, mean over the steps.

    static inputs   [B,...]     flattened; first linear + norm once, repeated T times
    event frames    [T,B,...]   every layer at every step

The first layer and the head keep full precision (8 bits among integer weights).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from torch import Tensor, nn

from snn2chip.errors import InputError
from snn2chip.nn.encode import Repeat, Seq, TimeMean
from snn2chip.nn.qat import quantize_neurons
from snn2chip_models.layers import activation, check_kind, edge_kind, linear


class MLP(nn.Module):
    """Stages of `hidden` units; returns logits `[B,classes]`. Arguments as in `ConvNet`."""

    def __init__(
        self,
        *,
        input_shape: Sequence[int] = (1, 8, 8),
        hidden: Sequence[int] = (128, 128),
        classes: int = 10,
        weights: str = "float",
        neuron: str = "lmht",
        L: int | None = None,
        T: int = 2,
        events: bool = False,
        neuron_args: Mapping[str, Any] | None = None,
        qat: bool = False,
    ) -> None:
        super().__init__()
        check_kind(weights, owner="MLP")
        if not hidden:
            raise InputError("MLP: hidden is empty; give the width of at least one stage")
        edge = edge_kind(weights)
        layers: list[nn.Module] = [TimeMean(), nn.Flatten()] if events and neuron == "relu" else [nn.Flatten()]
        inputs = prod(input_shape)
        for index, outputs in enumerate(hidden):
            layers.append(linear(edge if index == 0 else weights, inputs=inputs, outputs=outputs))
            layers.append(nn.BatchNorm1d(outputs))
            if index == 0 and not events and neuron != "relu":
                layers.append(Repeat(T))
            layers.append(activation(neuron, steps=T, levels=L, channels=outputs, args=neuron_args or {}, owner="MLP"))
            inputs = outputs
        layers.append(linear(edge, inputs=inputs, outputs=classes, bias=True))
        self.layers = nn.Sequential(*layers) if neuron == "relu" else Seq(*layers, TimeMean())
        if qat:
            quantize_neurons(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits `[B,classes]`, averaged over the steps."""
        logits: Tensor = self.layers(x)
        return logits
