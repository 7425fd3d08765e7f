"""Ranges of everything inside one soma over a sample, from the range of its current, step by step.

Each line of `snn2chip.ir.dynamics.soma_step` is monotone in the current and in the potential, or is cut into pieces
that are; so the ends of an interval decide. The step is repeated until it changes nothing, else for T steps.
"""

from __future__ import annotations

import attrs
import numpy as np

from snn2chip.analysis.spans import Span, span
from snn2chip.ir.dynamics import rshift, trunc4096
from snn2chip.ir.soma import PER_STEP, Soma
from snn2chip.ir.types import LEAK_ONE, NEVER, V_MAX, IntArray

LONGEST = 4096
"""Steps that are followed one by one; what has not settled by then may be anywhere in its register."""


@attrs.frozen(kw_only=True, eq=False)
class SomaRange:
    """Proven ranges over all steps of a sample, per channel or per neuron (they broadcast against the shape).

    `current` summed, `mixed` behind the window, `scaled` x behind the gain, `synaptic` u, `total` the potential before
    saturation, `before` firing, `after` the reset, `payload`.
    """

    current: Span
    mixed: Span
    scaled: Span
    synaptic: Span | None
    total: Span
    before: Span
    after: Span
    payload: Span

    @property
    def saturates(self) -> bool:
        """Whether the potential can ever leave its register."""
        return self.total.magnitude > V_MAX

    @property
    def wraps(self) -> bool:
        """Whether a synaptic current can ever wrap."""
        return self.synaptic is not None and not _in_24_bits(self.synaptic)

    @property
    def fits(self) -> bool:
        """Whether current, mixed and scaled current always fit 24 bits."""
        return all(_in_24_bits(part) for part in (self.current, self.mixed, self.scaled))

    @property
    def proven(self) -> bool:
        """Whether nothing can saturate or wrap and every current fits 24 bits, whatever the inputs are."""
        return self.fits and not self.saturates and not self.wraps


def _in_24_bits(part: Span) -> bool:
    lo, hi = part.bounds
    return lo >= -NEVER and hi < NEVER


def soma_range(soma: Soma, current: Span, steps: int) -> SomaRange:
    """Ranges of `soma` over `steps` steps whose summed current is in `current` at every step."""
    walk = _Walk(soma, current)
    same_rows = all(value is None or len(value) == 1 for value in (getattr(soma, f) for f in PER_STEP if f != "theta"))
    steady = same_rows and soma.window is None and (soma.ladder or soma.theta is None or len(soma.theta) == 1)
    for t in range(min(steps, LONGEST)):
        if walk.step(t) and steady:
            return walk.found()
    if steps > LONGEST:
        walk.anywhere(range(LONGEST, LONGEST + 1 if steady else steps))
    return walk.found()


class _Walk:
    """The ranges so far, and the state `(v, u, s)` behind the last step."""

    def __init__(self, soma: Soma, current: Span) -> None:
        self.soma, self.current, self.axes = soma, current, len(soma.shape)
        self.v = Span(soma.at("v_init"), soma.at("v_init"))
        self.u = span(0, 0, self.axes) if soma.syn_leak is not None else None
        self.s: Span | None = span(0, 0, self.axes) if soma.remembers else None  # spikes, or the activation last sent
        self.kept: Span | None = self.v if soma.delayed else None  # v - s*theta, what a delayed subtraction will leave
        self.seen: dict[str, Span] = {}

    def note(self, name: str, part: Span) -> None:
        self.seen[name] = part if name not in self.seen else self.seen[name] | part

    def found(self) -> SomaRange:
        return SomaRange(current=self.current, synaptic=self.seen.pop("synaptic", None), **self.seen)

    def anywhere(self, last: range) -> None:
        """The ranges of the steps in `last`, from any state the registers can hold."""
        for t in last:
            self.v = span(-V_MAX, V_MAX, self.axes)
            self.u = None if self.u is None else span(-NEVER, NEVER - 1, self.axes)
            self.kept = None
            if self.soma.delayed:
                self.s = fired_span(self.soma, self.v, t)
            elif self.s is not None:
                self.s = self.v
            self.step(t)

    def step(self, t: int) -> bool:
        """Follow one step; True if the state behind it is the state before it."""
        soma, at = self.soma, self.soma.at
        mixed = self.mixed(t)
        x = mixed.through(lambda a: rshift(a * at("gain", t), at("gain_shift")))
        self.note("mixed", mixed)
        self.note("scaled", x)
        old = self.v, self.u, self.s
        if self.u is not None:
            whole = self.u.through(lambda u: trunc4096(u, at("syn_leak", t))) + x
            self.note("synaptic", whole)
            wrapped = (whole.lo < -NEVER) | (whole.hi >= NEVER)
            self.u = Span(np.where(wrapped, -NEVER, whole.lo), np.where(wrapped, NEVER - 1, whole.hi))
            x = self.u
        bias = Span(at("bias", t), at("bias", t))
        total = self.left(t) + x + bias
        v = total.clip(-V_MAX, V_MAX)
        self.note("total", total)
        self.note("before", v)
        if soma.fire == "delta":
            assert self.s is not None
            v = v if soma.v_min is None else self.floored(v, t)
            s = change_span(soma, v, self.s, t)
            self.s = self.s | v
        else:
            s = fired_span(soma, v, t)
        if soma.delayed:
            self.s = s
            constant = soma.theta is not None and (soma.theta == soma.theta[:1]).all() and (soma.theta > 0).all()
            self.kept = _residue(v, s, at("theta", t)) if constant and soma.fire == "levels" else None
        v = after_span(soma, v, s, t)
        if soma.v_min is not None:
            v = self.floored(v, t)
            self.kept = None
        self.v = v
        self.note("after", v)
        out = s.through(lambda k: np.clip(rshift(k * at("out_gain"), at("out_shift")), at("out_min"), at("out_max")))
        self.note("payload", out)
        new = self.v, self.u, self.s
        return all(a is None or (b is not None and a.same(b)) for a, b in zip(old, new, strict=True))

    def floored(self, v: Span, t: int) -> Span:
        """`max(v, v_min)`."""
        floor = self.soma.at("v_min", t)
        return Span(np.maximum(v.lo, floor), np.maximum(v.hi, floor))

    def mixed(self, t: int) -> Span:
        soma, a = self.soma, self.current
        if soma.window is None:
            return a
        row = soma.window[t]
        plus, minus = row[row > 0].sum(), row[row < 0].sum()
        return Span(plus * a.lo + minus * a.hi, plus * a.hi + minus * a.lo).through(
            lambda m: rshift(m, soma.window_shift)
        )

    def left(self, t: int) -> Span:
        """What the leak (and a delayed subtraction) leave of the potential."""
        leak = self.soma.at("leak", t)
        kept = self.v.through(lambda v: trunc4096(v, leak))
        if self.s is None or not self.soma.delayed:
            return kept
        theta = self.soma.at("theta", t)
        taken = self.s.times(theta)
        loose = Span(kept.lo - taken.hi, kept.hi - taken.lo)
        if self.kept is None or not (leak == LEAK_ONE).all():
            return loose
        return loose & self.kept  # v and s belong together


def fired_span(soma: Soma, v: Span, t: int) -> Span:
    """Range of s of potentials in `v`; s never falls where v rises, except by a table."""
    if soma.fire == "table":
        return _table(soma, v)
    return v.through(lambda u: spikes(soma, u, t))


def change_span(soma: Soma, act: Span, sent: Span, t: int) -> Span:
    """Range of the change that a delta code sends: 0 or one that reaches theta, floored."""
    theta = soma.at("theta", t)
    lo, hi = act.lo - sent.hi, act.hi - sent.lo
    floored = Span(lo, hi).through(lambda d: d >> soma.delta_shift)
    return Span(np.where(lo <= -theta, floored.lo, 0), np.where(hi >= theta, floored.hi, 0))


def spikes(soma: Soma, v: IntArray, t: int) -> IntArray:
    """s of potentials `v`, by division instead of one compare per level."""
    if soma.fire == "levels":
        top = soma.at("levels")
        if soma.ladder:
            assert soma.theta is not None
            hits = [(v >= soma.spread(row)) & (k <= top) for k, row in enumerate(soma.theta, 1)]
            return np.asarray(np.sum(hits, axis=0, dtype=np.int64))
        theta = soma.at("theta", t)
        quotient = v // np.maximum(np.abs(theta), 1)
        down = np.where(theta < 0, quotient + top + 1, np.where(v >= 0, top, 0))
        return np.clip(np.where(theta > 0, quotient, down), 0, top)
    if soma.fire == "excess":
        return np.maximum(v - soma.at("theta", t), 0)
    return v if soma.fire == "relay" else np.zeros_like(v)


def _table(soma: Soma, v: Span) -> Span:
    assert soma.table is not None
    size = len(soma.table)
    first, last = (np.clip((end + soma.table_offset) >> soma.table_shift, 0, size - 1) for end in (v.lo, v.hi))
    least, most = (np.zeros((size, size), np.int64) for _ in range(2))
    for i in range(size):
        least[i, i:] = np.minimum.accumulate(soma.table[i:])
        most[i, i:] = np.maximum.accumulate(soma.table[i:])
    return Span(least[first, last], most[first, last])


def after_span(soma: Soma, v: Span, s: Span, t: int) -> Span:
    """Range of the potential behind the reset (before v_min)."""
    if soma.fire == "none" or soma.reset in ("subtract-delayed", "keep"):
        return v
    if soma.reset == "drop":
        return span(0, 0, v.lo.ndim)
    theta = soma.at("theta", t)
    if soma.reset == "subtract":
        return _residue(v, s, theta)
    if soma.reset == "clamp":
        return Span(np.minimum(v.lo, theta), np.minimum(v.hi, theta))
    value = soma.at("v_reset", t) if soma.reset == "value" else np.zeros_like(theta)
    if soma.fire == "excess":
        bar = theta + 1
    else:
        bar = np.where(theta > 0, theta, theta * soma.at("levels"))  # the least potential that fires
    low, high = v.lo, np.minimum(v.hi, bar - 1)
    silent, fires = v.lo < bar, v.hi >= bar
    lo = np.where(silent, np.where(fires, np.minimum(low, value), low), value)
    hi = np.where(fires, np.where(silent, np.maximum(high, value), value), high)
    return Span(lo, hi)


def _residue(v: Span, s: Span, theta: IntArray) -> Span:
    """`v - s*theta` for theta >= 1: with different s at the ends, every full remainder 0..theta-1 lies between."""
    lo, hi = v.lo - s.lo * theta, v.hi - s.hi * theta
    one = s.lo == s.hi
    return Span(np.where(one, lo, np.minimum(lo, 0)), np.where(one, hi, np.maximum(hi, theta - 1)))
