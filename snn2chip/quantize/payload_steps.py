"""The step of a real payload that gets few bits: what loses least on the calibration data.

    code = clip(round(s/step), 0, 2^b - 1)       step = share * largest/(2^b - 1),  the share of smallest squared error

A smaller step rounds finer and clips more. The same search for every layer; 12 bits and more take the whole range.
`with_payloads` gives the float network the same codes, so that fidelity can tell the quantizer's part from theirs.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.ir.program import Program
from snn2chip.quantize.spec import FloatArray

MIN_BITS, MAX_BITS = 4, 16
SEARCHED = 12
WIDE_BITS = 20
"""Payload bits inside of a neuron that is lowered as two: far finer than what is sent on."""
SHARES = np.linspace(1.0, 0.1, 46)
KEPT = 1 << 14
"""Positive payloads of one layer kept from every block of calibration samples."""
MOST = 1 << 18
"""Payloads of one layer kept from all blocks: memory does not grow with the number of samples."""


def kept_payloads(values: Any) -> FloatArray:
    """At most `KEPT` of the positive payloads, evenly spread over a block; `values` is a tensor of any shape."""
    positive = values[values > 0].double().cpu().numpy()
    out: FloatArray = positive[:: max(1, -(-len(positive) // KEPT))]
    return out


def best_step(seen: FloatArray, largest: float, bits: int) -> float:
    """The step with the smallest mean squared error on payloads `seen`, the largest of all being `largest`."""
    top = (1 << bits) - 1
    whole = (largest if largest > 0 else 1.0) / top  # silent on the calibration data: any step does
    if bits >= SEARCHED or not seen.size:
        return whole
    lost = [float(np.square(np.clip(np.floor(seen / s + 0.5), 0, top) * s - seen).mean()) for s in whole * SHARES]
    return float(whole * SHARES[int(np.argmin(lost))])


def with_payloads(program: Program, graph: LayerGraph) -> LayerGraph:
    """The float graph whose real payloads are rounded and clipped to the codes that the program sends."""
    names, units = program.meta["layers"], program.meta["units"]["payload"]
    changed = []
    for layer in graph.of_kind("neuron"):
        assert isinstance(layer, NeuronLayer)
        soma = layer.soma
        if soma.fire == "excess" and soma.out_max is None and names.get(layer.name) in units:
            node: Any = program[names[layer.name]]
            unit, top = units[node.name][0], int(node.out_max.max())
            changed.append(attrs.evolve(layer, soma=attrs.evolve(soma, unit=unit, out_max=top)))
    return graph.with_layers(*changed)
