"""M-HT and LM-HT: L equidistant thresholds, and LM-HT's learnable window and leak.

    m(t) = leak*v(t-1) + I(t),  s(t) = clip(floor(m(t)/theta), 0, L),  o(t) = theta*s(t),  v(t) = m(t) - o(t)
    LM-HT:  I(t) = sum_j Omega[t,j]*x(j),   Omega = 2*sigmoid(M)/T in (0, 2/T)
            leak = sigmoid(a) + 1/2 in (1/2, 3/2)

Backward with `detach = "state"` (always so for LM-HT), the temporal path through v cut:

    g_m(t) = g_o(t)*1[theta/2 <= m(t) <= (L + 1/2)*theta]
    g_x(j) = sum_t Omega[t,j]*g_m(t),   g_leak = sum_t <g_m(t), v(t-1)>,   g_Omega[t,j] = <g_m(t), x(j)>

Lowers to: fire = levels with L levels, reset = subtract, leak, and for LM-HT the window Omega; one payload
unit is worth theta. Special cases: Omega = identity and L = 1 is LIF; Omega = 1/T and leak 1 is one graded
step of L*T levels. Source: Hao et al. NeurIPS 2024 (LM-HT, arXiv 2402.00411).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor, nn

from snn2chip.errors import InputError
from snn2chip.ir.layers import FloatSoma
from snn2chip.nn.base import DetachName, HalfTheta, Neuron, StepMode, check_choice, start_potential
from snn2chip.nn.surrogate import rectangular_fire


class _MultiLevel(Neuron):
    """L equidistant thresholds with soft reset; what M-HT and LM-HT share."""

    theta: Tensor

    def __init__(
        self,
        *,
        steps: int,
        levels: int,
        theta: float | None,
        v_init: float | HalfTheta,
        detach: DetachName,
        step_mode: StepMode,
    ) -> None:
        super().__init__(steps=steps, levels=levels, step_mode=step_mode)
        check_choice(type(self).__name__, detach=(detach, get_args(DetachName)))
        value = 2.0 / levels if theta is None else float(theta)
        if not value > 0:
            raise InputError(f"{type(self).__name__}: theta={theta} must be positive")
        self.v_init, self.detach = v_init, detach
        self.register_buffer("theta", torch.tensor(value))

    @abstractmethod
    def leak_factor(self) -> Tensor:
        """Return the membrane factor, a scalar."""

    def threshold(self) -> Tensor:
        """Return theta, a scalar in potential units."""
        return self.theta

    def initial_potential(self) -> Tensor:
        """Return v(0): a number, or half of theta."""
        return start_potential(self.v_init, theta=self.theta)

    def integrate(self, current: Tensor, v: Tensor) -> Tensor:
        """Return m = leak*v + I."""
        return self.leak_factor() * v + current

    def fire(self, m: Tensor) -> Tensor:
        """Return o = theta*clip(floor(m/theta), 0, L)."""
        return rectangular_fire(m, theta=self.theta, levels=self.levels)

    def settle(self, m: Tensor, o: Tensor) -> Tensor:
        """Return v = m - o."""
        v = m - (o if self.detach == "nothing" else o.detach())
        return v.detach() if self.detach == "state" else v

    def extra_repr(self) -> str:
        """Return the constants shown by `print`."""
        return (
            f"steps={self.steps}, levels={self.levels}, theta={float(self.theta):g}, leak={float(self.leak_factor()):g}"
        )


class MHT(_MultiLevel):
    """Multi-level neurons with a constant leak: `[T,B,...]` currents to values {0, theta, .., L*theta}."""

    method: ClassVar[str] = "mht"
    variants: ClassVar[tuple[dict[str, Any], ...]] = (
        {"levels": 1},
        {"levels": 4},
        {"levels": 3, "leak": 0.75, "theta": 0.5, "v_init": "half-theta", "detach": "nothing"},
        {"levels": 2, "leak": 1.25, "v_init": 0.125, "detach": "reset"},
    )

    leak: Tensor

    def __init__(
        self,
        *,
        steps: int,
        levels: int = 4,
        theta: float | None = None,
        leak: float = 1.0,
        v_init: float | HalfTheta = 0.0,
        detach: DetachName = "state",
        step_mode: StepMode = "m",
    ) -> None:
        """`theta` is 2/levels unless given, so that the whole range is 2."""
        super().__init__(steps=steps, levels=levels, theta=theta, v_init=v_init, detach=detach, step_mode=step_mode)
        self.register_buffer("leak", torch.tensor(float(leak)))

    def leak_factor(self) -> Tensor:
        """Return the constant leak, a scalar."""
        return self.leak

    def lower(self) -> FloatSoma:
        """Return a soma with L levels and soft reset."""
        return FloatSoma(
            steps=self.steps,
            theta=self.theta,
            unit=self.theta,
            levels=self.levels,
            leak=self.leak,
            v_init=self.initial_potential(),
            v_init_rule="half-theta" if self.v_init == "half-theta" else "round",
            method=self.method,
        )


class LMHT(_MultiLevel):
    """Multi-level neurons with a learnable leak; every step sees all steps through a learnable window."""

    method: ClassVar[str] = "lmht"
    windowed: ClassVar[bool] = True
    variants: ClassVar[tuple[dict[str, Any], ...]] = (
        {"levels": 1},
        {"levels": 4},
        {"levels": 3, "theta": 0.5, "v_init": "half-theta"},
        {"levels": 2, "v_init": 0.125, "learn_window": False, "learn_leak": False},
    )

    def __init__(
        self,
        *,
        steps: int,
        levels: int = 4,
        theta: float | None = None,
        v_init: float | HalfTheta = 0.0,
        learn_window: bool = True,
        learn_leak: bool = True,
        step_mode: StepMode = "m",
    ) -> None:
        """`theta` is 2/levels unless given; the raw parameters start at 0: Omega = 1/T and leak = 1."""
        super().__init__(steps=steps, levels=levels, theta=theta, v_init=v_init, detach="state", step_mode=step_mode)
        self.window_raw = nn.Parameter(torch.zeros(steps, steps), requires_grad=learn_window)
        self.leak_raw = nn.Parameter(torch.zeros(()), requires_grad=learn_leak)

    def window(self) -> Tensor:
        """Return Omega `[T,T]`, every entry in (0, 2/T)."""
        return 2 * torch.sigmoid(self.window_raw) / self.steps

    def leak_factor(self) -> Tensor:
        """Return the leak, a scalar in (1/2, 3/2)."""
        return torch.sigmoid(self.leak_raw) + 0.5

    def mix(self, x: Tensor) -> Tensor:
        """Return I(t) = sum_j Omega[t,j]*x(j), `[T,B,...]`."""
        return (self.window().to(x.dtype) @ x.flatten(1)).view(x.shape)

    def lower(self) -> FloatSoma:
        """Return a soma with L levels, soft reset, the learned leak and the window Omega."""
        return FloatSoma(
            steps=self.steps,
            theta=self.theta,
            unit=self.theta,
            levels=self.levels,
            leak=self.leak_factor(),
            v_init=self.initial_potential(),
            v_init_rule="half-theta" if self.v_init == "half-theta" else "round",
            window=self.window().detach(),
            method=self.method,
        )
