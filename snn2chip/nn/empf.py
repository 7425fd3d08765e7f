"""EM-PF neurons without membrane norm: real payloads, a leak and a threshold of their own at every step.

    version I     m(t) = leak(t)*v(t-1) + I(t),   s(t) = ReLU(m(t) - theta(t)),   v(t) = min(m(t), theta(t)),  v(0) = 0
    version III   s(t) = ReLU(I(t) - theta(t))                   no potential is kept; all steps at once
    leak(t) = sigmoid(a_t),   theta(t) = sigmoid(c_t)            raw values start at 0: both are 1/2

The payload is s itself, or s rounded to a few bits (`payload_bits`); v never sees the rounding. No surrogate: the
derivative is the ReLU's own, ds/dm = 1[m > theta], ds/dtheta = -1[m > theta] (0 at a tie). What flows through time:

    detach = state     online rule, v(t-1) is a constant: g_m(t) = g_s(t)*1[m(t) > theta(t)]
    detach = nothing   back-propagation through time: dm(t+1)/dm(t) = leak(t+1)*1[m(t) <= theta(t)]
    detach = reset     dm(t+1)/dm(t) = leak(t+1)

Online and full gradients of currents, weights and leaks agree exactly if and only if a neuron fires at steps 1..k and
never after (0 <= k <= T). The threshold's own gradient is not covered: after a spike v(t) = theta(t) is kept.
Lowers to: fire = excess, reset = clamp (version III: drop), leak and theta per step.
`learn_start` makes v(0), one number per layer, a trained parameter that starts at 0.
Source: Hao et al. (EM-PF, arXiv 2410.07547). There the released version III reads theta(1) at every step: `tied`.
"""

from __future__ import annotations

from typing import Any, ClassVar, get_args

import attrs
import torch
from torch import Tensor, nn

from snn2chip.errors import InputError
from snn2chip.ir.layers import FloatSoma
from snn2chip.nn.base import DetachName, Neuron, State, StepMode, check_choice, wide
from snn2chip.nn.fused import fused
from snn2chip.nn.fused.excess import ExcessRule
from snn2chip.nn.payload import PayloadGrid, RoundingName
from snn2chip.nn.surrogate import straight_through


class ExcessNeuron(Neuron):
    """What the EM-PF versions share: thresholds per step, payload s = ReLU(m - theta(t)), perhaps rounded."""

    def __init__(
        self,
        *,
        steps: int,
        thresholds: int | None = None,
        payload_bits: int | None = None,
        payload_step: float = 0.25,
        payload_rounding: RoundingName = "half-up",
        step_mode: StepMode = "m",
    ) -> None:
        super().__init__(steps=steps, step_mode=step_mode)
        self.theta_raw = nn.Parameter(torch.zeros(steps if thresholds is None else thresholds))
        self.payload: PayloadGrid | None = None
        if payload_bits is not None:
            self.payload = PayloadGrid(bits=payload_bits, step=payload_step, rounding=payload_rounding)
        self._clock = [0]  # the running step; a list, because torch.compile cannot follow an attribute that is set

    def threshold(self) -> Tensor:
        """Return theta(t), `[T]`, every entry in (0, 1)."""
        return torch.sigmoid(self.theta_raw).expand(self.steps)

    def initial_potential(self) -> Tensor:
        """Return v(0) = 0."""
        return torch.zeros_like(self.theta_raw[0])

    def fire(self, m: Tensor) -> Tensor:
        """Return the payload ReLU(m - theta(t)), rounded if the payload is."""
        return self.send(torch.relu(m - self.now(self.theta_raw, like=m)))

    def send(self, s: Tensor) -> Tensor:
        """Return what is transmitted of s: s itself, or its value on the payload's grid."""
        return s if self.payload is None else self.payload.quantize(s)

    def now(self, raw: Tensor, *, like: Tensor) -> Tensor:
        """Return sigmoid(raw(t)) of the running step, a scalar in the type of `like`; `raw` is `[T]` or `[1]`."""
        return torch.sigmoid(raw[self._clock[0] if raw.numel() > 1 else 0]).to(like.dtype)

    def soma_fields(self) -> dict[str, Any]:
        """Return the fields every version hands to its float soma."""
        grid = self.payload
        return {
            "steps": self.steps,
            "theta": self.threshold().unsqueeze(1),
            "unit": 1.0 if grid is None else grid.step,
            "fire": "excess",
            "out_max": None if grid is None else grid.top,
            "out_rounding": "half-up" if grid is None else grid.rounding,
            "method": self.method,
        }

    def extra_repr(self) -> str:
        """Return the constants shown by `print`."""
        sent = "real" if self.payload is None else f"{self.payload.bits} bits of {self.payload.step:g}"
        return f"steps={self.steps}, payload={sent}"

    def _initial(self, like: Tensor) -> State:
        self._clock[0] = 0
        return super()._initial(like)

    def _advance(self, current: Tensor, state: State, integer: Tensor | None) -> tuple[Tensor, State]:
        result = super()._advance(current, state, integer)
        self._clock[0] += 1
        return result


class EMPF(ExcessNeuron):
    """EM-PF version I: `[T,B,...]` currents to real payloads; learnable leak and threshold per step."""

    method: ClassVar[str] = "empf"
    variants: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"detach": "nothing"},
        {"detach": "reset"},
        {"payload_bits": 4},
        {"payload_bits": 3, "payload_step": 0.5, "detach": "nothing"},
        {"learn_start": True},
    )

    def __init__(
        self,
        *,
        steps: int,
        detach: DetachName = "state",
        learn_start: bool = False,
        payload_bits: int | None = None,
        payload_step: float = 0.25,
        payload_rounding: RoundingName = "half-up",
        step_mode: StepMode = "m",
    ) -> None:
        """`payload_bits` None sends real values; integer targets need a width (the paper: 4 bits of 1/4)."""
        super().__init__(
            steps=steps,
            payload_bits=payload_bits,
            payload_step=payload_step,
            payload_rounding=payload_rounding,
            step_mode=step_mode,
        )
        check_choice(type(self).__name__, detach=(detach, get_args(DetachName)))
        self.detach = detach
        self.leak_raw = nn.Parameter(torch.zeros(steps))
        self.v_start: nn.Parameter | None = nn.Parameter(torch.zeros(())) if learn_start else None

    def initial_potential(self) -> Tensor:
        """Return v(0): 0, or the trained start."""
        return super().initial_potential() if self.v_start is None else self.v_start

    def leaks(self) -> Tensor:
        """Return leak(t), `[T]`, every entry in (0, 1)."""
        return torch.sigmoid(self.leak_raw)

    def integrate(self, current: Tensor, v: Tensor) -> Tensor:
        """Return m = leak(t)*v + I."""
        return self.now(self.leak_raw, like=current) * v + current

    def fused_rule(self) -> ExcessRule:
        """Return the equations above as constants of the compiled kernels."""
        return ExcessRule(
            theta=self.threshold(),
            leak=self.leaks(),
            v0=self.initial_potential(),
            detach=self.detach,
            grid=self.payload,
        )

    def fused_step_rule(self, t: int) -> ExcessRule | None:
        """Return the same for step t; a gradient that crosses steps takes the torch code."""
        if self.detach != "state":
            return None
        self._clock[0] = t + 1
        rule = self.fused_rule()
        return attrs.evolve(rule, theta=rule.theta[t : t + 1], leak=self.leaks()[t : t + 1])

    def settle(self, m: Tensor, o: Tensor) -> Tensor:
        """Return v = min(m, theta(t)), whatever was sent."""
        theta = self.now(self.theta_raw, like=m)
        kept = torch.where(m > theta, theta, m)  # the derivative of m - ReLU(m - theta), ties included
        if self.detach == "reset":
            return straight_through(m, value=kept)
        return kept.detach() if self.detach == "state" else kept

    def lower(self) -> FloatSoma:
        """Return a soma that fires its excess and clamps, leak and theta `[T,1]`."""
        return FloatSoma(**self.soma_fields(), reset="clamp", leak=self.leaks().unsqueeze(1))

    def soma_fields(self) -> dict[str, Any]:
        """Return the shared fields and v(0)."""
        return {**super().soma_fields(), "v_init": self.initial_potential().detach()}


class EMPFParallel(ExcessNeuron):
    """EM-PF version III: `[T,B,...]` currents to real payloads, nothing kept between the steps."""

    method: ClassVar[str] = "empf-parallel"
    variants: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"tied": True}, {"payload_bits": 4})

    def __init__(
        self,
        *,
        steps: int,
        tied: bool = False,
        payload_bits: int | None = None,
        payload_step: float = 0.25,
        payload_rounding: RoundingName = "half-up",
        step_mode: StepMode = "m",
    ) -> None:
        """`tied` keeps one threshold for all steps, as the released implementation does."""
        super().__init__(
            steps=steps,
            thresholds=1 if tied else None,
            payload_bits=payload_bits,
            payload_step=payload_step,
            payload_rounding=payload_rounding,
            step_mode=step_mode,
        )
        self.tied = tied

    def integrate(self, current: Tensor, v: Tensor) -> Tensor:
        """Return m = I."""
        return current

    def settle(self, m: Tensor, o: Tensor) -> Tensor:
        """Return 0: nothing is kept."""
        return torch.zeros_like(m)

    def forward(self, x: Tensor) -> Tensor:
        """Return the payloads of all steps in one operation, or of one step in single-step mode."""
        if self.step_mode == "s":
            return super().forward(x)
        if x.dim() < 2 or x.shape[0] != self.steps:
            raise InputError(
                f"{type(self).__name__}: expected [T,B,...] with T = {self.steps}, got {list(x.shape)}; "
                "put the steps first (Repeat, TimeFold) or build the neuron with this many steps"
            )
        if not torch.compiler.is_compiling() and (sent := fused(self, x)) is not None:
            return sent
        currents = wide(x)
        theta = self.threshold().to(currents.dtype).view(-1, *[1] * (x.dim() - 1))
        return self.send(torch.relu(currents - theta)).to(x.dtype)

    def fused_rule(self) -> ExcessRule:
        """Return the equations above as constants of the compiled kernels."""
        start = self.initial_potential()
        return ExcessRule(theta=self.threshold(), leak=None, v0=start, detach="state", grid=self.payload)

    def fused_step_rule(self, t: int) -> ExcessRule:
        """Return the same for step t."""
        self._clock[0] = t + 1
        rule = self.fused_rule()
        return attrs.evolve(rule, theta=rule.theta[t : t + 1])

    def lower(self) -> FloatSoma:
        """Return a soma that fires its excess and keeps nothing, theta `[T,1]`."""
        return FloatSoma(**self.soma_fields(), reset="drop")
