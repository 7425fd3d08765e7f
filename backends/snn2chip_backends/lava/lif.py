"""When Lava's own LIF is exactly the soma, and with which settings.

The stock model keeps u and v on registers shifted by 6 bits, compares strictly and resets to 0:

    u = trunc(u*(4095 - du)/4096) + (a << 6)      v = sat24(trunc(v*(4096 - dv)/4096) + u + (bias_mant << bias_exp))
    s = v > (vth << 6);  v = 0 where s

With a soma of gain g the register holds r*v, r = 64/g. That needs no rounding anywhere (leak 0 or 4096, or r = 1),
no overflow, and one integer vth with `vth*g < theta` and no reachable potential in between.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from snn2chip.ir.dynamics import soma_start, soma_step
from snn2chip.ir.soma import PER_STEP, Soma
from snn2chip.ir.types import LEAK_ONE, V_MAX, IntArray

U_MAX = (1 << 23) - 1
VTH_MAX = 1 << 17
"""A vth of 2^17 is never crossed: the register holds at most 2^23 - 1."""
MANTISSA = 4095
STEPS_LOOKED_AT = 4096


@attrs.frozen(kw_only=True)
class LifSettings:
    """Arguments of `LIFReset`; arrays have the soma's shape."""

    du: Any
    dv: Any
    bias_mant: IntArray
    bias_exp: IntArray
    vth: Any


def lif_settings(soma: Soma, reach: int, steps: int) -> LifSettings | str:
    """Settings of Lava's LIF that make it this soma, or the reason why there are none.

    `reach` bounds |a|, the summed incoming current.
    """
    found = _shape_of_rule(soma)
    if found:
        return found
    full = {f: np.broadcast_to(soma.at(f), soma.shape) for f in ("leak", "gain", "gain_shift", "bias", "theta")}
    leak = np.zeros(soma.shape, np.int64) if soma.reset == "drop" else full["leak"]
    syn = None if soma.syn_leak is None else np.broadcast_to(soma.at("syn_leak"), soma.shape)
    gain = full["gain"] >> full["gain_shift"]
    if (gain << full["gain_shift"] != full["gain"]).any() or (gain < 1).any() or (64 % np.maximum(gain, 1)).any():
        return "its gain is not 1, 2, 4, 8, 16, 32 or 64, the factors of LIF's 6-bit shift"
    r = 64 // gain
    if (leak < 0).any() or (leak > LEAK_ONE).any():
        return "its leak is outside 0..4096"
    rounds = (leak != 0) & (leak != LEAK_ONE)
    if syn is not None:
        rounds |= (syn != 0) & (syn != LEAK_ONE)
    if (rounds & (r != 1)).any():
        return "a leak that rounds needs gain 64"
    bias = r * full["bias"]
    mantissa = _mantissa(bias)
    if mantissa is None:
        return "its bias does not fit LIF's 13-bit mantissa and 3-bit exponent"
    if not _in_range(64 * reach, leak, syn, bias, steps):
        return "its registers may overflow, or a bound that rules this out is missing"
    vth = _threshold(full["theta"], gain, full["bias"], rounds)
    if vth is None:
        return "its threshold falls between two steps of LIF's 6-bit grid"
    if not _silent_without_input(soma, steps):
        return "it fires without input, and LIF would do so before and after the samples"
    return LifSettings(
        du=4095 if syn is None else _one(4095 - syn),
        dv=_one(LEAK_ONE - leak),
        bias_mant=mantissa[0],
        bias_exp=mantissa[1],
        vth=_one(vth),
    )


def _one(value: Any) -> Any:
    """A plain int where all neurons agree."""
    array = np.asarray(value)
    return int(array.flat[0]) if array.size and (array == array.flat[0]).all() else array


def _shape_of_rule(soma: Soma) -> str:
    """Why the form of the rule already rules LIF out, or nothing."""
    if soma.fire != "levels" or soma.ladder or (soma.levels != 1).any():
        return "LIF sends one binary spike (fire='levels', levels=1)"
    zero = soma.reset in ("zero", "drop") or (soma.reset == "value" and not soma.v_reset.any())
    if not zero:
        return f"LIF resets to zero, this soma has reset={soma.reset!r}"
    if soma.window is not None:
        return "LIF has no window"
    if any((v := getattr(soma, f)) is not None and (v != v[:1]).any() for f in PER_STEP):
        return "LIF has no parameters per step"
    if soma.v_init.any():
        return "LIFReset starts each sample at 0, this soma has v_init"
    if soma.v_min is not None and (soma.v_min > -V_MAX).any():
        return "LIF has no floor of the potential"
    top = (soma.out_gain + ((1 << soma.out_shift) >> 1)) >> soma.out_shift
    if (np.minimum(top, soma.out_max) != 1).any():
        return "LIF sends 1, this soma scales its payload"
    return ""


def _mantissa(bias: IntArray) -> tuple[IntArray, IntArray] | None:
    """`bias = mantissa << exponent` per neuron with a mantissa of 13 bits signed and an exponent 0..7."""
    exponent = np.zeros(bias.shape, np.int64)
    for e in range(1, 8):
        exponent[(abs(bias) >> (e - 1)) > MANTISSA] = e
    mantissa = bias >> exponent
    sound = ((mantissa << exponent) == bias).all() and (abs(mantissa) <= MANTISSA).all()
    return (mantissa, exponent) if sound else None


def _in_range(x: int, leak: IntArray, syn: IntArray | None, bias: IntArray, steps: int) -> bool:
    """Whether u never reaches 24 bits and v never saturates within one sample."""
    keep_u = 0 if syn is None else int(syn.max())
    keep_v, push = int(leak.max()), int(abs(bias).max())
    u = v = 0
    for _ in range(min(steps, STEPS_LOOKED_AT)):
        u = (u * keep_u >> 12) + x
        v = (v * keep_v >> 12) + u + push
        if u > U_MAX or v > V_MAX:
            return False
    return steps <= STEPS_LOOKED_AT


def _threshold(theta: IntArray, gain: IntArray, bias: IntArray, rounds: Any) -> IntArray | None:
    """vth per neuron so that `v > vth*gain` is `v >= theta` on every reachable potential, or None."""
    grid = np.where(rounds, 1, np.gcd(gain, abs(bias)))
    bar = -(-theta // grid) * grid
    vth = -(-(bar - grid) // gain)
    never = bar * (64 // gain) > V_MAX
    vth = np.where(never, VTH_MAX, vth)
    sound = ((vth * gain < bar) | never).all() and (vth >= 0).all() and (vth <= VTH_MAX).all()
    return vth if sound else None


def _silent_without_input(soma: Soma, steps: int) -> bool:
    """Whether a whole sample of no current gives no spike (LIF also runs before and after the samples)."""
    if steps > STEPS_LOOKED_AT:
        return False
    state = soma_start(soma, 1)
    nothing = np.zeros((1, *soma.shape), np.int64)
    return not any(soma_step(soma, state, nothing, t).any() for t in range(steps))
