"""Windows over a current that is the same at every step become per-step gains.

    sum_j Omega[t,j] * I = I * sum_j Omega[t,j]      if I(j) = I for all j

True behind an input that repeats one frame, up to the first neuron. A gain keeps 14 bits where a window must
share 24 bits with the current, needs no T x T sums, and the soma need not wait for the whole sample.
Only for repeated input: event frames change from step to step.
"""

from __future__ import annotations

from typing import ClassVar

import attrs

from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.passes.base import Pass
from snn2chip.passes.edit import GraphEdit


@attrs.frozen(kw_only=True)
class SteadyWindows(Pass):
    """Replace windows of neurons that only the (repeated) input drives by gains `[T, C or 1]`; exact."""

    name: ClassVar[str] = "steady-windows"

    def run(self, graph: LayerGraph) -> LayerGraph:
        """Return the graph without such windows."""
        edit = GraphEdit(graph, by=self.name)
        steady: set[str] = set()
        for layer in graph.layers:
            if isinstance(layer, NeuronLayer):
                soma = layer.soma
                if soma.window is not None and soma.trained is None and set(graph.inputs[layer.name]) <= steady:
                    rows = soma.window.double().sum(1, keepdim=True)
                    gain = soma.gain.double() * rows  # [], [C], [T, C or 1] all broadcast against [T, 1]
                    edit.replace(attrs.evolve(layer, soma=attrs.evolve(soma, window=None, gain=gain)))
                    edit.note(layer.name, "its window sees one current at all steps and becomes a gain per step")
            elif set(graph.inputs.get(layer.name, ())) <= steady:
                steady.add(layer.name)
        return edit.finish()
