"""Nets of whole numbers: a compiled program must send exactly the spikes of the torch model.

Weights and biases are whole numbers, thresholds powers of two, so nothing is rounded on the way and the model itself,
in float64, is the truth.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import snn2chip
from snn2chip.compiler import compile_graph
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.program import Program


def whole(model: nn.Module, *, seed: int = 0, top: int = 3) -> nn.Module:
    """Give every weight a whole number in -top..top, some of them 1, and every bias one in -2..2; eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
        if isinstance(weight, nn.Parameter) and weight.dim() > 1:
            drawn = torch.randint(-top, top + 1, weight.shape, generator=generator).float()
            ones = torch.rand(weight.shape, generator=generator) < 0.3
            weight.data = torch.where(ones, torch.ones_like(drawn), drawn)
            axis = 1 if isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d) else 0
            for row in weight.data.unbind(axis):
                row[(0,) * row.dim()] = 1.0
        if isinstance(bias, nn.Parameter) and weight is not None and weight.dim() > 1:
            bias.data = torch.randint(-2, 3, bias.shape, generator=generator).float()
    return model.eval()


def folded(make: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply a stateless layer to `[T, B, ...]`."""
    y = make(x.flatten(0, 1))
    return y.view(*x.shape[:2], *y.shape[1:])


def spikes(*shape: int, seed: int = 1, rate: float = 0.4) -> Tensor:
    """Return 0/1 samples."""
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < rate).float()


def assert_exact(model: nn.Module, x: Tensor, *, backends: tuple[str, ...] = ("reference", "torch")) -> Program:
    """Compile to eight bits and compare every payload with the float network's, and the read-out with the model's."""
    program, graph = compile_graph(model, x, weights="int8")
    wrong = [r for r in program.records if r["field"].startswith(("weight", "theta", "bias")) and r["error"] != 0.0]
    assert not wrong, wrong
    with torch.no_grad():
        logits = model.double()(x.double())
    model.float()
    floats = graph.run(x.double(), collect=True)
    assert torch.equal(floats.output.reshape(logits.shape), logits), "the graph in normal form is another network"
    for backend in backends:
        trace = snn2chip.run(program, np.asarray(x), backend=backend, time_axis=True)
        _compare(program, graph, trace, floats, logits)
    return program


def _compare(program: Program, graph: LayerGraph, trace: Any, floats: Any, logits: Tensor) -> None:
    units, names = program.meta["units"]["payload"], program.meta["layers"]
    for layer in graph.of_kind("neuron"):
        sent = trace.payloads[names[layer.name]]
        unit = np.asarray(units[names[layer.name]])
        unit = unit.reshape(unit.shape + (1,) * (sent.ndim - 3)) if unit.size > 1 else unit
        np.testing.assert_array_equal(sent * unit, floats.values[layer.name].numpy(), err_msg=layer.label)
        assert (sent != 0).any(), f"{layer.label} is silent, which proves nothing"
    (output,) = program.outputs
    (source,) = (edge.src for edge in program.into[output.name])
    if output.read == "potential":
        mu = np.asarray(program.meta["units"]["potential"][source])
        mu = mu.reshape(mu.shape + (1,) * (logits.dim() - 2))
        got = trace.outputs.reshape(logits.shape) * mu
    else:
        got = trace.outputs.reshape(logits.shape) * np.asarray(units[source])
    steps = program.steps if graph.output.reduce == "mean" else 1
    np.testing.assert_array_equal(got, logits.numpy() * steps)
