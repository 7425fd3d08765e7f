"""The complete soma on tensors, one step at a time: the same order of operations as `snn2chip.ir.dynamics`.

Each part works in int32 where the bounds of this soma prove that nothing on the way leaves 32 bits, else in
int64. What the bounds prove to be without effect (a shift by 0, a leak of 4096, a clip or a saturation that
cannot happen) is left out.
"""

from __future__ import annotations

import attrs
import numpy as np
import torch
from torch import Tensor

from snn2chip.ir.soma import Soma
from snn2chip.ir.types import LEAK_ONE, IntArray, PayloadType
from snn2chip_backends.torch.arithmetic import at_least, clip, rshift, sat24, trunc4096, wrap24
from snn2chip_backends.torch.bounds import SomaBounds
from snn2chip_backends.torch.constants import Rows
from snn2chip_backends.torch.exact import float_type, int_type
from snn2chip_backends.torch.firing import delta_coding, emission
from snn2chip_backends.torch.fused import FusedSoma, compiled_pass
from snn2chip_backends.torch.gpu_soma import GpuSoma
from snn2chip_backends.torch.triton_here import soma_kernels

PAYLOAD_TYPES = {np.int8: torch.int8, np.int16: torch.int16, np.int32: torch.int32, np.int64: torch.int64}
BINARY = (PayloadType(0, 0), PayloadType(0, 1))
"""Payloads that are their own count."""


def tensor_type(payload: PayloadType) -> torch.dtype:
    """Smallest tensor type that holds a payload range."""
    return PAYLOAD_TYPES[payload.dtype()]


@attrs.define
class State:
    """State of a soma population for a batch: tensors `[B, *shape]`; `saturated` counts on the device."""

    v: Tensor
    u: Tensor | None
    s_prev: Tensor | None
    saturated: Tensor


class SomaKernel:
    """One soma, ready to run on `device`."""

    def __init__(self, soma: Soma, bounds: SomaBounds, payload: PayloadType, device: torch.device) -> None:
        self.soma, self.bounds, self.device = soma, bounds, device
        self.current_type = int_type(bounds.scaled)
        self.state_type = int_type(bounds.total)
        self.payload_type = tensor_type(payload)
        self.stateless = soma.reset == "drop" and soma.fire != "none" and soma.syn_leak is None
        self.silent = soma.fire == "none"
        self.binary = payload in BINARY
        self._fire = emission(soma, self.state_type, device)
        self._change = delta_coding(soma, self.state_type, device) if soma.fire == "delta" else None
        call = compiled_pass() if device.type == "cpu" else None
        highest = max(payload.magnitude, 1)
        self.fused = FusedSoma(soma, bounds, highest, call) if call and FusedSoma.fits(soma, bounds) else None
        kernels = None if call else soma_kernels(device)
        self.gpu = GpuSoma(soma, bounds, highest, device, kernels) if kernels and GpuSoma.fits(soma, bounds) else None
        self._scaling()
        self._dynamics()
        self._output()

    def _rows(self, stored: IntArray, dtype: torch.dtype) -> Rows:
        return Rows(self.soma, stored, dtype, self.device)

    def _scaling(self) -> None:
        soma, dtype = self.soma, self.current_type
        self._gain = self._rows(soma.gain, dtype)
        self._shift = self._rows(soma.gain_shift, dtype)
        self._half = self._rows((np.int64(1) << soma.gain_shift) >> 1, dtype)
        self._syn_leak = None if soma.syn_leak is None else self._rows(soma.syn_leak, torch.float64)
        self._window: Tensor | None = None
        if soma.window is not None:
            mixing = float_type(max(self.bounds.mixing, self.bounds.current))
            self._window = torch.from_numpy(np.array(soma.window)).to(self.device, mixing)

    def _dynamics(self) -> None:
        soma, dtype = self.soma, self.state_type
        self._v_init = self._rows(soma.v_init, dtype)
        self._leak = self._rows(soma.leak, torch.float64)
        self._bias = self._rows(soma.bias, dtype)
        self._theta = None if soma.theta is None or soma.ladder else self._rows(soma.theta, dtype)
        self._v_reset = self._rows(soma.v_reset, dtype)
        self._v_min = None if soma.v_min is None else self._rows(soma.v_min, dtype)
        driving = (soma.gain, soma.bias, *(() if soma.theta is None or soma.ladder else (soma.theta,)))
        self.per_step = any(len(rows) > 1 for rows in driving)

    def _output(self) -> None:
        soma = self.soma
        self.emit_type = int_type(self.bounds.emitted)
        self._out_gain = self._rows(soma.out_gain, self.emit_type)
        self._out_shift = self._rows(soma.out_shift, self.emit_type)
        self._out_half = self._rows((np.int64(1) << soma.out_shift) >> 1, self.emit_type)
        self._out_min = self._rows(soma.out_min, self.emit_type)
        self._out_max = self._rows(soma.out_max, self.emit_type)
        signed = soma.fire in ("relay", "delta") or (soma.table is not None and bool((soma.table < 0).any()))
        most = self.bounds.emitted >> int(soma.out_shift.min())
        self._clips_below = signed and -most < int(soma.out_min.max())
        self._clips_above = most > int(soma.out_max.min())

    def start(self, batch: int) -> State:
        """State at the start of a sample: `v = v_init`, `u = 0`, no previous spike."""
        full = (batch, *self.soma.shape)
        v = torch.empty(full, dtype=self.state_type, device=self.device)
        v = v.copy_(init) if isinstance(init := self._v_init.at(0), Tensor) else v.fill_(init)
        has_u = self._syn_leak is not None
        return State(
            v=v,
            u=torch.zeros(full, dtype=self.current_type, device=self.device) if has_u else None,
            s_prev=torch.zeros_like(v) if self.soma.remembers else None,
            saturated=torch.zeros((), dtype=torch.int64, device=self.device),
        )

    def arriving(self, currents: list[Tensor]) -> Tensor:
        """Summed (and mixed) current as integers, `[T or 1, B, *shape]`, from currents of any exact type."""
        if self._window is None:
            total = currents[0].to(self.current_type)
            for current in currents[1:]:
                total = total + current.to(self.current_type)
            return total
        window, steps = self._window, len(self._window)
        floats = sum((c.to(window.dtype) for c in currents[1:]), currents[0].to(window.dtype))
        whole = floats.expand(steps, *floats.shape[1:]).reshape(steps, -1)
        mixed = (window @ whole).to(torch.int64).view(steps, *floats.shape[1:])
        shift = self.soma.window_shift
        return (rshift(mixed, shift, (1 << shift) >> 1) if shift else mixed).to(self.current_type)

    def scaled(self, a: Tensor, t: int | None) -> Tensor:
        """`x = rshift(a * gain, gain_shift)`; may be `a` itself."""
        x = a if self._gain.number == 1 else a * self._gain.at(t)
        return x if self._shift.number == 0 else rshift(x, self._shift.at(None), self._half.at(None))

    def step(self, state: State, x: Tensor, t: int) -> Tensor:
        """Advance `state` in place by step `t` with the scaled current `x` `[B, *shape]`; return the payload."""
        if state.u is not None:
            assert self._syn_leak is not None
            state.u = wrap24(trunc4096(state.u, self._syn_leak.at(t)).add_(x))
            x = state.u
        v = state.v if self._leak.number == LEAK_ONE else trunc4096(state.v, self._leak.at(t))
        v = v.add_(x)
        if self._bias.number != 0:
            v = v.add_(self._bias.at(t))
        if self.soma.delayed:
            assert self._theta is not None
            assert state.s_prev is not None
            v = v.sub_(state.s_prev * self._theta.at(t))
        if self.bounds.saturates:
            v = sat24(v, state.saturated)
        if self._change is not None:
            assert state.s_prev is not None
            state.v = v if self._v_min is None else clip(v, self._v_min.at(t), None)
            s, state.s_prev = self._change(state.v, state.s_prev, t)
            return self.payload(s)
        s = self._fire(v, t)
        if self.soma.delayed:
            state.s_prev = s
        v = self._after_reset(v, s, t)
        if self._v_min is not None:
            v = clip(v, self._v_min.at(t), None)
        state.v = v
        return self.payload(s)

    def at_once(self, x: Tensor, saturated: Tensor) -> Tensor:
        """Payloads `[T or 1, B, *shape]` of a soma without state, all steps together."""
        v = x.to(self.state_type)
        if self._bias.number != 0:
            v = v + self._bias.at(None)
        if self.bounds.saturates:
            v = sat24(v, saturated)
        return self.payload(self._fire(v, None))

    def _after_reset(self, v: Tensor, s: Tensor, t: int) -> Tensor:
        rule = "none" if self.soma.fire == "none" else self.soma.reset
        if rule == "subtract":
            assert self._theta is not None
            theta = self._theta.at(t)
            return v.sub_(s * theta) if isinstance(theta, Tensor) else v.sub_(s, alpha=theta)
        if rule == "zero":
            return v.mul_(torch.le(s, 0, out=torch.empty_like(s)))
        if rule == "value":
            fired = at_least(s, 1)
            return v.mul_(1 - fired).add_(fired.mul_(self._v_reset.at(t)))
        if rule == "clamp":
            assert self._theta is not None
            return clip(v, None, self._theta.at(t))
        return torch.zeros_like(v) if rule == "drop" else v

    def payload(self, s: Tensor) -> Tensor:
        """`clip(rshift(s * out_gain, out_shift), out_min, out_max)` in some integer type; may be `s` itself."""
        s = s.to(self.emit_type)
        if self._out_gain.number != 1:
            s = s * self._out_gain.at(None)
        if self._out_shift.number != 0:
            s = rshift(s, self._out_shift.at(None), self._out_half.at(None))
        lowest = self._out_min.at(None) if self._clips_below else None
        highest = self._out_max.at(None) if self._clips_above else None
        return clip(s, lowest, highest)
