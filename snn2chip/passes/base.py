"""What a pass is: a frozen dataclass whose fields are its options, from LayerGraph to LayerGraph.

Passes never change their input. The graph is verified after each (shapes, edges, inputs and output); what a
pass decided or could not do exactly is a note of the graph.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar

import attrs

from snn2chip.errors import UnsupportedError
from snn2chip.ir.graph import LayerGraph
from snn2chip.stages import stage


@attrs.frozen(kw_only=True)
class Pass(ABC):
    """One transformation; `name` is its kebab-case name on the command line."""

    name: ClassVar[str]

    @abstractmethod
    def run(self, graph: LayerGraph) -> LayerGraph:
        """Return the transformed graph."""


def apply_passes(graph: LayerGraph, passes: Iterable[Pass], *, normal_form: bool = True) -> LayerGraph:
    """Return the graph after all passes, in order, verified after each.

    Raises UnsupportedError, with everything that is left, if `normal_form` is asked for and not reached, and
    TraceError if a pass breaks the graph or changes the shape of its input or output.
    """
    for step in passes:
        with stage(f"pass {step.name}"):
            before, graph = graph, step.run(graph)
        assert _outside(before) == _outside(graph), step.name
    if normal_form and (breaches := graph.normal_form_breaches()):
        raise UnsupportedError(breaches)
    return graph


def _outside(graph: LayerGraph) -> tuple[object, ...]:
    """What a user sees of a graph: a pass leaves it alone."""
    inputs = tuple((layer.name, layer.raw_shape) for layer in graph.input_layers)
    return inputs, graph.shapes["output"], graph.steps, graph.output.reduce
