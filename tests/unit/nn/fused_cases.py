"""Neurons and currents on which compiled neurons are held against the torch code."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from snn2chip.nn import NEURONS, Neuron, make_neuron
from snn2chip.nn.fused import plain_neurons

FUSED = ("if", "lif", "mht", "lmht", "qcfs", "empf", "empf-parallel")
CASES = [(name, variant) for name in FUSED for variant in NEURONS[name].variants]
CASES += [(name, {"payload_bits": 3, "payload_rounding": "half-even"}) for name in ("empf", "empf-parallel")]
CASES += [("empf", {"detach": detach, "learn_start": True}) for detach in ("nothing", "reset")]
CASES += [("lmht", {"levels": 3, "frames": 5}), ("lif", {"surrogate": "triangular", "gamma": 0.75, "leak": 0.3})]
LAYOUTS = ("rows", "channels_last", "strided", "turned", "repeated")


def away_from_start(name: str, variant: dict[str, Any], *, steps: int) -> Neuron:
    """A float32 neuron whose trained parameters are not at their start."""
    torch.manual_seed(steps)
    neuron = make_neuron(name, steps=steps, **variant)
    with torch.no_grad():
        for key, parameter in neuron.named_parameters():
            if key != "vth":
                parameter.add_(torch.randn_like(parameter))
    return neuron


def currents(steps: int, layout: str, dtype: torch.dtype) -> Tensor:
    """Currents with ties and signed zeros among them, `[T,B,C,H,W]` in one order of memory."""
    torch.manual_seed(7)
    x = 1.5 * torch.randn(steps, 3, 5, 9, 8)
    x[:, :, 1] = torch.randint(-4, 9, x[:, :, 1].shape) / 8
    x[:, :, 2, 0] = -0.0
    x = x.to(dtype)
    if layout == "channels_last":
        return x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (steps, 3))
    if layout == "strided":
        return torch.stack([x, x], dim=-1)[..., 0]
    if layout == "turned":
        return x.transpose(0, 1).contiguous().transpose(0, 1)
    return x[:1].expand(x.shape) if layout == "repeated" else x


def both(neuron: Neuron, x: Tensor, g: Tensor) -> list[dict[str, Tensor]]:
    """Payloads and all gradients, by torch and by the kernels."""
    found = []
    for plain in (True, False):
        leaf = x.detach().requires_grad_()
        neuron.zero_grad()
        with plain_neurons(plain):
            out = neuron(leaf)
            out.backward(g)
        assert leaf.grad is not None
        gradients = {key: p.grad.clone() for key, p in neuron.named_parameters() if p.grad is not None}
        found.append({"out": out.detach(), "x": leaf.grad, **gradients})
    return found
