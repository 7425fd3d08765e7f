"""Neurons whose own payloads come back to them one step later, through a linear layer.

    o(t) = neuron( x(t) + layer(o(t-1)) ),   o(-1) = 0

Source: the usual recurrent spiking layer (Bellec et al. 2018); the delay of one step is the smallest that a loop can
have on a chip.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from snn2chip.errors import InputError
from snn2chip.nn.base import Neuron


class Recurrent(nn.Module):
    """`[T,B,...] -> [T,B,...]`: currents x to payload values, the neuron's own payloads fed back through `layer`.

    `neuron` is run one step at a time; `layer` (Linear, Conv2d or a quantised one) keeps the shape. Raises InputError
    for a neuron that mixes all steps, and for another number of steps.
    """

    timed: ClassVar[bool] = True

    def __init__(self, neuron: Neuron, layer: nn.Module) -> None:
        super().__init__()
        if neuron.windowed:
            raise InputError(f"Recurrent: {type(neuron).__name__} mixes all steps and cannot run one step at a time")
        neuron.step_mode = "s"
        self.neuron, self.layer = neuron, layer

    def forward(self, x: Tensor) -> Tensor:
        """Return the payload values of all steps."""
        if x.dim() < 2 or x.shape[0] != self.neuron.steps:
            raise InputError(f"Recurrent: expected [T,B,...] with T = {self.neuron.steps}, got {list(x.shape)}")
        self.neuron.reset()
        sent = torch.zeros_like(x[0])
        payloads: list[Tensor] = []
        for current in x.unbind(0):
            sent = self.neuron(current + self.layer(sent))
            payloads.append(sent)
        self.neuron.reset()
        return torch.stack(payloads)
