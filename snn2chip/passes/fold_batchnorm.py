"""Fold batch norm, `y = g*x + c` with g = gamma/sqrt(var + eps), c = beta - mean*g, wherever it is exact.

linear, conv2d, scale -> norm   into the weights and bias of what feeds it, if only the norm reads that
                                (binary and ternary weights: a negative g flips signs, |g| goes to the scale)
norm -> neurons                 into the somas: gain*g, bias + gain*c
otherwise                       the norm becomes a scale layer
"""

from __future__ import annotations

from typing import ClassVar

import attrs

from snn2chip.ir.channel_layers import BatchNormLayer, ScaleLayer
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.passes.affine import scaled_current, scaled_output
from snn2chip.passes.base import Pass
from snn2chip.passes.edit import GraphEdit


@attrs.frozen(kw_only=True)
class FoldBatchNorm(Pass):
    """Remove every batch norm; `into_weights=False` prefers the somas, which keeps shared weights as they are."""

    name: ClassVar[str] = "fold-batchnorm"
    into_weights: bool = True

    def run(self, graph: LayerGraph) -> LayerGraph:
        """Return the graph without batch norms."""
        edit = GraphEdit(graph, by=self.name)
        for norm in edit.of_kind("batchnorm"):
            assert isinstance(norm, BatchNormLayer)
            factor, shift = norm.affine()
            edit.replace(ScaleLayer(name=norm.name, path=norm.path, source=norm.source, factor=factor, shift=shift))
            if self.into_weights and fold_into_source(edit, norm.name):
                continue
            fold_into_neurons(edit, norm.name)
        return edit.finish()


def fold_into_source(edit: GraphEdit, name: str) -> bool:
    """Fold a scale layer into the weights of its source, if nothing else reads it; whether it was possible."""
    scale, source = edit.layers[name], edit.source(name)
    assert isinstance(scale, ScaleLayer)
    if len(edit.users(source.name)) != 1:
        return False
    folded = scaled_output(source, scale.factor, scale.shift)
    if folded is None:
        return False
    edit.replace(folded)
    edit.bypass(name)
    flipped = int((scale.factor < 0).sum())
    sign = f", {flipped} of {scale.factor.numel()} channels flipped" if flipped else ""
    edit.note(source.name, f"{scale.path or name} folded into the weights{sign}")
    return True


def fold_into_neurons(edit: GraphEdit, name: str) -> bool:
    """Fold a scale layer into the gain and bias of its readers, if all are neurons; whether it was possible."""
    scale, users = edit.layers[name], edit.users(name)
    assert isinstance(scale, ScaleLayer)
    if not all(isinstance(user, NeuronLayer) and user.feedback is None for user in users):
        return False
    if scale.shift is not None and any(isinstance(u, NeuronLayer) and u.soma.syn_leak is not None for u in users):
        return False  # the shift would have to be integrated by the synaptic current
    for user in users:
        assert isinstance(user, NeuronLayer)
        edit.replace(attrs.evolve(user, soma=scaled_current(user.soma, scale.factor, scale.shift)))
        edit.note(user.name, f"{scale.path or name} folded into gain and bias of the soma")
    edit.bypass(name)
    return True
