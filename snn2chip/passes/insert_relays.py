"""The last step to the normal form: one synapse on every edge into a soma, and none behind another.

    add -> add (read by nothing else)      one add of all
    payload -> neuron, add                 an identity synapse (a scale layer of factor 1, n for an edge taken n times)
    current -> linear map, gate            a relay neuron between, one per source
    add, gate -> add; current -> add, other  the same, and an identity synapse behind it: a sum has its synapses alone

A current is what a linear map or an add gives, a payload what the input or a neuron sends. A relay passes its
current on as a graded payload; its float unit is 1, the quantizer chooses the integer one.
"""

from __future__ import annotations

from typing import ClassVar

import attrs
import torch

from snn2chip.ir.channel_layers import ScaleLayer
from snn2chip.ir.graph import LINEAR_MAPS, PAYLOADS, LayerGraph
from snn2chip.ir.layers import FloatSoma, Layer, OutputLayer
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.passes.base import Pass
from snn2chip.passes.edit import GraphEdit

CURRENTS = (*LINEAR_MAPS, "add", "gate")


@attrs.frozen(kw_only=True)
class InsertRelays(Pass):
    """Make every synapse explicit and part synapses that follow each other by relays."""

    name: ClassVar[str] = "insert-relays"

    def run(self, graph: LayerGraph) -> LayerGraph:
        """Return the graph in normal form, if only linear maps, additions and neurons are left."""
        edit = GraphEdit(graph, by=self.name)
        for add in edit.of_kind("add"):
            _merge_adds(edit, add)
        for layer in edit.of_kind(*CURRENTS):
            _part(edit, layer, steps=graph.steps)
        for layer in edit.of_kind("neuron", "add"):
            _explicit(edit, layer)
        _read_out(edit)
        for add in edit.of_kind("add"):
            if len(edit.inputs[add.name]) == 1:
                edit.bypass(add.name)
        return edit.finish()


def _merge_adds(edit: GraphEdit, add: Layer) -> None:
    """Let `add` sum the inputs of every add that only it reads."""
    merged: list[str] = []
    inner: list[str] = []
    for src in edit.inputs[add.name]:
        alone = edit.layers[src].kind == "add" and len(edit.users(src)) == 1
        merged += edit.inputs[src] if alone else [src]
        inner += [src] if alone else []
    edit.inputs[add.name] = merged
    for src in inner:
        del edit.layers[src], edit.inputs[src]


def _part(edit: GraphEdit, source: Layer, *, steps: int) -> None:
    """Put one relay between a current source and the synapses (and sums) that read it."""
    users = [user.name for user in edit.users(source.name)]
    sums = source.kind in ("add", "gate") or len(users) > 1  # a sum has its synapses for itself
    split = (*LINEAR_MAPS, "gate", "delay", "add") if sums else (*LINEAR_MAPS, "gate", "delay")
    parted = [name for name in dict.fromkeys(users) if edit.layers[name].kind in split]
    if not parted:
        return
    soma = FloatSoma(steps=steps, theta=1.0, unit=1.0, fire="relay", reset="drop", method="relay")
    relay = NeuronLayer(name=edit.fresh("relay"), path=source.path, source=source.source, soma=soma)
    edit.insert(relay, source=source.name, users=parted)
    edit.note(relay.name, f"passes the current of {source.label} on to {', '.join(parted)}")


def _read_out(edit: GraphEdit) -> None:
    """Put an identity synapse in front of an output that payload sums cannot give: the last step, or several units."""
    for output in edit.of_kind("output"):
        assert isinstance(output, OutputLayer)
        for i, src in enumerate(edit.inputs[output.name]):
            source = edit.layers[src]
            units = source.soma.unit.numel() if isinstance(source, NeuronLayer) else 0
            if output.how(i) == "last" or (output.how(i) in ("sum", "mean") and units > 1):
                _explicit(edit, output, only=src)


def _read_as_is(source: Layer) -> bool:
    """Whether a neuron's potential is what is read of it."""
    return isinstance(source, NeuronLayer) and source.soma.fire == "membrane"


def _explicit(edit: GraphEdit, layer: Layer, *, only: str | None = None) -> None:
    """Put an identity synapse on every edge (or that from `only`) from a payload source into a soma or a sum."""
    for src in [src for src in dict.fromkeys(edit.inputs[layer.name]) if only in (None, src)]:
        if edit.layers[src].kind not in PAYLOADS or (layer.kind == "output" and _read_as_is(edit.layers[src])):
            continue
        count = 1 if layer.kind == "output" else edit.inputs[layer.name].count(src)
        factor = torch.tensor(float(count), dtype=torch.float64)
        scale = ScaleLayer(name=edit.fresh("identity"), path=layer.path, source=layer.source, factor=factor)
        edit.insert(scale, source=src, users=[layer.name])
        sources = edit.inputs[layer.name]
        edit.inputs[layer.name] = [s for i, s in enumerate(sources) if s != scale.name or i == sources.index(s)]
