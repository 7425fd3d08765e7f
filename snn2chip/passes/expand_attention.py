"""Take channel attention apart into what a chip has: a sum, a linear map, a table and a product.

    x -> seca       x -> mean over space -> band matrix -> sigmoid neuron -> gate
                    x ---------------------------------------------------> gate

Exact in float. The mean is a sum-pool with the factor 1/(H*W), the band matrix the convolution along the channels.
"""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

from snn2chip.ir.attention_layers import BandLayer, GateLayer, SecaLayer, band
from snn2chip.ir.channel_layers import SumPoolLayer
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import FloatSoma
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.passes.base import Pass
from snn2chip.passes.edit import GraphEdit


@attrs.frozen(kw_only=True)
class ExpandAttention(Pass):
    """Replace every channel attention by mean, band matrix, sigmoid neuron and gate."""

    name: ClassVar[str] = "expand-attention"

    def run(self, graph: LayerGraph) -> LayerGraph:
        """Return the graph without attention layers."""
        if not graph.of_kind("seca"):
            return graph
        edit = GraphEdit(graph, by=self.name)
        for layer in edit.of_kind("seca"):
            assert isinstance(layer, SecaLayer)
            _expand(edit, layer, steps=graph.steps)
        return edit.finish()


def _expand(edit: GraphEdit, layer: SecaLayer, *, steps: int) -> None:
    source = edit.source(layer.name)
    channels, *size = edit.shape(source.name)
    where: dict[str, Any] = {"path": layer.path, "source": layer.source}
    mean = SumPoolLayer(
        name=edit.fresh(f"{layer.name}_mean"), kernel=size, stride=size, factor=1.0 / (size[0] * size[1]), **where
    )
    mixed = BandLayer(
        name=edit.fresh(f"{layer.name}_band"),
        weight=band(layer.weight, channels),
        bias=layer.bias.double().flatten().expand(channels).clone(),
        **where,
    )
    soma = FloatSoma(steps=steps, theta=1.0, unit=1.0, fire="sigmoid", reset="drop", method="sigmoid")
    score = NeuronLayer(name=edit.fresh(f"{layer.name}_score"), soma=soma, **where)
    before = source.name
    for made in (mean, mixed, score):
        edit.insert(made, source=before, users=[])
        before = made.name
    edit.replace(GateLayer(name=layer.name, **where))
    edit.inputs[layer.name] = [source.name, score.name]
    edit.note(layer.name, "channel attention as mean, band matrix, sigmoid neuron and product")
