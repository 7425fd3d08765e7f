"""Sigma-delta neurons of a `.net` file as somas that send changes.

    input      v = x * 2^e                                sends d = v - sent      where |d| >= vThMant * 2^e
    hidden     u += a;  v = max(u + bias * 2^(e+6), 0)    sends (v - sent) >> 6   where |v - sent| >= vThMant * 2^(e+6)
    sigma      u += a                                     sends u (a read-out shows it)

with e = spike_exp (6 unless NetX is told otherwise). `>> 6` floors what is sent and takes all of it for sent, as Lava
does. Lava keeps sigma in 32 bits; Loihi's registers, and this machine's, have 24. Sources: lava-dl 0.6.0 (netx),
lava-nc 0.10.0 (sdn).
"""

from __future__ import annotations

import numpy as np

from snn2chip.frontends.netx_file import LayerSpec, NeuronSpec
from snn2chip.frontends.netx_issues import Issues
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import LEAK_ONE, V_MAX, IntArray

SDNN = "SDNN"
STATE_EXP = 6
"""Fraction bits that states have and payloads have not."""
SPIKE_EXPS = range(8)


def delta_soma(
    layer: LayerSpec, shape: tuple[int, ...], bias: IntArray, *, spike_exp: int, issues: Issues
) -> Soma | None:
    """The soma of one layer of sigma-delta neurons, or None after telling `issues` why not."""
    assert layer.neuron is not None
    if "messageBits" in layer.neuron.keys:
        issues.refuse(layer, "messageBits stops NetX, which reads it as a group")
    exponent = layer.neuron.fields.get("weight_exp")
    if exponent is not None and exponent.any():
        issues.reads_past(layer, "weight_exp", exponent.ravel()[np.abs(exponent).argmax()])
    if "sigma_output" in layer.neuron.keys:
        return _sigma(layer, shape, bias, issues)
    shift = spike_exp + (0 if layer.kind == "input" else STATE_EXP)
    theta = _threshold(layer, layer.neuron, shift, issues)
    if layer.kind == "input":
        fields: dict[str, IntArray | int] = {"gain": 1 << shift}
    else:
        if layer.neuron.activation not in ("", "relu"):
            issues.reads_past(layer, "activation", layer.neuron.activation)
        if np.abs(bias).max() << shift > V_MAX:
            worst = int(bias.ravel()[np.abs(bias).argmax()])
            issues.refuse(layer, f"bias {worst} is beyond 24 bits with {shift} fraction bits")
            return None
        fields = {"syn_leak": LEAK_ONE, "bias": bias << shift, "v_min": 0, "delta_shift": STATE_EXP}
    if theta is None:
        return None
    name = f"layer{layer.index}"
    return Soma(name, shape, fire="delta", reset="keep", leak=0, theta=theta, layer=layer.path, **fields)  # type: ignore[arg-type]


def _sigma(layer: LayerSpec, shape: tuple[int, ...], bias: IntArray, issues: Issues) -> Soma | None:
    if bias.any():
        issues.refuse(layer, "a bias, which NetX's Sigma does not take")
        return None
    return Soma(f"layer{layer.index}", shape, syn_leak=LEAK_ONE, leak=0, fire="relay", reset="drop", layer=layer.path)


def _threshold(layer: LayerSpec, neuron: NeuronSpec, shift: int, issues: Issues) -> int | None:
    value = neuron.fields.get("vThMant")
    if value is None:
        issues.damaged(layer, "neuron/vThMant is missing")
    elif value.size != 1:
        issues.damaged(layer, f"neuron/vThMant has {value.size} values; NetX's sigma-delta layers have one")
    elif int(value.max()) << shift > V_MAX:
        issues.refuse(layer, f"vThMant {int(value.max())} is beyond 24 bits with {shift} fraction bits")
    else:
        return max(1, int(value.max()) << shift)  # every change but 0 reaches a threshold of 0
    return None
