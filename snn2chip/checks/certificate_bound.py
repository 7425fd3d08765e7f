"""The bound of one soma: how far rounding can have moved its potential, and where that cannot have changed a payload.

    e(t) = |leak| e(t-1) + |leak - leak_int| |v(t-1)| + mu*lost(t) + |drive(t) - mu*drive_int(t)|
           drive: gain*I + bias of the payloads actually sent (weights, gain, shifts, window and bias rounded)
           lost < 1: what the truncation of the leak cut off     |v_init - mu*v_init_int| is e before the first step
    reset  subtract: + s*|theta - mu*theta_int|    zero: 0 where it fired    clamp: at least |theta - mu*theta_int|
    equal  where mu*(bar(k) - 1) < m - e and m + e < mu*bar(k+1), k the float payload, bar(k) the least integer
           potential that sends k

m is the float potential; all of it holds for a neuron until the step after its first payload that differs, or until
its integer potential saturates. The rounding of float64 itself is bounded as well and added.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from snn2chip.checks.certificate_bars import FloatArray, float_bar, integer_bar, row
from snn2chip.checks.certificate_maps import ULP
from snn2chip.checks.inside import Inside
from snn2chip.errors import UnsupportedError
from snn2chip.ir.layers import FloatSoma
from snn2chip.ir.nodes import describe
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import LEAK_ONE, V_MAX, IntArray

Mask = NDArray[np.bool_]
TERMS = ("v_init", "leak", "lost", "drive", "theta")
"""Parts of the bound that a test can leave out."""


@attrs.frozen(kw_only=True, eq=False)
class Fed:
    """A float soma fed with payloads of the integer run, `[T, B, *shape]` in float64.

    `current` I and a bound `noise` on its own rounding, `before` the potential before firing, `code` the payload in
    payload units, `constant` `[C]` the sum of the biases inside I.
    """

    current: FloatArray
    noise: FloatArray
    before: FloatArray
    code: FloatArray
    constant: FloatArray


@attrs.frozen(kw_only=True, eq=False)
class SomaCertificate:
    """`certified` and `same` `[T, B, *shape]`; `error` bounds `|m - shift - mu*m_int|` before firing where `alive`."""

    certified: Mask
    same: Mask
    alive: Mask
    error: FloatArray
    shift: FloatArray


def soma_certificate(
    soma: Soma, f: FloatSoma, mu: FloatArray, part: Inside, fed: Fed, sent: IntArray, *, without: Collection[str] = ()
) -> SomaCertificate:
    """Bound one soma over a block; `mu` is the float value of one unit of its potential, `sent` its payloads.

    Raises UnsupportedError for a soma that the quantizer does not make.
    """
    _check(soma, f)
    return _Bound(soma, f, mu, part, fed, without).run(sent)


def _check(soma: Soma, f: FloatSoma) -> None:
    bad = []
    fires = {"ladder": "levels"}.get(f.fire, f.fire)
    if (
        soma.fire != fires
        or (soma.fire not in ("none", "relay") and soma.reset != f.reset)
        or (f.fire == "ladder") != soma.ladder
    ):
        bad.append(f"is {soma.fire}/{soma.reset}, its float neuron {f.fire}/{f.reset}")
    if soma.syn_leak is not None or soma.v_min is not None:
        bad.append("has a synaptic current or a floor")
    if f.strict or f.reset in ("value", "subtract-delayed"):
        bad.append("compares strictly, or resets late or to a value")
    if soma.fire == "levels":
        if (soma.levels != f.levels).any() or (soma.out_gain != 1).any() or soma.out_shift.any():
            bad.append("counts other levels, or scales its payload")
        if not soma.ladder and int(soma.levels.max()) > 1 and soma.theta is not None and (soma.theta < 1).any():
            bad.append("has several levels of a threshold below 1")
    if bad:
        raise UnsupportedError([f"{describe(soma)}: {text}; it has no certificate" for text in bad])


class _Bound:
    def __init__(
        self, soma: Soma, f: FloatSoma, mu: FloatArray, part: Inside, fed: Fed, without: Collection[str]
    ) -> None:
        self.soma, self.f, self.mu, self.part, self.fed = soma, f, mu, part, fed
        self.use = {name: name not in without for name in TERMS}
        self.trained = f.trained if f.trained is not None and bool((f.gain == 1).all()) else None
        self.stateless = soma.reset == "drop" and soma.fire != "none"

    def value(self, field: str, t: int) -> FloatArray:
        """A float soma's field at step t, ready to go with `[B, *shape]`."""
        if self.trained is not None and field in ("leak", "theta", "v_init"):
            return np.float64(getattr(self.trained, field)) * (1 / LEAK_ONE if field == "leak" else self.trained.lsb)  # type: ignore[return-value]
        return row(getattr(self.f, field), t, self.soma.shape)

    def drive(self) -> tuple[FloatArray, FloatArray, FloatArray, Mask]:
        """Float drive, its distance to the integer one, float64's own rounding, and where the float side is sure."""
        soma, current, noise = self.soma, self.fed.current, self.fed.noise
        whole = np.stack([x + soma.at("bias", t) for t, x in enumerate(self.part.scaled)])
        if self.trained is not None:
            return self._trained_drive(whole)
        if self.f.window is not None:
            omega = self.f.window.detach().cpu().double().numpy()
            noise = noise + (len(omega) + 4) * ULP * np.abs(current)
            current, noise = (np.tensordot(m, v, 1) for m, v in ((omega, current), (np.abs(omega), noise)))
        rows, errors = [], []
        for t, a in enumerate(current):
            gain, bias = self.value("gain", t), self.value("bias", t)
            rows.append(gain * a + bias)
            errors.append(np.abs(gain) * noise[t] + 4 * ULP * (np.abs(gain * a) + np.abs(bias)))
        drive = np.stack(rows)
        off = np.abs(drive - self.mu * whole) + 4 * ULP * (np.abs(drive) + np.abs(self.mu * whole))
        return drive, off, np.stack(errors), np.ones(drive.shape, np.bool_)

    def _trained_drive(self, whole: IntArray) -> tuple[FloatArray, FloatArray, FloatArray, Mask]:
        import torch

        assert self.trained is not None
        current = torch.from_numpy(self.fed.current)
        units, a = self.trained.in_units(current), self.trained.accumulated(current)
        x = self.trained.scaled(a).numpy()
        delta = row(self.trained.delta, 0, self.soma.shape)
        near = (np.abs(units.numpy() - a.numpy()) < 0.25) & (
            self.fed.noise <= 0.25 * np.where(delta > 0, delta, np.inf)
        )
        sure = np.broadcast_to(near.all(0), near.shape) if self.trained.window is not None else near
        lsb = self.trained.lsb
        off = np.abs(x - whole) * lsb if (self.mu == lsb).all() else np.abs(x * lsb - self.mu * whole) + ULP * np.abs(x)
        return x * lsb, off, np.zeros(x.shape), sure

    def run(self, sent: IntArray) -> SomaCertificate:
        soma, use, mu, part = self.soma, self.use, self.mu, self.part
        drive, off, drive_noise, sure = self.drive()
        first = self.value("v_init", 0)
        e: FloatArray = np.broadcast_to(np.abs(first - mu * soma.at("v_init")) * use["v_init"], sent.shape[1:])
        n = np.zeros(sent.shape[1:])
        alive = np.ones(sent.shape[1:], np.bool_)
        found: dict[str, list[Any]] = {"certified": [], "same": [], "alive": [], "error": [], "shift": []}
        for t in range(len(sent)):
            m, shift = self.fed.before[t], np.zeros(())
            leak, whole_leak = self.value("leak", t), soma.at("leak", t)
            n = np.abs(leak) * n + drive_noise[t] + (0.0 if self.trained else 8 * ULP * (np.abs(m) + np.abs(drive[t])))
            if self.stateless:  # no past: the whole distance is at hand, and a constant may be taken out of it
                shift = self.constant(t)
                e = (np.abs(m - shift - mu * part.total[t]) + 4 * ULP * np.abs(m)) * use["drive"]
            else:
                v = part.start[t]
                e = np.abs(leak) * e + np.abs(leak - whole_leak / LEAK_ONE) * np.abs(mu * v) * use["leak"]
                e = e + self.lost(v, whole_leak, e) * use["lost"] + off[t] * use["drive"]
            alive = alive & (np.abs(part.total[t]) <= V_MAX) & sure[t]
            code = self.fed.code[t]
            same = code == sent[t]
            found["alive"].append(alive)
            found["same"].append(same)
            found["error"].append(e + n)
            found["shift"].append(np.broadcast_to(shift, m.shape))
            found["certified"].append(alive & self.inside(t, m, shift, e, n, code))
            alive = alive & same
            e, n, alive = self.after(t, m, e, n, alive, sent[t])
        return SomaCertificate(**{name: np.stack(rows) for name, rows in found.items()})

    def lost(self, v: IntArray, leak: IntArray, e: FloatArray) -> FloatArray:
        """What truncation cut off the leaking potential, in float units; a trained neuron truncates like the soma."""
        if self.trained is None:
            return self.mu * ((np.abs(v * leak) & (LEAK_ONE - 1)) / LEAK_ONE)
        alike = (e == 0) & (leak == self.trained.leak) & (self.mu == self.trained.lsb)
        cut: FloatArray = np.where(alike, 0.0, self.mu + self.trained.lsb)
        return cut

    def constant(self, t: int) -> FloatArray:
        """What a stateless soma's thresholds may hold instead of its bias: any constant is sound, this one is near."""
        if self.trained is not None:
            return np.zeros(())
        sums = 1.0 if self.f.window is None else float(self.f.window.double()[t].sum())
        constant = self.fed.constant.reshape(-1, *(1,) * (len(self.soma.shape) - 1))
        start = self.value("leak", 0) * self.value("v_init", 0) if t == 0 else np.float64(0.0)
        total: FloatArray = self.value("gain", t) * sums * constant + self.value("bias", t) + start
        return total - self.mu * self.soma.at("bias", t)

    def inside(self, t: int, m: FloatArray, shift: FloatArray, e: FloatArray, n: FloatArray, code: FloatArray) -> Mask:
        """Where `[m - e, m + e]` lies between the integer thresholds around the float payload."""
        soma = self.soma
        if soma.fire == "none":
            return np.ones(m.shape, np.bool_)
        least = soma.at("out_min") if soma.fire == "relay" else np.zeros((), np.int64)
        most = np.int64(self.f.levels) if soma.fire == "levels" else soma.at("out_max")
        below, above = np.maximum(code, least + 1).astype(np.int64), np.minimum(code + 1, most).astype(np.int64)
        low, high = self.mu * (integer_bar(soma, below, t) - 1), self.mu * integer_bar(soma, above, t)
        float_low, float_high = float_bar(self.f, soma.shape, below, t), float_bar(self.f, soma.shape, above, t)
        if not self.use["theta"]:
            low, high = float_low - shift, float_high - shift
        slack = 16 * ULP * (np.abs(m) + np.abs(shift) + np.abs(low) + np.abs(high) + np.abs(float_high))
        reach = e + n + slack
        up, down = m - shift - reach > low, m - shift + reach < high
        if self.trained is None:  # and the float payload itself does not hang on float64's rounding
            up, down = up & (m - float_low > n + slack), down & (float_high - m > n + slack)
        return np.asarray(((code <= least) | up) & ((code >= most) | down))

    def after(
        self, t: int, m: FloatArray, e: FloatArray, n: FloatArray, alive: Mask, sent: IntArray
    ) -> tuple[FloatArray, FloatArray, Mask]:
        """Bounds behind the reset, where both sides sent the same."""
        soma = self.soma
        if soma.fire == "none":
            return e, n, alive
        if soma.reset == "drop":
            return np.zeros_like(e), np.zeros_like(n), alive
        assert soma.theta is not None
        theta, whole = self.value("theta", t), soma.at("theta", t)
        off = np.abs(theta - self.mu * whole) * self.use["theta"]
        if soma.reset == "subtract":
            exact = 0.0 if self.trained is not None else 4 * ULP
            return e + sent * off, n + exact * (np.abs(m) + sent * theta), alive
        if soma.reset == "clamp":
            return np.maximum(e, off), n, alive
        fires = self.part.before[t] > whole if soma.fire == "excess" else sent > 0
        if soma.fire == "excess":  # both fire or both do not, even where the payload is rounded to 0
            alive = alive & (fires == (m > theta)) & (np.abs(m - theta) > n)
        return np.where(fires, 0.0, e), np.where(fires, 0.0, n), alive
