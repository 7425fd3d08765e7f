"""Random weights that behave like trained ones: every layer fires in range, and the answers are spread over classes.

One walk through the net on real images, each module set when it is reached; a shift of currents is made in place, so
that all readers of a residual stream see it:

    norm         running mean and variance of its own input
    conv         without a norm behind it: weight / std, bias - mean/std, so that its output has mean 0 and variance 1
    activation   the last norm's (or conv's) bias is moved until a share `rate` of the outputs is not 0
    head         every logit has mean 0 and variance 1 over the images

`tune` does the last two for a converted graph, whose spiking neurons fire less than their source was active.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from snn2chip.ir.float_run import run_soma
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import OutputLayer
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.nn.base import Neuron

RATE = 0.15
ROUNDS = 12


@torch.no_grad()
def calibrate(model: nn.Module, images: Tensor, *, rate: float = RATE) -> None:
    """Set a model of the zoo, in place, so that on `images` (its own input) every activation fires at `rate`."""
    norms = any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    head = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    last: list[Any] = []

    def norm(module: Any, given: tuple[Tensor, ...]) -> None:
        x = given[0]
        module.running_mean.copy_(x.mean((0, 2, 3)))
        module.running_var.copy_(x.var((0, 2, 3), unbiased=False).clamp(min=1e-6))
        last[:] = [module]

    def conv(module: Any, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
        mean, std = out.mean((0, 2, 3)), out.std((0, 2, 3)).clamp(min=1e-3)
        module.weight.div_(std.view(-1, 1, 1, 1))
        module.bias.copy_((module.bias - mean) / std)
        last[:] = [module]
        return (out - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)

    def activation(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        x = given[0]
        shift = _shift(lambda z: type(module).forward(module, z), x, rate)
        last[0].bias.add_(shift)
        (x[0] if x.stride(0) == 0 else x).add_(shift)  # steps that share their memory are shifted once

    def logits(module: Any, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
        flat = out.reshape(-1, out.shape[-1]) if out.dim() == 2 else out.mean(0)  # [T,B,N] of a spiking head
        mean, std = flat.mean(0), flat.std(0).clamp(min=1e-6)
        module.weight.div_(std.unsqueeze(1))
        module.bias.copy_((module.bias - mean) / std)
        return (out - mean) / std

    hooks = []
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            hooks.append(module.register_forward_pre_hook(norm))
        elif isinstance(module, nn.Conv2d) and not norms:
            hooks.append(module.register_forward_hook(conv))
        elif isinstance(module, (Neuron, nn.ReLU)):
            hooks.append(module.register_forward_pre_hook(activation))
    hooks.append(head.register_forward_hook(logits))
    model.eval()(images)
    for hook in hooks:
        hook.remove()


@torch.no_grad()
def tune(graph: LayerGraph, images: Tensor, *, rate: float = RATE) -> LayerGraph:
    """Return a converted graph with biases moved so that its neurons fire at `rate`, and with even logits."""
    changed: dict[str, Any] = {}
    values: dict[str, Tensor] = {}
    left = {layer.name: len(graph.users(layer.name)) for layer in graph.layers}
    for layer in graph.layers:
        sources = graph.inputs.get(layer.name, ())
        given = [values[name] for name in sources] or [images.unsqueeze(0)]
        if isinstance(layer, NeuronLayer):
            soma = layer.soma
            shift = _shift(lambda z, soma=soma: run_soma(soma, z).payload, given[0], rate)  # type: ignore[misc]
            place = _biased(graph, layer.name)
            changed[place] = _moved(changed.get(place, graph.layer(place)), shift)
            values[layer.name] = run_soma(soma, given[0] + shift).payload
        elif not isinstance(layer, OutputLayer):
            values[layer.name] = layer.apply(given)
        else:
            place = _biased(graph, layer.name)
            head = changed.get(place, graph.layer(place))
            mean, std = given[0].mean((0, 1)), given[0].mean(0).std(0).clamp(min=1e-6)
            bias = (head.bias_or_zero() - mean) / std
            changed[place] = attrs.evolve(head, weight=head.weight / std.unsqueeze(1), bias=bias)
        for name in sources:
            left[name] -= 1
            if not left[name]:
                del values[name]
    return graph.with_layers(*changed.values())


def _biased(graph: LayerGraph, name: str) -> str:
    """The nearest linear map or norm of whose current a neuron (or the output) is fed."""
    near = list(reversed(graph.sources(name)))
    while near:
        layer = near.pop(0)
        if layer.kind in ("conv2d", "linear", "batchnorm"):
            return layer.name
        if layer.kind != "neuron":
            near += graph.sources(layer.name)
    raise AssertionError(f"{name}: no layer with a bias feeds it")


def _moved(layer: Any, shift: float) -> Any:
    if layer.kind == "batchnorm":
        return attrs.evolve(layer, beta=(0.0 if layer.beta is None else layer.beta) + torch.as_tensor(shift))
    return attrs.evolve(layer, bias=layer.bias_or_zero() + shift)


def _shift(run: Callable[[Tensor], Tensor], x: Tensor, rate: float) -> float:
    """The number to add to currents `x` at which a share `rate` of an activation's outputs is not 0, by bisection."""
    axis = x.dim() - 4  # channels, or what stands for them
    x = x.narrow(axis, 0, min(4, x.shape[axis])) if x.dim() == 5 else x[:4]
    low, high = -8.0 * float(x.std()) - float(x.mean()), 8.0 * float(x.std()) - float(x.mean())
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        fires = float((run(x + middle) != 0).float().mean())
        low, high = (middle, high) if fires < rate else (low, middle)
    return (low + high) / 2
