"""Sigma-delta somas as neurons of a `.net` file (`snn2chip.frontends.netx_delta` read backwards), or why they are none.

NetX gives what is sent `spike_exp` fraction bits and states six more; thresholds and biases are whole in these units.
It never resets such networks and takes a step for every synapse, so every edge must have a delay of 1 of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np

from snn2chip.analysis.ranges import program_ranges
from snn2chip.frontends.netx_delta import SPIKE_EXPS, STATE_EXP
from snn2chip.interop.netx_layers import Stage
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import LEAK_ONE, NEVER, IntArray


def sends_changes(chain: Sequence[Stage]) -> bool:
    """Whether a chain has sigma-delta somas."""
    return any(stage.soma.fire == "delta" for stage in chain)


def is_encoder(stage: Stage) -> bool:
    """Whether a stage only turns the input into changes."""
    plain = len(stage.synapses) == 1 and stage.synapses[0][0].kind == "identity"
    return plain and stage.soma.fire == "delta" and stage.soma.syn_leak is None


def encoder_fields(stage: Stage) -> tuple[dict[str, Any], list[str]]:
    """The input layer that an encoder becomes."""
    synapse, delay = stage.synapses[0]
    plain = bool((synapse.weight == 1).all()) and not synapse.exponent and not delay
    bad = [] if plain else [f"{synapse.name}: weighs or delays the input; NetX's encoder takes it as it is"]
    if len(stage.soma.shape) not in (1, 3):
        bad.append(f"encodes an input of shape {list(stage.soma.shape)}; NetX takes [N] or [C, H, W]")
    return {"type": "input", "shape": np.array(stage.soma.shape)}, bad


def prompt(chain: Sequence[Stage]) -> tuple[list[Stage], list[str]]:
    """The stages without the step that NetX takes for every synapse, and the edges that do not have one."""
    found, bad = [], []
    for stage in chain:
        if stage is chain[0] and is_encoder(stage):
            found.append(stage)
            continue
        bad += [
            f"{synapse.name}: has no delay, but NetX takes a step for every synapse, and its sigma-delta neurons would "
            "send what their biases make before anything arrives; give every edge between layers a delay of 1"
            for synapse, delay in stage.synapses
            if delay < 1
        ]
        found.append(attrs.evolve(stage, synapses=tuple((s, max(d - 1, 0)) for s, d in stage.synapses)))
    return found, bad


def spike_exponent(chain: Sequence[Stage]) -> int:
    """Fraction bits of what is sent: those of the encoder, else the most that thresholds and biases allow, up to 6."""
    if is_encoder(chain[0]):
        return int(chain[0].soma.gain.max()).bit_length() - 1
    joined = 0
    for soma in (stage.soma for stage in chain if stage.soma.fire == "delta"):
        theta = int(soma.theta.flat[0]) if soma.theta is not None else 1
        joined |= (theta if theta > 1 else 0) | int(np.bitwise_or.reduce(np.abs(soma.bias).ravel()))
    free = (joined & -joined).bit_length() - 1 - STATE_EXP if joined else STATE_EXP
    return int(np.clip(free, 0, STATE_EXP))


def change_fields(
    program: Program, stage: Stage, spike_exp: int, *, last: bool
) -> tuple[dict[str, Any], list[str]] | None:
    """The fields `neuron` and `bias` of a sigma-delta layer; None: the soma is not of this kind."""
    soma = stage.soma
    if _is_sum(soma, last):
        return {"neuron": {"type": "SDNN", "vThMant": 0, "sigma_output": True}}, []
    if soma.fire != "delta":
        return None
    encoder = is_encoder(stage)
    shift = spike_exp + (0 if encoder else STATE_EXP)
    bad = [f"{text}; NetX's sigma-delta neuron does not have that" for text in _unsaid(soma, encoder, spike_exp)]
    assert soma.theta is not None
    theta, bias = int(soma.theta.flat[0]), soma.bias >> shift
    if theta > 1 and theta % (1 << shift):
        bad.append(f"its threshold {theta} is not a multiple of 2^{shift}, NetX's unit")
    if (bias << shift != soma.bias).any():
        bad.append(f"its biases are not multiples of 2^{shift}, NetX's unit")
    bad += _limits(program, soma, encoder)
    if bad:
        return {}, bad
    neuron = {"type": "SDNN", "activation": "relu", "vThMant": theta >> shift if theta > 1 else 0}
    return {"neuron": neuron} | ({"bias": _bias(stage, bias)} if bias.any() else {}), []


def _is_sum(soma: Soma, last: bool) -> bool:
    """Whether a soma only adds up: the potential that is read at the end, or what is sent on the way."""
    form = soma.syn_leak is not None and (soma.syn_leak == LEAK_ONE).all()
    read = last and soma.fire == "none" and ((form and not soma.leak.any()) or _integrates(soma))
    relayed = form and soma.fire == "relay" and not last
    plain = not (soma.bias.any() or soma.gain_shift.any() or (soma.gain != 1).any()) and soma.window is None
    same = (soma.out_gain == 1).all() and not soma.out_shift.any() and int(soma.out_max.min()) >= NEVER - 1
    return bool((read or (relayed and same)) and plain and soma.v_min is None)


def _integrates(soma: Soma) -> bool:
    return soma.syn_leak is None and bool((soma.leak == LEAK_ONE).all()) and not soma.v_init.any()


def _unsaid(soma: Soma, encoder: bool, spike_exp: int) -> list[str]:
    assert soma.theta is not None
    floor = soma.v_min is None if encoder else soma.v_min is not None and not soma.v_min.any()
    sums = soma.syn_leak is None if encoder else soma.syn_leak is not None and bool((soma.syn_leak == LEAK_ONE).all())
    unit = 1 << spike_exp if encoder else 1
    met = {
        "a window": soma.window is None,
        f"a gain other than {unit}": bool((soma.gain == unit).all()) and not soma.gain_shift.any(),
        f"fraction bits of what is sent other than 0..{SPIKE_EXPS[-1]}": spike_exp in SPIKE_EXPS,
        "a potential that is kept (leak)": not soma.leak.any(),
        "a sum that leaks or is not there (syn_leak)": sums,
        "a floor" if encoder else "no floor at 0": floor,
        "a bias" if encoder else "a bias that changes with the step": len(soma.bias) == 1
        and not (encoder and soma.bias.any()),
        "thresholds that differ": bool((soma.theta == soma.theta.flat[0]).all()),
        f"delta_shift {soma.delta_shift}": soma.delta_shift == (0 if encoder else STATE_EXP),
        "payloads that are scaled": bool((soma.out_gain == 1).all()) and not soma.out_shift.any(),
    }
    return [text for text, fine in met.items() if not fine]


def _limits(program: Program, soma: Soma, encoder: bool) -> list[str]:
    """Registers and payload ranges that could act, which NetX's 32 bits do not have."""
    found = program_ranges(program)[soma.name]
    act = found.after.with_zero().bounds
    most = (act[1] - act[0] >> soma.delta_shift) + 1
    bad = []
    if most > int(soma.out_max.min()) or -most < int(soma.out_min.max()):
        bad.append(f"changes of up to {most} may leave its payload range; NetX has none")
    if encoder and found.saturates:
        bad.append("its potential may saturate at 24 bits; NetX's has 32")
    return bad


def _bias(stage: Stage, bias: IntArray) -> IntArray:
    """Per channel of a convolution, per neuron of a dense layer."""
    soma = stage.soma
    if stage.conv:
        return np.broadcast_to(bias[0], (soma.shape[0],)).copy() if bias.ndim == 2 else bias[0].transpose()
    return np.broadcast_to(soma.spread(bias[0]), soma.shape).ravel().copy()
