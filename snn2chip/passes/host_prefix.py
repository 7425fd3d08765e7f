"""Declare an ordinary stem as work of the host: conv, ReLU, pool in front of the first synapse of the chip.

    input -> conv2d -> relu -> maxpool -> ..      input -> host[conv2d, relu, maxpool] -> ..

Only layers in a row behind an input, only up to the last ReLU or maximum, and only where the rest of the network
has neurons and no ReLU: a network of ReLUs is not converted, and keeps saying so. Each of several inputs may have one.
"""

from __future__ import annotations

from typing import ClassVar

import attrs

from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.host_layer import HostLayer
from snn2chip.ir.layers import InputLayer, Layer
from snn2chip.passes.base import Pass
from snn2chip.passes.edit import GraphEdit

STEM = ("conv2d", "linear", "sumpool", "maxpool", "relu")
ORDINARY = ("relu", "maxpool")


@attrs.frozen(kw_only=True)
class HostPrefix(Pass):
    """Gather an ordinary stem into one host layer, one for each input."""

    name: ClassVar[str] = "host-prefix"

    def run(self, graph: LayerGraph) -> LayerGraph:
        """Return the graph with its stems as host layers, or as it is where there is none."""
        stems = {layer.name: stem for layer in graph.input_layers if (stem := _stem(graph, layer))}
        names = {layer.name for stem in stems.values() for layer in stem}
        if not stems or not graph.of_kind("neuron") or any(layer.name not in names for layer in graph.of_kind("relu")):
            return graph
        edit = GraphEdit(graph, by=self.name)
        for given, stem in stems.items():
            first, last = stem[0], stem[-1]
            host = HostLayer(name=edit.fresh("host"), path=first.path, source=first.source, parts=tuple(stem))
            edit.insert(host, source=last.name)
            edit.inputs[host.name] = [given]
            edit.note(host.name, f"{', '.join(layer.label for layer in stem)} run outside of the chip, counted apart")
        return edit.finish()


def _stem(graph: LayerGraph, given: InputLayer) -> list[Layer]:
    stem: list[Layer] = []
    at: Layer = given
    while len(users := graph.users(at.name)) == 1 and users[0].kind in STEM:
        at = users[0]
        stem.append(at)
    while stem and stem[-1].kind not in ORDINARY:
        stem.pop()
    return stem
