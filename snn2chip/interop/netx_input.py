"""An input that is the bias of neurons: the `input` layer of a `.net` file, or why it is none.

    v = sat24(trunc(v * (4096 - vDecay) / 4096) + 64 x);  spike where v > 64 vThMant, then v = 0

x is a bias mantissa of 16 bits that holds for a whole sample. `weight` and `bias` of the layer say how raw samples
become one, trunc(weight * raw + bias). Sources: lava-dl 0.6.0 (netx), lava-nc 0.10.0 (lif).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from snn2chip.frontends.netx_build import BIAS_HI, BIAS_LO
from snn2chip.interop.netx_layers import Stage
from snn2chip.ir.nodes import Input
from snn2chip.ir.program import Program


def is_entry(stage: Stage) -> bool:
    """Whether a stage gives the input to neurons one by one, without weights."""
    return [synapse.kind for synapse, _ in stage.synapses] == ["identity"] and stage.soma.fire != "delta"


def entry_fields(program: Program, stage: Stage) -> tuple[dict[str, Any], list[str]]:
    """The fields of the input layer, and what NetX's does not do; its neurons are `neuron_fields`."""
    ((synapse, delay),) = stage.synapses
    given, soma = program.inputs[0], stage.soma
    lo, hi = given.payload_type().lo, given.payload_type().hi
    found = {
        f"{synapse.name} weighs or delays the input": bool((synapse.weight != 1).any() or synapse.exponent or delay),
        f"{given.name} changes from step to step": isinstance(given, Input) and given.coding != "repeat",
        f"{given.name} has values {lo}..{hi}, beyond 16 bits": lo < BIAS_LO or hi > BIAS_HI,
        f"{soma.name} has biases of its own": bool(soma.bias.any()),
        f"{soma.name} adds its input to a current (syn_leak)": soma.syn_leak is not None,
        f"{soma.name} hears itself": bool(stage.back),
        f"{soma.name} has the shape {list(soma.shape)}, not [N] or [C, H, W]": len(soma.shape) not in (1, 3),
    }
    bad = [f"{text}; NetX's input layer adds one number for a whole sample to the potential of each neuron"
           for text, met in found.items() if met]  # fmt: skip
    transform = program.meta.get("input_transform") or {"weight": 1, "bias": 0}
    return {"type": "input", "shape": np.array(soma.shape), **{k: int(transform[k]) for k in ("weight", "bias")}}, bad
