"""Merged leaks beyond their 16 bits: the unit of the potential changes from step to step.

    v' = v/g(t):   leak' = leak*g(t-1)/g(t),   gain, bias and theta divided by g(t),   s = g(t)*s'

g(t) is per channel, a power of two, 1 before the first step, the smallest for which |leak'| fits. A soma's payload has
one scale for all steps, so a second neuron multiplies by g(t): m = g(t)*s', no memory, payload as before. It is there
only where a leak does not fit. Exact in float; only excess firing with clamp has such leaks (membrane norm).
"""

from __future__ import annotations

from typing import ClassVar

import attrs
import torch
from torch import Tensor

from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import FloatSoma
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.passes.base import Pass
from snn2chip.passes.edit import GraphEdit

LEAK_MAX = 32767 / 4096


@attrs.frozen(kw_only=True)
class LeakRange(Pass):
    """Change units per step where a leak leaves the range of its register."""

    name: ClassVar[str] = "leak-range"

    def run(self, graph: LayerGraph) -> LayerGraph:
        """Return the graph with two neurons for every one whose leaks do not fit."""
        edit = GraphEdit(graph, by=self.name)
        for layer in edit.of_kind("neuron"):
            assert isinstance(layer, NeuronLayer)
            soma = layer.soma
            wide = bool((soma.leak.abs() > LEAK_MAX).any())
            if soma.fire != "excess" or soma.reset != "clamp" or layer.feedback is not None or not wide:
                continue
            channels = (edit.shape(layer.name) or (1,))[0]
            scale = unit_changes(soma.leak, steps=soma.steps, channels=channels)
            inner = NeuronLayer(
                name=edit.fresh(f"{layer.name}_state"),
                path=layer.path,
                source=layer.source,
                soma=_rescaled(soma, scale),
            )
            before = edit.source(layer.name).name
            edit.insert(inner, source=before, users=[layer.name])
            outer = FloatSoma(
                steps=soma.steps,
                theta=0.0,
                unit=soma.unit,
                fire="excess",
                reset="drop",
                gain=scale,
                out_max=soma.out_max,
                out_rounding=soma.out_rounding,
                method=soma.method,
            )
            edit.replace(attrs.evolve(layer, soma=outer))
            edit.note(layer.name, "largest change of the potential's unit over the steps", value=float(scale.max()))
        return edit.finish()


def unit_changes(leak: Tensor, *, steps: int, channels: int) -> Tensor:
    """Return g `[T, C]`: powers of two >= 1 with |leak(t)|*g(t-1)/g(t) <= LEAK_MAX, every g(t) the smallest."""
    rows = _rows(leak, steps, channels).abs()
    g = torch.ones_like(rows)
    last = torch.ones_like(rows[0])
    for t in range(steps):
        needed = (rows[t] * last / LEAK_MAX).clamp(min=1.0)
        last = 2.0 ** torch.ceil(torch.log2(needed))
        g[t] = last
    return g


def _rescaled(soma: FloatSoma, g: Tensor) -> FloatSoma:
    steps, channels = g.shape
    before = torch.cat([torch.ones_like(g[:1]), g[:-1]])
    leak, gain, bias, theta = (_rows(v, steps, channels) for v in (soma.leak, soma.gain, soma.bias, soma.theta))
    return attrs.evolve(
        soma,
        leak=leak * before / g,
        gain=gain / g,
        bias=bias / g,
        theta=theta / g,
        unit=1.0,
        out_max=None,
        out_rounding="half-up",
        method="empf-state",
    )


def _rows(value: Tensor, steps: int, channels: int) -> Tensor:
    wide = value.double()
    return (wide.reshape(1, -1) if wide.dim() < 2 else wide).expand(steps, channels)
