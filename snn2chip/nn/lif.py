"""IF and LIF: one threshold, soft or hard reset.

    m(t) = leak*v(t-1) + I(t),   s(t) = 1[m(t) >= theta],   o(t) = theta*s(t)
    reset = subtract (soft):  v(t) = m(t) - o(t)          zero (hard):  v(t) = 0 where s(t) = 1, else m(t)

IF is leak = 1. Backward, with h the surrogate of do/dm (rectangular or triangular, height on the payload):

    g_m(t) = g_o(t)*h(m(t)) + g_m(t+1)*leak*k(t)
    subtract:  k = 1 - h;   zero:  k = 1 - s - m*h/theta      detach = nothing
    subtract:  k = 1;       zero:  k = 1 - s                  detach = reset
    k = 0                                                     detach = state
    surrogate_on = "spike": the surrogate has its height on s, h is theta times as large

Lowers to: fire = levels, levels = 1, the same leak, theta, v_init and reset; one payload unit is worth theta.
Source: Wu et al. 2018 (STBP).
"""

from __future__ import annotations

from typing import Any, ClassVar, get_args

import attrs
import torch
from torch import Tensor

from snn2chip.errors import InputError
from snn2chip.ir.layers import FloatSoma
from snn2chip.nn.base import DetachName, HalfTheta, Neuron, ResetName, StepMode, check_choice, start_potential
from snn2chip.nn.fused.levels import LevelRule
from snn2chip.nn.surrogate import SurrogateName, SurrogateOn, rectangular_fire, triangular_fire


class LIF(Neuron):
    """Leaky integrate-and-fire neurons, `[T,B,...]` currents to payload values {0, theta}."""

    method: ClassVar[str] = "lif"
    variants: ClassVar[tuple[dict[str, Any], ...]] = (
        {"leak": 0.5},
        {"leak": 0.9375, "theta": 0.75, "reset": "zero"},
        {"leak": 0.75, "v_init": "half-theta", "detach": "reset"},
        {"leak": 0.75, "reset": "zero", "detach": "reset", "surrogate": "triangular"},
        {"leak": 1.125, "v_init": 0.25, "detach": "state"},
        {"leak": 0.75, "theta": 0.5, "surrogate_on": "spike"},
    )

    theta: Tensor
    leak: Tensor

    def __init__(
        self,
        *,
        steps: int,
        leak: float = 0.5,
        theta: float = 1.0,
        v_init: float | HalfTheta = 0.0,
        reset: ResetName = "subtract",
        detach: DetachName = "nothing",
        surrogate: SurrogateName = "rectangular",
        surrogate_on: SurrogateOn = "payload",
        gamma: float = 1.0,
        step_mode: StepMode = "m",
    ) -> None:
        super().__init__(steps=steps, levels=1, step_mode=step_mode)
        check_choice(
            type(self).__name__,
            reset=(reset, get_args(ResetName)),
            detach=(detach, get_args(DetachName)),
            surrogate=(surrogate, get_args(SurrogateName)),
            surrogate_on=(surrogate_on, get_args(SurrogateOn)),
        )
        if not theta > 0 or not gamma > 0:
            raise InputError(f"{type(self).__name__}: theta={theta} and gamma={gamma} must be positive")
        self.reset_rule: ResetName = reset
        self.detach: DetachName = detach
        self.surrogate: SurrogateName = surrogate
        self.surrogate_on: SurrogateOn = surrogate_on
        self.gamma, self.v_init = gamma, v_init
        self.register_buffer("theta", torch.tensor(float(theta)))
        self.register_buffer("leak", torch.tensor(float(leak)))

    def threshold(self) -> Tensor:
        """Return theta, a scalar in potential units."""
        return self.theta

    def initial_potential(self) -> Tensor:
        """Return v(0): a number, or half of theta."""
        return start_potential(self.v_init, theta=self.theta)

    def integrate(self, current: Tensor, v: Tensor) -> Tensor:
        """Return m = leak*v + I."""
        return self.leak * v + current

    def fire(self, m: Tensor) -> Tensor:
        """Return o = theta*1[m >= theta]."""
        if self.surrogate == "triangular":
            return triangular_fire(m, theta=self.theta, gamma=self.gamma, on=self.surrogate_on)
        return rectangular_fire(m, theta=self.theta, on=self.surrogate_on)

    def fused_rule(self) -> LevelRule:
        """Return the equations above as constants of the compiled kernels."""
        return LevelRule(
            steps=self.steps,
            levels=1,
            leak=self.leak,
            v0=self.initial_potential(),
            theta=self.theta,
            on_spike=self.surrogate_on == "spike",
            gamma=self.gamma if self.surrogate == "triangular" else 0.0,
            hard=self.reset_rule == "zero",
            detach=self.detach,
        )

    def fused_step_rule(self, t: int) -> LevelRule | None:
        """Return the same for one step; a gradient that crosses steps takes the torch code."""
        return attrs.evolve(self.fused_rule(), steps=1) if self.detach == "state" else None

    def settle(self, m: Tensor, o: Tensor) -> Tensor:
        """Return v = m - o (subtract) or v = m*(1 - s) (zero)."""
        seen = o if self.detach == "nothing" else o.detach()
        v = m - seen if self.reset_rule == "subtract" else m * (1 - seen / self.theta)
        return v.detach() if self.detach == "state" else v

    def lower(self) -> FloatSoma:
        """Return a one-level soma with this leak, threshold, start and reset."""
        return FloatSoma(
            steps=self.steps,
            theta=self.theta,
            unit=self.theta,
            levels=1,
            leak=self.leak,
            reset=self.reset_rule,
            v_init=self.initial_potential(),
            v_init_rule="half-theta" if self.v_init == "half-theta" else "round",
            method=self.method,
        )

    def extra_repr(self) -> str:
        """Return the constants shown by `print`."""
        leak, theta = float(self.leak), float(self.theta)
        return f"steps={self.steps}, leak={leak:g}, theta={theta:g}, reset={self.reset_rule}"


class IF(LIF):
    """Integrate-and-fire neurons: LIF with leak 1."""

    method: ClassVar[str] = "if"
    variants: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"theta": 0.625, "v_init": "half-theta"},
        {"theta": 1.5, "reset": "zero"},
    )

    def __init__(
        self,
        *,
        steps: int,
        theta: float = 1.0,
        v_init: float | HalfTheta = 0.0,
        reset: ResetName = "subtract",
        detach: DetachName = "nothing",
        surrogate: SurrogateName = "rectangular",
        surrogate_on: SurrogateOn = "payload",
        gamma: float = 1.0,
        step_mode: StepMode = "m",
    ) -> None:
        super().__init__(
            steps=steps,
            leak=1.0,
            theta=theta,
            v_init=v_init,
            reset=reset,
            detach=detach,
            surrogate=surrogate,
            surrogate_on=surrogate_on,
            gamma=gamma,
            step_mode=step_mode,
        )
