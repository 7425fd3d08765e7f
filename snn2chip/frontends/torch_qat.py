"""Look up what drives the neurons of an integer-trained model: their weight layers, norms, pools and sources.

Only the structure is kept (`nn.qat_feed.Feed`): the numbers are read from the modules at every forward.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from snn2chip.errors import Snn2ChipError
from snn2chip.frontends.torch_refusals import Refusal
from snn2chip.ir.channel_layers import BatchNormLayer, SumPoolLayer
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import InputLayer, Layer
from snn2chip.ir.linear_layers import AffineLayer
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.nn.base import Neuron
from snn2chip.nn.qat_feed import Feed

if TYPE_CHECKING:
    from snn2chip.nn.qat import IntegerGrid

EXACT = "exact"
_THROUGH = ("identity", "dropout", "flatten")


def bind_neurons(model: nn.Module, sample: Tensor | Mapping[str, Tensor]) -> dict[str, str]:
    """Give every integer-trained neuron of `model` its feed; return "exact" or the reason why not, by module path.

    `sample` is any input of the model, by name if it takes several. A model that cannot be traced keeps its neurons
    without feeds.
    """
    from snn2chip.frontends.torch import by_parameter, trace

    neurons = {path: m for path, m in model.named_modules() if isinstance(m, Neuron) and m.qat is not None}
    for neuron in neurons.values():
        neuron.feed, neuron.exact = None, "its layer is not part of the recorded network"
    if not neurons:
        return {}
    try:
        with _without_hooks(model):
            samples = by_parameter(model, sample)
            graph = trace(model, samples, replay=False)
    except Snn2ChipError as error:
        for neuron in neurons.values():
            neuron.exact = f"the network cannot be traced: {error}"
        return {path: neuron.exact for path, neuron in neurons.items()}
    found = [layer for layer in graph.layers if isinstance(layer, NeuronLayer) and layer.path in neurons]
    for layer in found:
        neuron = neurons[layer.path]
        assert neuron.qat is not None
        try:
            neuron.feed, neuron.exact = _feed(graph, model, layer, neuron.qat, samples), EXACT
        except Refusal as refusal:
            neuron.exact = str(refusal)
    return {path: neuron.exact for path, neuron in neurons.items()}


def bind_unbound(model: nn.Module, sample: Tensor | Mapping[str, Tensor]) -> None:
    """Bind the neurons of a model that has not run yet."""
    from snn2chip.nn.qat import UNBOUND

    if any(isinstance(m, Neuron) and m.exact == UNBOUND for m in model.modules()):
        bind_neurons(model, sample)


def input_unit(model: nn.Module) -> float | None:
    """The unit of the model's input on which its first neurons were trained, or None."""
    feeds = (m.feed for m in model.modules() if isinstance(m, Neuron))
    return next((feed.input_unit for feed in feeds if feed is not None and feed.source is None), None)


@contextmanager
def _without_hooks(model: nn.Module) -> Iterator[None]:
    """Take the forward hooks off all modules for a while: what they compute is not the network."""
    kept = [(m, dict(m._forward_hooks), dict(m._forward_pre_hooks)) for m in model.modules()]
    for m, _, _ in kept:
        m._forward_hooks.clear()
        m._forward_pre_hooks.clear()
    try:
        yield
    finally:
        for m, after, before in kept:
            m._forward_hooks.update(after)
            m._forward_pre_hooks.update(before)


def _feed(
    graph: LayerGraph, model: nn.Module, neuron: NeuronLayer, grid: IntegerGrid, samples: Mapping[str, Tensor]
) -> Feed:
    if neuron.feedback is not None:
        raise Refusal("its own spikes come back to it, so its current is a sum whose unit the compiler chooses")
    after: list[nn.Module | float] = []
    layer = _before(graph, neuron)
    while not isinstance(layer, AffineLayer):
        after.append(_between(model, layer))
        layer = _before(graph, layer)
    module = model.get_submodule(layer.path)
    if layer.parts is None or not callable(getattr(module, "weight_parts", None)):
        raise Refusal(f"the weights of {layer.label} are floats; train them binary, ternary or with 2 to 8 bits")
    unit = 1.0
    source = _before(graph, layer)
    while isinstance(source, SumPoolLayer):
        unit *= float(source.factor)
        source = _before(graph, source)
    if isinstance(source, InputLayer):
        sample = samples[source.name]
        whole = bool((sample == sample.round()).all()) and bool((sample != 0).any())
        scale = grid.input_unit or (1.0 if whole else None)
        if scale is None:
            raise Refusal("the model's input is real; quantize_neurons(model, input_unit=...) declares its unit")
        return Feed(
            layer=module, label=layer.label, source=None, unit=scale * unit, input_unit=scale, after=tuple(after)
        )
    if not isinstance(source, NeuronLayer) or source.soma.fire not in ("levels", "ladder"):
        raise Refusal(f"{layer.label} reads {source.label}, which does not send counts of one unit")
    sender = model.get_submodule(source.path)
    if not isinstance(sender, Neuron) or sender.threshold().numel() != 1:
        raise Refusal(f"the payloads of {source.label} have no single unit")
    return Feed(layer=module, label=layer.label, source=sender, unit=unit, after=tuple(after))


def _before(graph: LayerGraph, layer: Layer) -> Layer:
    """The layer that feeds `layer`, past those that change nothing."""
    (source, *others) = graph.sources(layer.name)
    if others or source.kind == "add":
        raise Refusal("its current is a sum, whose branches share a unit that the compiler chooses")
    return _before(graph, source) if source.kind in _THROUGH else source


def _between(model: nn.Module, layer: Layer) -> nn.Module | float:
    """A norm module or a pool's factor."""
    if isinstance(layer, SumPoolLayer):
        kernel, factor = layer.kernel, float(layer.factor)
        if layer.padding != (0, 0) or abs(factor * kernel[0] * kernel[1] - 1.0) > 1e-9:
            raise Refusal(f"{layer.label} between the weights and the neuron pads or does not average")
        return factor
    module = model.get_submodule(layer.path)
    if isinstance(layer, BatchNormLayer) and isinstance(module, nn.modules.batchnorm._BatchNorm):
        return module
    raise Refusal(f"{layer.label} ({layer.kind}) stands between weights and neuron")


def on_grid(x: Tensor, unit: float | None) -> Tensor:
    """Samples rounded to whole multiples of the input's unit, if it has one."""
    return x if unit is None else torch.round(x / unit) * unit
