"""Declare an ordinary stem as work of the host: conv, ReLU, pool in front of the first synapse of the chip.

    input -> conv2d -> relu -> maxpool -> ..      input -> host[conv2d, relu, maxpool] -> ..

Only layers in a row behind the input, only up to the last ReLU or maximum, and only where the rest of the network
has neurons and no ReLU: a network of ReLUs is not converted, and keeps saying so.
"""

from __future__ import annotations

from typing import ClassVar

import attrs

from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.host_layer import HostLayer
from snn2chip.ir.layers import Layer
from snn2chip.passes.base import Pass
from snn2chip.passes.edit import GraphEdit

STEM = ("conv2d", "linear", "sumpool", "maxpool", "relu")
ORDINARY = ("relu", "maxpool")


@attrs.frozen(kw_only=True)
class HostPrefix(Pass):
    """Gather an ordinary stem into one host layer."""

    name: ClassVar[str] = "host-prefix"

    def run(self, graph: LayerGraph) -> LayerGraph:
        """Return the graph with its stem as a host layer, or as it is where there is none."""
        stem = _stem(graph)
        while stem and stem[-1].kind not in ORDINARY:
            stem.pop()
        names = {layer.name for layer in stem}
        if not stem or not graph.of_kind("neuron") or any(layer.name not in names for layer in graph.of_kind("relu")):
            return graph
        edit = GraphEdit(graph, by=self.name)
        first, last = stem[0], stem[-1]
        host = HostLayer(name=edit.fresh("host"), path=first.path, source=first.source, parts=tuple(stem))
        edit.insert(host, source=last.name)
        edit.inputs[host.name] = [graph.input.name]
        edit.note(host.name, f"{', '.join(layer.label for layer in stem)} run outside of the chip, counted apart")
        return edit.finish()


def _stem(graph: LayerGraph) -> list[Layer]:
    stem: list[Layer] = []
    at: Layer = graph.input
    while len(users := graph.users(at.name)) == 1 and users[0].kind in STEM:
        at = users[0]
        stem.append(at)
    return stem
