"""A soma as the LIF neuron of a `.net` file, in registers aligned by 6 bits, or the reasons why it is none."""

from __future__ import annotations

from typing import Any

import numpy as np

from snn2chip.analysis.ranges import program_ranges
from snn2chip.frontends.netx_build import BIAS_HI, BIAS_LO
from snn2chip.frontends.netx_soma import ALIGN, TOP_MANTISSA
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import LEAK_ONE, NEVER, V_MAX, IntArray


def neuron_fields(program: Program, soma: Soma, *, channels: bool) -> tuple[dict[str, Any], list[str]]:
    """The fields `neuron` and `bias` of a layer; `channels`: a bias and threshold per channel, not per neuron."""
    bad = _unsaid(soma)
    if bad:
        return {}, bad
    gain, leak = int(soma.gain.flat[0]), int(soma.leak.flat[0])
    current = 0 if soma.syn_leak is None else int(soma.syn_leak.flat[0])
    aligned = gain == ALIGN
    if not aligned and (leak not in (0, LEAK_ONE) or current not in (0, LEAK_ONE)):
        bad.append(
            f"gain {gain} with leaks {leak} and {current}; NetX rounds in registers aligned by {ALIGN}, so other leaks "
            f"than 0 and {LEAK_ONE} need gain {ALIGN}"
        )
    silent = soma.fire == "none"
    bias, rest = np.divmod(soma.bias, gain)
    theta = np.full((1, 1), NEVER, np.int64) if silent or soma.theta is None else soma.theta
    threshold = -(-theta // gain) - 1
    if not aligned and rest.any():
        bad.append(f"biases are not multiples of the gain {gain}")
    if aligned and rest.any():
        bad.append(f"biases are not multiples of {ALIGN}, the step of NetX's registers")
    rounds = leak not in (0, LEAK_ONE) or current not in (0, LEAK_ONE)
    if aligned and rounds and (((theta - 1) % ALIGN != 0) & (theta < NEVER)).any():
        bad.append(f"thresholds are not {ALIGN} n + 1, where NetX's strict compare on whole mantissas is exact")
    never = theta >= NEVER
    threshold = np.where(never, TOP_MANTISSA + 1, threshold)
    bad += _limits(program, soma, bias, threshold, gain=gain)
    shown = [_row(value, channels=channels, soma=soma, bad=bad, what=what)
             for value, what in ((bias, "bias"), (threshold, "theta"))]  # fmt: skip
    if bad:
        return {}, bad
    neuron = {"type": "CUBA", "iDecay": LEAK_ONE - current, "vDecay": LEAK_ONE - leak}
    neuron["vThMant"] = int(shown[1][0]) if shown[1].size == 1 else shown[1]
    fields: dict[str, Any] = {"neuron": neuron}
    if shown[0].any():
        size = soma.shape[0] if channels else int(np.prod(soma.shape))
        fields["bias"] = np.broadcast_to(shown[0], (size,)).copy()
    return fields, []


def _unsaid(soma: Soma) -> list[str]:
    """Everything about a soma that NetX's neuron does not have."""
    silent = soma.fire == "none"
    kept = {
        f"fire={soma.fire}": soma.fire not in ("levels", "none"),
        f"levels={soma.levels}; serialize-levels gives binary spikes": not silent and np.any(soma.levels != 1),
        f"reset={soma.reset}; NetX resets to zero": not silent and soma.reset != "zero",
        "a window": soma.window is not None,
        "a ladder of thresholds": bool(soma.ladder),
        "an initial potential": bool(np.any(soma.v_init)),
        "a floor of the potential": soma.v_min is not None,
        "gain_shift": np.any(soma.gain_shift != 0),
        "payloads that are scaled": not silent
        and (np.any(soma.out_max != 1) or np.any(soma.out_shift != 0) or np.any(soma.out_gain != 1)),
        "a gain that is not one positive number": soma.gain.size != 1 or int(soma.gain.flat[0]) < 1,
        "leaks that differ between channels or steps": soma.leak.size != 1
        or (soma.syn_leak is not None and soma.syn_leak.size != 1),
        "a negative or growing leak": bool((soma.leak < 0).any() or (soma.leak > LEAK_ONE).any()),
        "biases or thresholds that change with the step": len(soma.bias) > 1
        or (soma.theta is not None and len(soma.theta) > 1),
    }
    return [f"{text}; a .net file cannot say it" for text, met in kept.items() if met]


def _limits(program: Program, soma: Soma, bias: IntArray, threshold: IntArray, *, gain: int) -> list[str]:
    """What leaves NetX's registers: a bias of 16 bits, a threshold of 17, and states that are only then the same."""
    bad = []
    if bias.min() < BIAS_LO or bias.max() > BIAS_HI:
        bad.append(f"bias {int(bias.flat[np.abs(bias).argmax()])} (in units of the gain) is beyond 16 bits")
    if threshold.max() > TOP_MANTISSA + 1 or threshold.min() < -TOP_MANTISSA:
        bad.append(f"threshold {int(threshold.max())} (in units of the gain) is beyond 17 bits")
    found = program_ranges(program)[soma.name]
    parts = [found.scaled, found.total, *([] if found.synaptic is None else [found.synaptic])]
    top = max(part.magnitude for part in parts) * ALIGN
    if gain != ALIGN and top > gain * V_MAX:
        bad.append(
            f"its potential or current may reach {max(part.magnitude for part in parts)}, which is beyond 24 bits in "
            f"NetX's registers (times {ALIGN}/{gain}); fewer steps, smaller weights or a leak bound it"
        )
    return bad


def _row(value: IntArray, *, channels: bool, soma: Soma, bad: list[str], what: str) -> IntArray:
    """A stored parameter `[1, C or 1]` or `[1, *shape]` as one number, per channel, or per neuron of a dense layer."""
    if value.size == 1:
        return value.reshape(1)
    if value.ndim == 2 and (channels or len(soma.shape) == 1):
        return value[0]
    if channels:
        bad.append(f"{what} per neuron of a convolution; NetX has one per channel")
        return value.reshape(-1)[:1]
    return np.broadcast_to(value[0].reshape(value.shape[1:] if value.ndim > 2 else (-1, *[1] * (len(soma.shape) - 1))),
                           soma.shape).ravel()  # fmt: skip
