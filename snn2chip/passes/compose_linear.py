"""Compose linear maps that follow each other without a neuron between, wherever that is exact.

    pool -> linear, pool -> conv2d, conv2d -> pool, pool -> pool, resample -> linear, linear -> linear
    scale -> linear, conv2d, pool, resample, scale        (a shift in front of zero padding is not exact and stays)
    linear, conv2d, pool, resample -> scale               scale -> neurons: into gain and bias

Average pools become sum-pools. What is left in a row is later parted by a relay.
"""

from __future__ import annotations

from typing import ClassVar

import attrs

from snn2chip.ir.channel_layers import ScaleLayer, SumPoolLayer
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import InputLayer, Layer, Shape
from snn2chip.ir.linear_layers import AffineLayer, Conv2dLayer, LinearLayer
from snn2chip.ir.planes import plane_of
from snn2chip.ir.space_layers import ResampleLayer
from snn2chip.passes.affine import as_sumpool, scaled_input, scaled_output
from snn2chip.passes.base import Pass
from snn2chip.passes.edit import GraphEdit
from snn2chip.passes.fold_batchnorm import fold_into_neurons
from snn2chip.passes.pooling import (
    conv_then_pool,
    pool_then_conv,
    pool_then_linear,
    pool_then_pool,
    resample_then_linear,
)
from snn2chip.passes.remove_identities import sink_flattens

MAPS = ("linear", "conv2d", "sumpool", "resample", "scale")


@attrs.frozen(kw_only=True)
class ComposeLinear(Pass):
    """Compose neighbouring linear maps.

    `pools` = False keeps pools in front of convolutions as synapses of their own. `max_growth` is how many times
    more weights a composition with a pool may have than the layer alone.
    """

    name: ClassVar[str] = "compose-linear"
    pools: bool = True
    max_growth: int = 64

    def run(self, graph: LayerGraph) -> LayerGraph:
        """Return the graph with composed linear maps."""
        edit = GraphEdit(graph, by=self.name)
        for pool in edit.of_kind("avgpool"):
            assert isinstance(pool, SumPoolLayer)
            edit.replace(as_sumpool(pool, factor=pool.factor))
        sink_flattens(edit)
        while self._sweep(edit):
            pass
        return edit.finish()

    def _sweep(self, edit: GraphEdit) -> bool:
        """Compose along the order of the graph; whether anything changed.

        What was composed is tried again at once, in its new place; layers before it wait for the next sweep.
        """
        changed = False
        for layer in edit.of_kind(*MAPS):
            at: str | None = layer.name
            while at in edit.layers and (at := self._step(edit, edit.layers[at])) is not None:
                changed = True
        return changed

    def _step(self, edit: GraphEdit, second: Layer) -> str | None:
        """Compose one layer with its source, or fold it into neurons; None where neither is possible.

        Returns the name of what was composed, "" behind a fold.
        """
        first = edit.source(second.name)
        if first.kind in MAPS:
            composed = self._composed(edit, first, second)
            if composed is not None:
                return _exchange(edit, first, second, composed)
        follows_current = first.kind in (*MAPS, "add")
        if isinstance(second, ScaleLayer) and follows_current and fold_into_neurons(edit, second.name):
            return ""
        return None

    def _composed(self, edit: GraphEdit, first: Layer, second: Layer) -> Layer | None:
        source = edit.source(first.name)
        shape = edit.shape(source.name)
        shape = plane_of(shape)[0] if len(shape) == 2 else shape
        declared = isinstance(source, InputLayer) and source.scale is not None
        if isinstance(first, ScaleLayer):
            return None if declared else scaled_input(second, first.factor, first.shift, shape=shape)
        if isinstance(second, ScaleLayer):
            return scaled_output(first, second.factor, second.shift)
        composed = self._pooled(first, second, shape=shape)
        if isinstance(first, LinearLayer) and isinstance(second, LinearLayer):
            weight = second.weight.double() @ first.weight.double()
            bias = second.bias_or_zero().double() + second.weight.double() @ first.bias_or_zero().double()
            composed = attrs.evolve(second, weight=weight, bias=bias, parts=None)
        return composed

    def _pooled(self, first: Layer, second: Layer, *, shape: Shape) -> Layer | None:
        composed: Layer | None = None
        if isinstance(first, SumPoolLayer) and isinstance(second, SumPoolLayer):
            return pool_then_pool(first, second)
        if isinstance(first, SumPoolLayer) and isinstance(second, LinearLayer):
            composed = pool_then_linear(first, second, shape=shape)
        elif isinstance(first, ResampleLayer) and isinstance(second, LinearLayer):
            composed = resample_then_linear(first, second, shape=shape)
        elif isinstance(first, SumPoolLayer) and isinstance(second, Conv2dLayer) and self.pools:
            composed = pool_then_conv(first, second, shape=shape)
        elif isinstance(first, Conv2dLayer) and isinstance(second, SumPoolLayer):
            composed = conv_then_pool(first, second, shape=shape)
        if isinstance(composed, AffineLayer):
            weights = first if isinstance(first, AffineLayer) else second
            assert isinstance(weights, AffineLayer)
            if composed.weight.numel() > self.max_growth * weights.weight.numel():
                return None
        return composed


def _exchange(edit: GraphEdit, first: Layer, second: Layer, composed: Layer) -> str:
    """Put the composed layer in place: under the name of the one with weights if nobody else reads the first.

    Returns that name.
    """
    alone = len(edit.users(first.name)) == 1
    weighted = [layer for layer in (first, second) if isinstance(layer, AffineLayer)]
    owner = first if weighted == [first] and alone else second
    if weighted == [first] and not alone:
        composed = attrs.evolve(composed, path=first.path)
    composed = attrs.evolve(composed, name=owner.name)
    edit.replace(composed)
    if owner is first:
        edit.bypass(second.name)
    else:
        edit.rewire(second.name, first.name, edit.source(first.name).name)
        if alone:
            del edit.layers[first.name], edit.inputs[first.name]
    other = first if owner is second else second
    edit.note(owner.name, f"composed with {other.kind} {other.label}")
    had = [layer for layer in weighted if layer.parts is not None]
    if had and isinstance(composed, AffineLayer) and composed.parts is None:
        edit.note(owner.name, f"{had[0].parts.kind} weights of {had[0].label} became dense floats")  # type: ignore[union-attr]
    return owner.name
