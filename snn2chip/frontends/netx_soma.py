"""Neuron groups of a `.net` file as somas: the current-based LIF neuron in Loihi's 6-bit aligned registers.

    u = wrap24(trunc(u * (4096 - iDecay) / 4096) + 64 a)
    v = sat24(trunc(v * (4096 - vDecay) / 4096) + u + 64 bias);   spike if v > 64 vThMant;   then v = 0

The compare is strict, so theta = 64 vThMant + 1. A dense layer without a neuron group is a read-out that integrates
u without leak, shows v = u + 64 bias and never fires. Sources: lava-dl 0.6.0 (netx), lava-nc 0.10.0 (lif).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from snn2chip.frontends.netx_delta import SDNN, delta_soma
from snn2chip.frontends.netx_file import LayerSpec
from snn2chip.frontends.netx_issues import Issues
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import LEAK_ONE, NEVER, V_MAX, IntArray

ALIGN = 64
"""Currents, biases and thresholds are shifted left by 6 bits."""
CUBA = ("LOIHI", "CUBA")
READ_OUT = {"iDecay": 0, "vDecay": 4096, "vThMant": 1 << 17}
"""The neuron of a dense layer that has none."""
TOP_MANTISSA = (1 << 17) - 1
"""The largest threshold the register holds."""
IGNORED = (("refDelay", 1), ("wgtExp", 0), ("weight_exp", 0), ("gradedSpike", 0))
"""Fields that NetX reads past, and the largest value that means nothing."""


def soma_of(
    layer: LayerSpec,
    shape: tuple[int, ...],
    *,
    steps: int,
    reset_interval: int | None,
    exact: bool,
    issues: Issues,
    spike_exp: int = 6,
) -> Soma | None:
    """The soma of one layer with neurons of `shape` (torch order), or None after telling `issues` why not.

    State is cleared at logical steps that are multiples of `reset_interval`, by a leak of 0 in those steps. `exact`:
    take a bias as it stands in the file, where NetX would wrap it to 16 bits.
    """
    changes = layer.neuron is not None and layer.neuron.type == SDNN
    fields = None if changes else _fields(layer, shape, issues)
    bias = bias_of(layer, shape, exact=exact, issues=issues)
    if changes and bias is not None:
        if reset_interval is not None:
            issues.refuse(layer, "NetX does not reset sigma-delta neurons; leave reset_interval out")
        return delta_soma(layer, shape, bias, spike_exp=spike_exp, issues=issues)
    if fields is None or bias is None:
        return None
    keep = _kept(steps, reset_interval)
    current: dict[str, Any] = {} if layer.kind == "input" else {"syn_leak": keep * (LEAK_ONE - fields["iDecay"])}
    return Soma(
        f"layer{layer.index}",
        shape,
        gain=ALIGN,
        leak=keep * (LEAK_ONE - fields["vDecay"]),
        bias=bias * ALIGN,
        theta=np.minimum(fields["vThMant"] * ALIGN + 1, NEVER),
        reset="zero",
        payload_bits=1,
        layer=layer.path,
        **current,
    )


def _kept(steps: int, reset_interval: int | None) -> IntArray:
    if reset_interval is None or reset_interval >= steps:
        return np.ones((1, 1), np.int64)
    return (np.arange(steps, dtype=np.int64) % reset_interval != 0).astype(np.int64)[:, None]


def _fields(layer: LayerSpec, shape: tuple[int, ...], issues: Issues) -> dict[str, IntArray] | None:
    neuron = layer.neuron
    if neuron is None:
        return {key: np.full((1, 1), value, np.int64) for key, value in READ_OUT.items()}
    if neuron.type not in CUBA:
        issues.refuse(layer, f"neurons of type {neuron.type!r} cannot be imported; only CUBA, LOIHI and SDNN are")
        return None
    if "messageBits" in neuron.keys:
        issues.refuse(layer, "messageBits asks for graded spikes; current-based LIF neurons send binary ones")
    for key, harmless in IGNORED:
        value = neuron.fields.get(key)
        if value is not None and (value.max() > harmless or (harmless == 0 and value.min() < 0)):
            issues.reads_past(layer, key, value.ravel()[np.abs(value).argmax()])
    found: dict[str, IntArray] = {}
    for key in READ_OUT:
        value = neuron.fields.get(key)
        if value is None:
            issues.damaged(layer, f"neuron/{key} is missing")
        elif value.size not in (1, shape[0]):
            issues.damaged(layer, f"neuron/{key} has {value.size} values; expected 1 or {shape[0]} (one per channel)")
        else:
            found[key] = value.reshape(1, -1)
    for key in ("iDecay", "vDecay"):
        if key in found and (found[key].min() < 0 or found[key].max() > LEAK_ONE):
            issues.damaged(layer, f"neuron/{key} = {found[key].ravel()[0]} is outside 0..{LEAK_ONE}")
            found.pop(key)
    if "vThMant" in found and found["vThMant"].min() * ALIGN < -V_MAX:
        issues.damaged(layer, f"neuron/vThMant = {found['vThMant'].min()} is outside 24 bits after alignment")
        found.pop("vThMant")
    return found if len(found) == len(READ_OUT) else None


def bias_of(layer: LayerSpec, shape: tuple[int, ...], *, exact: bool, issues: Issues) -> IntArray | None:
    """Bias mantissas in the stored form of a soma: scalar, per channel, or per neuron in torch order."""
    raw = layer.numbers.get("bias")
    if raw is None or layer.kind == "input":
        return np.zeros((1, 1), np.int64)
    bias: IntArray = raw.astype(np.int64)
    if (bias != raw).any():
        issues.note(layer, "fractions of the bias are dropped, as NetX does")
    limit = (1 << 17) - 1 if exact else (1 << 15) - 1
    if np.abs(bias).max() > limit:
        worst = int(bias.ravel()[np.abs(bias).argmax()])
        issues.refuse(layer, f"bias {worst} is beyond the {limit} that fits; NetX stores 16 bits and wraps it silently")
        return None
    per_neuron = len(shape) == 3 and bias.shape == shape[::-1]
    if bias.size in (1, shape[0]) and not per_neuron:
        return bias.reshape(1, -1)
    if per_neuron:
        return bias.transpose()[None]
    issues.damaged(layer, f"bias has shape {bias.shape}; expected one value per channel ({shape[0]})")
    return None


def is_read_out(soma: Soma, lo: int, hi: int, steps: int) -> bool:
    """Whether the threshold is meant never to be reached, and no input of `steps` steps with currents `lo..hi` does.

    Exporters write the largest mantissa, 2^17 - 1, or more. The former is still a potential (64 below the largest),
    so it is shown: |u| <= 64 max|a| min(T, 1/(1-syn_leak)) and |v| <= (|u| + |bias|) min(T, 1/(1-leak)) < theta.
    """
    if soma.fire != "levels" or soma.theta is None:
        return False
    theta = int(soma.theta.min())
    if theta >= NEVER:
        return True
    if theta < ALIGN * TOP_MANTISSA:
        return False
    u = peak_current(soma, lo, hi, steps)
    v = (u + int(np.abs(soma.bias).max())) * _span(soma.leak, steps)
    return u <= V_MAX and v < theta


def peak_current(soma: Soma, lo: int, hi: int, steps: int) -> int:
    """Static bound of |u| before it wraps, for summed currents in `lo..hi`."""
    gain = int(soma.gain.max())
    leak = soma.syn_leak if soma.syn_leak is not None else np.zeros(1, np.int64)
    return gain * max(-lo, hi) * _span(leak, steps)


def _span(leak: IntArray, steps: int) -> int:
    """How many steps' worth of input a leaky sum holds at most, rounded up."""
    lost = LEAK_ONE - int(leak.max())
    return min(steps, -(-LEAK_ONE // lost)) if lost > 0 else steps
