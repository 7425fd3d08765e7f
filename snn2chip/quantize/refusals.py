"""What a target cannot run of a float graph in normal form, told before anything is lowered."""

from __future__ import annotations

from snn2chip.errors import UnsupportedError
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.quantize.strict import strict_breach

NO_PRODUCTS = ("loihi1",)
NO_NEGATIVE_LEAK = ("loihi1",)


def check_layers(graph: LayerGraph, target: str, *, strict: bool = False) -> None:
    """Raise UnsupportedError that lists every layer which `target` has no means for, or no `strict` compare."""
    bad = []
    for layer in graph.layers:
        if layer.kind == "gate" and target in NO_PRODUCTS:
            bad.append(
                f"{layer.label}: channel attention multiplies two messages, which {target} cannot; compile for loihi2 "
                "or ideal, or build the net without attention"
            )
        if isinstance(layer, NeuronLayer) and target in NO_NEGATIVE_LEAK and bool((layer.soma.leak < 0).any()):
            count = int((layer.soma.leak < 0).sum())
            bad.append(
                f"{layer.label}: {count} of {layer.soma.leak.numel()} merged leaks are negative (a norm of negative "
                f"slope), which {target} cannot; compile for loihi2 or ideal, or train with gamma >= 0"
            )
        if strict and isinstance(layer, NeuronLayer) and (why := strict_breach(layer.soma)):
            bad.append(f"{layer.label}: no strict compare, it {why}; leave out `strict`")
    if bad:
        raise UnsupportedError(bad)
