"""Drop layers that do nothing at inference, and let flattens sink until something reads flat anyway.

dropout, identity            gone
flatten -> linear, flatten   gone: a linear layer reads `[C,H,W]` flat, the last axis fastest
flatten -> output            the output names the flat shape
flatten -> neuron, relu      the flatten moves behind it, if the layer has no per-channel fields
add of flattens              one flatten behind the add
"""

from __future__ import annotations

import math
from typing import ClassVar

import attrs

from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import PER_CHANNEL, FlattenLayer, FloatSoma, Layer, OutputLayer
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.passes.base import Pass
from snn2chip.passes.edit import GraphEdit


@attrs.frozen(kw_only=True)
class RemoveIdentities(Pass):
    """Remove dropout and identity layers, and flattens wherever that is exact."""

    name: ClassVar[str] = "remove-identities"

    def run(self, graph: LayerGraph) -> LayerGraph:
        """Return the graph without layers that do nothing."""
        edit = GraphEdit(graph, by=self.name)
        for layer in edit.of_kind("dropout", "identity"):
            edit.bypass(layer.name)
        sink_flattens(edit)
        return edit.finish()


def sink_flattens(edit: GraphEdit) -> None:
    """Move every flatten towards the output until it is gone or would not be exact."""
    while any(_sink(edit, flatten) for flatten in edit.of_kind("flatten")):
        pass


def _sink(edit: GraphEdit, flatten: Layer) -> bool:
    """Move one flatten past one reader; whether anything changed."""
    source = edit.source(flatten.name).name
    for user in edit.users(flatten.name):
        if user.kind in ("linear", "flatten"):
            edit.rewire(user.name, flatten.name, source)
            return True
        if isinstance(user, OutputLayer):
            flat = (math.prod(edit.shape(source)),)
            edit.replace(attrs.evolve(user, shape=user.shape or (None if user.heads else flat)))
            edit.rewire(user.name, flatten.name, source)
            return True
        if user.kind == "add" and _all_flattened(edit, user):
            for src in dict.fromkeys(edit.inputs[user.name]):
                edit.rewire(user.name, src, edit.source(src).name)
        elif user.kind == "relu" or (isinstance(user, NeuronLayer) and _moves(user)):
            edit.rewire(user.name, flatten.name, source)
        else:
            continue
        moved = FlattenLayer(name=edit.fresh("flatten"), path=flatten.path, source=flatten.source)
        edit.insert(moved, source=user.name)
        return True
    return False


def _all_flattened(edit: GraphEdit, add: Layer) -> bool:
    sources = [edit.layers[src] for src in edit.inputs[add.name]]
    if any(src.kind != "flatten" for src in sources):
        return False
    return len({edit.shape(edit.source(src.name).name) for src in sources}) == 1


def _moves(neuron: NeuronLayer) -> bool:
    return neuron.feedback is None and not _per_channel(neuron.soma)


def _per_channel(soma: FloatSoma) -> bool:
    fields = (getattr(soma, name) for name in PER_CHANNEL)
    return any(value is not None and value.dim() and value.shape[-1] != 1 for value in fields)
