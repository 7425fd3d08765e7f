"""A neuron population on a batch of samples, in the number type that the plan has proven exact for it.

One logical step (see the own soma of the layout `stock` for the same rules in int64, one sample at a time):

    x = (a*gain + half) >> gain_shift;  with syn_leak: u = wrap24(trunc(u*syn_leak/4096) + x), x = u
    v = sat24(trunc(v*leak/4096) + x + bias)        subtract-delayed: also - theta*s_prev
    s = spikes(v);  reset;  v = max(v, v_min);      payload = clip((s*out_gain + half) >> out_shift, out_min, out_max)
    delta: v = max(v, v_min), d = v - s_prev;       where |d| >= theta: s = d >> delta_shift, s_prev = v; else s = 0
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

V_MAX = (1 << 23) - 1


class Population:
    """State and parameters; `par` holds `[rows, *broadcast shape]` integers, `clips` whether sat24 may act."""

    def __init__(self, par: Mapping[str, Any], shape: tuple[int, ...], batch: int, number: str, clips: bool) -> None:
        self.number, self.clips = np.dtype(number), clips
        self.fire, self.rule = par["fire"], par["reset"]
        self.par = par
        self.rows = {name: self.ready(par[name]) for name in ROWS if par[name] is not None}
        self.plain = {
            "gain": equal(par["gain"], np.left_shift(1, par["gain_shift"])),
            "leak": equal(par["leak"], 4096),
            "bias": equal(par["bias"], 0),
            "out": self.fire != "none" and plain_out(par),
        }
        self.gain_shift = Shift(par["gain_shift"], self.number)
        self.out_shift = Shift(par["out_shift"], self.number)
        levels = self.fire == "levels" and not par["ladder"]
        self.binary = levels and equal(par["levels"], 1)
        self.rising = levels and bool((par["theta"] > 0).all())
        self.v = np.zeros((batch, *shape), self.number)
        self.u = np.zeros_like(self.v) if par["syn_leak"] is not None else None
        self.delayed = self.rule == "subtract-delayed" and self.fire != "none"
        self.s_prev = np.zeros_like(self.v) if self.delayed or self.fire == "delta" else None
        self.work = np.empty_like(self.v)
        self.hit = np.empty(self.v.shape, bool)

    def ready(self, rows: Any) -> list[Any]:
        """Rows in the number type; a row of one value as a scalar, which NumPy handles faster."""
        return [row.reshape(())[()] if row.size == 1 else row for row in rows.astype(self.number)]

    def at(self, name: str, t: int) -> Any:
        """Parameter `name` at logical step `t`."""
        rows = self.rows[name]
        return rows[t if len(rows) > 1 else 0]

    def start(self) -> None:
        """State at the start of a sample."""
        self.v[...] = self.at("v_init", 0)
        for state in (self.u, self.s_prev):
            if state is not None:
                state[...] = 0

    def advance(self, a: Any, t: int, payload: Any, real: int) -> int:
        """One logical step with the current `a`; fills `payload`, returns saturations of the first `real` samples."""
        x = a if self.plain["gain"] else self.gain_shift.of(a * self.at("gain", t))
        if self.u is not None:
            x = self.u = self.wrap24(self.leaked(self.u, self.at("syn_leak", t)) + x)
        v = self.v
        if not self.plain["leak"]:
            v[...] = self.leaked(v, self.at("leak", t))
        np.add(v, x, out=v)
        if not self.plain["bias"]:
            np.add(v, self.at("bias", t), out=v)
        if self.delayed:
            v -= self.at("theta", t) * self.s_prev
        saturated = 0
        if self.clips and (v.max() > V_MAX or v.min() < -V_MAX):
            np.clip(v, -V_MAX, V_MAX, out=self.work)
            saturated = int(np.count_nonzero(self.work[:real] != v[:real]))
            v[...] = self.work
        if self.fire == "delta":
            self.emit(self.change(v, t), payload)
            return saturated
        s = self.spikes(v, t)
        self.emit(s, payload)
        if self.s_prev is not None:
            self.s_prev[...] = s
        self.reset(v, s, t)
        if "v_min" in self.rows:
            np.maximum(v, self.at("v_min", t), out=v)
        return saturated

    def change(self, v: Any, t: int) -> Any:
        """The floor of `v` in place; its change since it was last sent, where that reaches the threshold, floored."""
        if "v_min" in self.rows:
            np.maximum(v, self.at("v_min", t), out=v)
        assert self.s_prev is not None
        d = np.subtract(v, self.s_prev, out=self.work)
        sends = np.greater_equal(np.abs(d), self.at("theta", t), out=self.hit)
        np.copyto(self.s_prev, v, where=sends)
        d *= sends
        shift = self.par["delta_shift"]
        if self.number.kind == "f":
            return np.floor(np.multiply(d, 0.5**shift, out=d), out=d)
        return np.right_shift(d, shift, out=d)

    def leaked(self, v: Any, factor: Any) -> Any:
        """`v*factor/4096`, rounded toward zero."""
        if self.number.kind == "f":
            return np.trunc(v * (factor / self.number.type(4096)))
        product = v * factor
        return np.sign(product) * (np.abs(product) >> 12)

    def wrap24(self, x: Any) -> Any:
        """Two's complement wrap to 24 bits."""
        if self.number.kind == "f":
            return x - np.floor((x + (1 << 23)) / (1 << 24)) * (1 << 24)
        return ((x + (1 << 23)) & ((1 << 24) - 1)) - (1 << 23)

    def spikes(self, v: Any, t: int) -> Any:
        """The emission rule; never `v` itself."""
        if self.binary:
            return np.greater_equal(v, self.at("theta", t), out=self.hit)
        if self.fire == "levels" and self.par["ladder"]:
            s = np.zeros_like(v)
            for bar in self.rows["theta"]:
                s += v >= bar
            return s
        if self.fire == "levels":
            return self.count(v, self.at("theta", t), self.at("levels", 0))
        if self.fire == "excess":
            np.subtract(v, self.at("theta", t), out=self.work)
            return np.maximum(self.work, 0, out=self.work)
        if self.fire == "relay":
            np.copyto(self.work, v)
            return self.work
        if self.fire == "table":
            slot = (v.astype(np.int64) + self.par["table_offset"]) >> self.par["table_shift"]
            return self.par["table"].astype(self.number)[np.clip(slot, 0, 255)]
        self.work[...] = 0
        return self.work

    def count(self, v: Any, theta: Any, levels: Any) -> Any:
        """Number of k in 1..levels with `v >= k*theta`.

        The correctly rounded quotient of two integers below 2^24 (2^53) has the floor of the exact one.
        """
        if self.rising and self.number.kind == "f":
            np.floor(np.divide(v, theta, out=self.work), out=self.work)
            return np.clip(self.work, 0, levels, out=self.work)
        if self.rising:
            return np.clip(v // theta, 0, levels, out=self.work)
        rising = self.floored(v, np.where(theta > 0, theta, 1))
        falling = levels + 1 + self.floored(v, np.where(theta < 0, -theta, 1))
        s = np.where(theta > 0, rising, np.where(theta < 0, falling, np.where(v >= 0, levels, 0)))
        return np.clip(s, 0, levels, out=self.work)

    def floored(self, v: Any, divisor: Any) -> Any:
        """`floor(v / divisor)` for positive divisors."""
        if self.number.kind != "f":
            return v // divisor
        found = np.divide(v, divisor)
        return np.floor(found, out=found)

    def reset(self, v: Any, s: Any, t: int) -> None:
        """The reset rule, in place."""
        rule = self.rule
        if self.fire == "none" or rule == "subtract-delayed":
            return
        if rule == "subtract":
            np.subtract(v, np.multiply(s, self.at("theta", t), out=self.work), out=v)
        elif rule in ("zero", "value"):
            value = 0 if rule == "zero" else self.at("v_reset", t)
            np.copyto(v, value, where=s if s.dtype == bool else s > 0)
        elif rule == "clamp":
            np.minimum(v, self.at("theta", t), out=v)
        else:
            v[...] = 0

    def emit(self, s: Any, payload: Any) -> None:
        """Scale and clip the spikes into the payload's type."""
        if self.plain["out"]:
            np.copyto(payload, s, casting="unsafe")
        elif self.fire == "none":
            payload[...] = 0
        else:
            scaled = self.out_shift.of(s * self.at("out_gain", 0))
            np.copyto(payload, np.clip(scaled, self.at("out_min", 0), self.at("out_max", 0)), casting="unsafe")


ROWS = (
    "v_init",
    "gain",
    "leak",
    "bias",
    "theta",
    "levels",
    "syn_leak",
    "v_min",
    "v_reset",
    "out_gain",
    "out_min",
    "out_max",
)


class Shift:
    """Right shift that rounds half up, `(x + half) >> k`."""

    def __init__(self, k: Any, number: Any) -> None:
        rows = np.asarray(k)[0].astype(np.int64)
        half = (np.int64(1) << rows) >> 1
        self.float = np.dtype(number).kind == "f"
        self.half = half.astype(number)
        self.k = np.ldexp(np.ones(rows.shape), -rows).astype(number) if self.float else rows

    def of(self, x: Any) -> Any:
        """Shift `x`."""
        if not self.float:
            return (x + self.half) >> self.k
        return np.floor((x + self.half) * self.k)


def equal(rows: Any, value: Any) -> bool:
    """Whether a parameter has this value everywhere."""
    return rows is not None and bool((rows == value).all())


def plain_out(par: Mapping[str, Any]) -> bool:
    """Whether the payload is the spike count itself: no scaling, and clipping never acts."""
    if par["fire"] != "levels" or not equal(par["out_gain"], np.left_shift(1, par["out_shift"])):
        return False
    return int(par["levels"].max()) <= int(par["out_max"].min()) and int(par["out_min"].max()) <= 0
