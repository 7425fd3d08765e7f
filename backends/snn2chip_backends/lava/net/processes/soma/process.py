"""The complete neuron population of the integer machine as one Lava process.

Order of one logical step (int64 inside; `>>` is arithmetic):

    x = (a*gain + half) >> gain_shift;  with syn_leak: u = wrap24(trunc(u*syn_leak/4096) + x), x = u
    v = sat24(trunc(v*leak/4096) + x + bias)        subtract-delayed: also - theta*s_prev
    s = spikes(v);  reset;  v = max(v, v_min);      payload = clip((s*out_gain + half) >> out_shift, out_min, out_max)
    delta: v = max(v, v_min), d = v - s_prev;       where |d| >= theta: s = d >> delta_shift, s_prev = v; else s = 0

Machine time: the input of logical step t of sample n is taken at machine step `skew_in + (n*T + t)*stretch`,
the payload leaves at `skew_out + (n*T + t)*stretch`; in between and outside nothing is integrated and 0 is sent.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

V_MAX = (1 << 23) - 1


class Soma(AbstractProcess):  # type: ignore[misc]
    """A neuron population: summed current in at `a_in`, payload out at `s_out`.

    `v_out` carries the potential after reset, `sat_out` how many potentials saturated in this step. `params`
    holds the integer parameters as `[rows, *broadcast shape]` arrays; `samples=0` means without end.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        params: dict[str, Any],
        steps: int,
        stretch: int = 1,
        skew_in: int = 0,
        skew_out: int = 0,
        samples: int = 0,
        name: str = "soma",
    ) -> None:
        super().__init__(
            shape=shape,
            params=params,
            steps=steps,
            stretch=stretch,
            skew_in=skew_in,
            skew_out=skew_out,
            samples=samples,
            name=name,
        )
        self.a_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)
        self.v_out = OutPort(shape=shape)
        self.sat_out = OutPort(shape=(1,))
        self.v = Var(shape=shape, init=0)


@implements(proc=Soma, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PySomaModel(PyLoihiProcessModel):  # type: ignore[misc]
    """NumPy int64 model of `Soma`."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int64)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    v_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    sat_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    v: Any = LavaPyType(np.ndarray, np.int64)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.shape = tuple(proc_params["shape"])
        self.par = proc_params["params"]
        self.steps = proc_params["steps"]
        self.stretch = proc_params["stretch"]
        self.skew_in = proc_params["skew_in"]
        self.skew_out = proc_params["skew_out"]
        self.span = proc_params["samples"] * self.steps * self.stretch or None
        self.u = np.zeros(self.shape, np.int64)
        self.s_prev = np.zeros(self.shape, np.int64)
        self.filling = np.zeros((self.steps, *self.shape), np.int64)
        self.ready = self.filling
        self.idle = np.zeros(self.shape, np.int32)

    def run_spk(self) -> None:
        """One machine step: receive, advance if a logical step falls here, send."""
        a = self.a_in.recv()
        step = self.time_step - 1
        t_out = logical(step - self.skew_out, self.steps, self.stretch, self.span)
        if self.par["window"] is not None:
            t_in = logical(step - self.skew_in, self.steps, self.stretch, self.span)
            a = self.mixed(a, t_in, t_out)
        payload, saturated = self.idle, 0
        if t_out is not None:
            if t_out == 0:
                self.v[:] = self.par["v_init"][0]
                self.u[:] = 0
                self.s_prev[:] = 0
            payload, saturated = self.advance(a, t_out)
        self.s_out.send(payload)
        self.v_out.send(self.v)
        self.sat_out.send(np.array([saturated], np.int32))

    def at(self, name: str, t: int) -> Any:
        """Parameter `name` at logical step `t`."""
        rows = self.par[name]
        return rows[t if len(rows) > 1 else 0]

    def mixed(self, a: Any, t_in: int | None, t_out: int | None) -> Any:
        """Double bank of the window: hand out the full bank while the next sample fills the other."""
        if t_out == 0:
            self.ready = self.filling
        if t_in is not None:
            if t_in == 0:
                self.filling = np.zeros((self.steps, *self.shape), np.int64)
            weights = self.par["window"][:, t_in].reshape((self.steps,) + (1,) * len(self.shape))
            self.filling += weights * a
        return a if t_out is None else rshift(self.ready[t_out], self.par["window_shift"])

    def advance(self, a: Any, t: int) -> tuple[Any, int]:
        """One logical step; returns the payload and how many potentials saturated."""
        x = rshift(a * self.at("gain", t), self.at("gain_shift", 0))
        if self.par["syn_leak"] is not None:
            x = wrap24(trunc4096(self.u, self.at("syn_leak", t)) + x)
            self.u = x
        total = trunc4096(self.v, self.at("leak", t)) + x + self.at("bias", t)
        if self.par["reset"] == "subtract-delayed" and self.par["fire"] != "none":
            total = total - self.at("theta", t) * self.s_prev
        v = np.clip(total, -V_MAX, V_MAX)
        saturated = int(np.count_nonzero(v != total))
        if self.par["fire"] == "delta":
            v, s = self.change(v, t)
        else:
            s = self.spikes(v, t)
            v = self.reset(v, s, t)
            if self.par["v_min"] is not None:
                v = np.maximum(v, self.at("v_min", t))
            self.s_prev = s
        self.v[:] = v
        scaled = rshift(s * self.at("out_gain", 0), self.at("out_shift", 0))
        payload = np.clip(scaled, self.at("out_min", 0), self.at("out_max", 0))
        return payload.astype(np.int32), saturated

    def change(self, v: Any, t: int) -> tuple[Any, Any]:
        """The floored potential, and its change since it was last sent where that reaches the threshold."""
        act = v if self.par["v_min"] is None else np.maximum(v, self.at("v_min", t))
        d = act - self.s_prev
        sends = np.abs(d) >= self.at("theta", t)
        self.s_prev = np.where(sends, act, self.s_prev)
        return act, np.where(sends, d >> self.par["delta_shift"], 0)

    def spikes(self, v: Any, t: int) -> Any:
        """The emission rule."""
        fire = self.par["fire"]
        if fire == "levels" and self.par["ladder"]:
            return sum((v >= bar).astype(np.int64) for bar in self.par["theta"])
        if fire == "levels":
            return count_levels(v, self.at("theta", t), self.at("levels", 0))
        if fire == "excess":
            return np.maximum(v - self.at("theta", t), 0)
        if fire == "relay":
            return v
        if fire == "table":
            slot = np.clip((v + self.par["table_offset"]) >> self.par["table_shift"], 0, 255)
            return self.par["table"][slot]
        return np.zeros_like(v)

    def reset(self, v: Any, s: Any, t: int) -> Any:
        """The reset rule."""
        rule = self.par["reset"]
        if self.par["fire"] == "none" or rule == "subtract-delayed":
            return v
        if rule == "subtract":
            return v - s * self.at("theta", t)
        if rule == "zero":
            return np.where(s > 0, 0, v)
        if rule == "value":
            return np.where(s > 0, self.at("v_reset", t), v)
        if rule == "clamp":
            return np.minimum(v, self.at("theta", t))
        return np.zeros_like(v)


def logical(k: int, steps: int, stretch: int, span: int | None) -> int | None:
    """Logical step that falls `k` machine steps after the skew, or None."""
    if k < 0 or k % stretch or (span is not None and k >= span):
        return None
    return (k // stretch) % steps


def trunc4096(v: Any, factor: Any) -> Any:
    """`v*factor/4096`, rounded toward zero."""
    product = v * factor
    return np.sign(product) * (np.abs(product) >> 12)


def rshift(x: Any, k: Any) -> Any:
    """Right shift that rounds half up."""
    k = np.asarray(k, np.int64)
    return (x + ((np.int64(1) << k) >> 1)) >> k


def wrap24(x: Any) -> Any:
    """Two's complement wrap to 24 bits."""
    return ((x + (1 << 23)) & ((1 << 24) - 1)) - (1 << 23)


def count_levels(v: Any, theta: Any, levels: Any) -> Any:
    """Number of k in 1..levels with `v >= k*theta`, for thresholds of either sign."""
    v, theta, levels = np.broadcast_arrays(v, theta, levels)
    rising = v // np.where(theta > 0, theta, 1)
    falling = levels + 1 + v // np.where(theta < 0, -theta, 1)
    s = np.where(theta > 0, rising, np.where(theta < 0, falling, np.where(v >= 0, levels, 0)))
    return np.clip(s, 0, levels)
