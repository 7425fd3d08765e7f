"""One logical step of the soma on plain NumPy int64: the definition that every backend must equal.

Order of one step (all integer):

    x = rshift(a * gain[t], gain_shift);   with syn_leak: u = wrap24(trunc(u*syn_leak/4096) + x), x = u
    v = sat24(trunc(v*leak[t]/4096) + x + bias[t])                 subtract-delayed: also - theta[t]*s_prev
    levels: s = #{k in 1..levels: v >= k*theta[t]}, ladder: #{k: v >= theta_k}
    excess: s = max(v - theta[t], 0)   relay: s = v   none: s = 0   table: s = table[clip((v+off)>>shift, 0, 255)]
    delta: v = max(v, v_min), d = v - s_prev; where |d| >= theta[t]: s = d >> delta_shift (floor), s_prev = v, else 0
    reset, then v = max(v, v_min);   payload = clip(rshift(s*out_gain, out_shift), out_min, out_max)
"""

from __future__ import annotations

import attrs
import numpy as np

from snn2chip.ir.soma import Soma
from snn2chip.ir.types import V_MAX, IntArray


def trunc4096(v: IntArray, factor: IntArray) -> IntArray:
    """`v * factor / 4096` rounded toward zero: `sign(v*factor) * ((|v|*|factor|) >> 12)`."""
    out: IntArray = np.sign(v) * np.sign(factor) * ((np.abs(v) * np.abs(factor)) >> 12)
    return out


def rshift(x: IntArray, k: IntArray | int) -> IntArray:
    """Right shift that rounds half up: `(x + (1 << (k-1))) >> k`, arithmetic; `k = 0` is `x`."""
    k = np.asarray(k, dtype=np.int64)
    half = (np.int64(1) << k) >> 1
    out: IntArray = (x + half) >> k
    return out


def wrap24(x: IntArray) -> IntArray:
    """Two's complement wrap to 24 bits."""
    out: IntArray = ((x + (1 << 23)) & ((1 << 24) - 1)) - (1 << 23)
    return out


@attrs.define
class SomaState:
    """State of a soma population for a batch: arrays `[B, *shape]`; `saturated` counts sat24 hits.

    `s_prev` is what was last sent: spikes of the step before (subtract-delayed), an activation (delta).
    """

    v: IntArray
    u: IntArray | None
    s_prev: IntArray | None
    saturated: int = 0


def soma_start(soma: Soma, batch: int) -> SomaState:
    """State at the start of a sample: `v = v_init`, `u = 0`, nothing sent."""
    full = (batch, *soma.shape)
    return SomaState(
        v=np.array(np.broadcast_to(soma.at("v_init"), full)),
        u=np.zeros(full, np.int64) if soma.syn_leak is not None else None,
        s_prev=np.zeros(full, np.int64) if soma.remembers else None,
    )


def mix_window(soma: Soma, currents: IntArray) -> IntArray:
    """Temporal mixing `rshift(sum_j window[t,j] * a[j], window_shift)` of currents `[T, B, *shape]`."""
    assert soma.window is not None
    mixed = np.tensordot(soma.window, currents, axes=(1, 0))
    return rshift(mixed, soma.window_shift)


def soma_step(soma: Soma, state: SomaState, a: IntArray, t: int) -> IntArray:
    """Advance `state` by logical step `t` with the summed (and mixed) current `a`; return the payload.

    `a` and the result are `[B, *shape]` int64; `state` is updated in place.
    """
    x = rshift(a * soma.at("gain", t), soma.at("gain_shift"))
    if state.u is not None:
        state.u = wrap24(trunc4096(state.u, soma.at("syn_leak", t)) + x)
        x = state.u
    total = trunc4096(state.v, soma.at("leak", t)) + x + soma.at("bias", t)
    if soma.delayed:
        assert state.s_prev is not None
        total = total - soma.at("theta", t) * state.s_prev
    v = np.clip(total, -V_MAX, V_MAX)
    state.saturated += int((v != total).sum())
    if soma.fire == "delta":
        v, s = change(soma, state, v, t)
    else:
        s = fired(soma, v, t)
    v = after_reset(soma, v, s, t)
    if soma.delayed:
        state.s_prev = s
    if soma.v_min is not None:
        v = np.maximum(v, soma.at("v_min", t))
    state.v = v
    scaled = rshift(s * soma.at("out_gain"), soma.at("out_shift"))
    payload: IntArray = np.clip(scaled, soma.at("out_min"), soma.at("out_max"))
    return payload


def change(soma: Soma, state: SomaState, v: IntArray, t: int) -> tuple[IntArray, IntArray]:
    """Delta coding: the activation `max(v, v_min)`, and its change since the last send where that reaches theta.

    What is sent is floored to multiples of `2^delta_shift`; the floored bits are not made up for later.
    """
    assert state.s_prev is not None
    act = v if soma.v_min is None else np.maximum(v, soma.at("v_min", t))
    d = act - state.s_prev
    sends = np.abs(d) >= soma.at("theta", t)
    state.s_prev = np.where(sends, act, state.s_prev)
    return act, np.where(sends, d >> soma.delta_shift, 0)


def fired(soma: Soma, v: IntArray, t: int) -> IntArray:
    """The emission rule without memory: spike count, excess, relayed value or table entry of potential `v`."""
    s = np.zeros_like(v)
    if soma.fire == "levels":
        top = soma.at("levels")
        for k in range(1, int(soma.levels.max()) + 1):
            bar = soma.spread(soma.theta[k - 1]) if soma.ladder else k * soma.at("theta", t)  # type: ignore[index]
            hit = (v >= bar) & (k <= top)
            if not soma.ladder and not hit.any() and (soma.at("theta", t) > 0).all():
                break
            s += hit
    elif soma.fire == "excess":
        s = np.maximum(v - soma.at("theta", t), 0)
    elif soma.fire == "relay":
        s = v.copy()
    elif soma.fire == "table":
        assert soma.table is not None
        s = soma.table[np.clip((v + soma.table_offset) >> soma.table_shift, 0, 255)]
    return s


def after_reset(soma: Soma, v: IntArray, s: IntArray, t: int) -> IntArray:
    """The potential after the reset rule (before `v_min`)."""
    if soma.fire == "none":
        return v
    if soma.reset == "subtract":
        return v - s * soma.at("theta", t)
    if soma.reset == "zero":
        return np.where(s > 0, 0, v)
    if soma.reset == "value":
        return np.where(s > 0, soma.at("v_reset", t), v)
    if soma.reset == "clamp":
        return np.minimum(v, soma.at("theta", t))
    return np.zeros_like(v) if soma.reset == "drop" else v
