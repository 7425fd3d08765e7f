"""Maximum pooling over binary spikes as neurons of its own: the largest of some spikes is "at least one of them".

    max(s_1..s_k)*u = u*[s_1 + .. + s_k >= 1]     a sum-pool, then a neuron with threshold 1 and no memory

Exact, and only for payloads of one level: the largest of graded payloads is not a function of their sum.
"""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

from snn2chip.ir.channel_layers import MaxPoolLayer, SumPoolLayer
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import FloatSoma
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.passes.base import Pass
from snn2chip.passes.edit import GraphEdit


@attrs.frozen(kw_only=True)
class SpikePools(Pass):
    """Replace every maximum pooling over binary spikes by a sum-pool and neurons."""

    name: ClassVar[str] = "spike-pools"

    def run(self, graph: LayerGraph) -> LayerGraph:
        """Return the graph without maximum pools over binary spikes; others stay."""
        edit = GraphEdit(graph, by=self.name)
        for pool in edit.of_kind("maxpool"):
            source = edit.source(pool.name)
            if not isinstance(pool, MaxPoolLayer) or not isinstance(source, NeuronLayer) or not source.binary:
                continue
            unit = source.soma.unit.double()
            where: dict[str, Any] = {"path": pool.path, "source": pool.source}
            count = SumPoolLayer(
                name=edit.fresh("pool"),
                kernel=pool.kernel,
                stride=pool.stride,
                padding=pool.padding,
                factor=1.0 / unit,
                **where,
            )
            edit.insert(count, source=source.name, users=[pool.name])
            # half a spike: floats count to 1 with rounding errors, the integer threshold is 1
            soma = FloatSoma(steps=graph.steps, theta=0.5, unit=unit, reset="drop", method="maxpool")
            edit.replace(NeuronLayer(name=pool.name, soma=soma, **where))
            edit.note(pool.name, "the largest of binary spikes: a sum of spikes and a threshold of one")
        return edit.finish()
