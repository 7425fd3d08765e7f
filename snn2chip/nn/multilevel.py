"""M-HT and LM-HT: L equidistant thresholds, and LM-HT's learnable window and leak.

    m(t) = leak*v(t-1) + I(t),  s(t) = clip(floor(m(t)/theta), 0, L),  o(t) = theta*s(t),  v(t) = m(t) - o(t)
    LM-HT:  I(t) = sum_j Omega[t,j]*x(j),   Omega = 2*sigmoid(M)/T in (0, 2/T)
            leak = sigmoid(a) + 1/2 in (1/2, 3/2)

Choices of the papers besides the defaults, by name: `surrogate_on = "spike"` (height 1 on s: do/dm is theta instead of
1 in the band), `theta = 1`, `leak_range = "unit"` (leak = sigmoid(a) in (0, 1), 1/2 at the start), `frames = F` (event
frames [F,B,..] into T steps, Omega [T,F] = 2*sigmoid(M)/F), `window_scale = "sum"` (Omega = 2*sigmoid(M), 1 at the
start: the released code's first layer on an averaged frame, a gain of T).

Backward with `detach = "state"` (always so for LM-HT), the temporal path through v cut:

    g_m(t) = g_o(t)*1[theta/2 <= m(t) <= (L + 1/2)*theta]
    g_x(j) = sum_t Omega[t,j]*g_m(t),   g_leak = sum_t <g_m(t), v(t-1)>,   g_Omega[t,j] = <g_m(t), x(j)>

Lowers to: fire = levels with L levels, reset = subtract, leak, and for LM-HT the window Omega; one payload
unit is worth theta. Special cases: Omega = identity and L = 1 is LIF; Omega = 1/T and leak 1 is one graded
step of L*T levels. Source: Hao et al. NeurIPS 2024 (LM-HT, arXiv 2402.00411).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Literal, get_args

import attrs
import torch
from torch import Tensor, nn

from snn2chip.errors import InputError, UnsupportedError
from snn2chip.ir.layers import FloatSoma
from snn2chip.nn.base import DetachName, HalfTheta, Neuron, StepMode, check_choice, start_potential, wide
from snn2chip.nn.fused.levels import LevelRule
from snn2chip.nn.mixing import mixed
from snn2chip.nn.surrogate import SurrogateOn, rectangular_fire

LeakRange = Literal["centred", "unit"]
WindowScale = Literal["mean", "sum"]


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
        surrogate_on: SurrogateOn,
        step_mode: StepMode,
    ) -> None:
        super().__init__(steps=steps, levels=levels, step_mode=step_mode)
        check_choice(
            type(self).__name__,
            detach=(detach, get_args(DetachName)),
            surrogate_on=(surrogate_on, get_args(SurrogateOn)),
        )
        value = 2.0 / levels if theta is None else float(theta)
        if not value > 0:
            raise InputError(f"{type(self).__name__}: theta={theta} must be positive")
        self.v_init, self.detach, self.surrogate_on = v_init, detach, surrogate_on
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
        return rectangular_fire(m, theta=self.theta, levels=self.levels, on=self.surrogate_on)

    def fused_rule(self) -> LevelRule:
        """Return the equations above as constants of the compiled kernels."""
        return LevelRule(
            steps=self.steps,
            levels=self.levels,
            leak=self.leak_factor(),
            v0=self.initial_potential(),
            theta=self.theta,
            on_spike=self.surrogate_on == "spike",
            detach=self.detach,
        )

    def fused_step_rule(self, t: int) -> LevelRule | None:
        """Return the same for one step; a gradient that crosses steps takes the torch code."""
        return attrs.evolve(self.fused_rule(), steps=1) if self.detach == "state" else None

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
        {"levels": 3, "leak": 0.75, "theta": 0.5, "detach": "nothing", "surrogate_on": "spike"},
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
        surrogate_on: SurrogateOn = "payload",
        step_mode: StepMode = "m",
    ) -> None:
        """`theta` is 2/levels unless given, so that the whole range is 2."""
        super().__init__(
            steps=steps,
            levels=levels,
            theta=theta,
            v_init=v_init,
            detach=detach,
            surrogate_on=surrogate_on,
            step_mode=step_mode,
        )
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
        {"levels": 2, "leak_range": "unit", "surrogate_on": "spike"},
        {"levels": 2, "window_scale": "sum"},
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
        leak_range: LeakRange = "centred",
        window_scale: WindowScale = "mean",
        frames: int | None = None,
        surrogate_on: SurrogateOn = "payload",
        step_mode: StepMode = "m",
    ) -> None:
        """`theta` is 2/levels unless given; the raw parameters start at 0: Omega = 1/T and leak = 1.

        `frames` F (T unless given) is how many steps the input has: a first layer of event frames, `[F,B,...]`.
        """
        super().__init__(
            steps=steps,
            levels=levels,
            theta=theta,
            v_init=v_init,
            detach="state",
            surrogate_on=surrogate_on,
            step_mode=step_mode,
        )
        check_choice(
            type(self).__name__,
            leak_range=(leak_range, get_args(LeakRange)),
            window_scale=(window_scale, get_args(WindowScale)),
        )
        if frames is not None and (not isinstance(frames, int) or frames < 1):
            raise InputError(f"LMHT: frames={frames!r}, expected an integer >= 1")
        self.frames = steps if frames is None else frames
        self.leak_range, self.window_scale = leak_range, window_scale
        self.window_raw = nn.Parameter(torch.zeros(steps, self.frames), requires_grad=learn_window)
        self.leak_raw = nn.Parameter(torch.zeros(()), requires_grad=learn_leak)

    @property
    def input_steps(self) -> int:
        """F, the steps of the input."""
        return self.frames

    def window(self) -> Tensor:
        """Return Omega `[T,F]`, every entry in (0, 2/F), or in (0, 2) with `window_scale` sum."""
        return 2 * torch.sigmoid(self.window_raw) / (self.frames if self.window_scale == "mean" else 1)

    def leak_factor(self) -> Tensor:
        """Return the leak, a scalar in (1/2, 3/2), or in (0, 1) with `leak_range` unit."""
        return torch.sigmoid(self.leak_raw) + (0.5 if self.leak_range == "centred" else 0.0)

    def mix(self, x: Tensor) -> Tensor:
        """Return I(t) = sum_j Omega[t,j]*x(j), `[T,B,...]` of `[F,B,...]`."""
        x = wide(x)
        if x.is_meta:  # shapes alone; there is no autocast to leave
            return x.new_empty(self.steps, *x.shape[1:])
        with torch.autocast(x.device.type, enabled=False):  # Omega's gradient sums over the map: not in bfloat16
            return mixed(x, self.window().to(x.dtype))

    def fused_rule(self) -> LevelRule:
        """Return the equations above as constants of the compiled kernels."""
        return attrs.evolve(super().fused_rule(), window=self.window())

    def lower(self) -> FloatSoma:
        """Return a soma with L levels, soft reset, the learned leak and the window Omega; F must be T."""
        if self.frames != self.steps:
            raise UnsupportedError(
                f"LMHT: a window of {self.steps} steps over {self.frames} frames is no soma on its own; a program has "
                "one number of steps, compile the whole model (snn2chip.frontends.torch_frames)"
            )
        return self.described()

    def described(self) -> FloatSoma:
        """Return the soma with its window `[T,F]`."""
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
