"""Networks over one axis: `[C, L]` becomes `[C, 1, L]` from the input on, so that all layers work on planes.

The layers themselves read both; only the input changes (`sample_shape` keeps what a user gives) and the name of the
output's shape.
"""

from __future__ import annotations

from typing import ClassVar

import attrs

from snn2chip.ir.graph import LayerGraph
from snn2chip.passes.base import Pass
from snn2chip.passes.edit import GraphEdit

SPATIAL = ("conv2d", "avgpool", "sumpool", "maxpool", "resample")


@attrs.frozen(kw_only=True)
class LiftRows(Pass):
    """Give a network whose convolutions or pools read `[C, L]` planes of height 1."""

    name: ClassVar[str] = "lift-rows"

    def run(self, graph: LayerGraph) -> LayerGraph:
        """Return the graph on planes, or as it is where nothing reads rows."""
        output, flat = graph.output, [layer for layer in graph.input_layers if len(layer.shape) == 2]
        rows = [layer for layer in graph.of_kind(*SPATIAL) if len(graph.shapes[graph.inputs[layer.name][0]]) == 2]
        if not rows or not flat:
            return graph
        edit = GraphEdit(graph, by=self.name)
        for given in flat:
            channels, length = given.shape
            edit.replace(attrs.evolve(given, shape=(channels, 1, length), sample_shape=given.shape))
        edit.replace(attrs.evolve(output, shape=graph.shapes[output.name]))
        return edit.finish()
