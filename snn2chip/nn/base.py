"""What every neuron module is: steps in, payload values out, and how it becomes a soma.

    multi-step  (step_mode = "m")   [T,B,...] -> [T,B,...]   the state starts at v_init at every call
    single-step (step_mode = "s")   [B,...]   -> [B,...]     the state is kept in `self.v` until `.reset()`

One step, with the hooks a neuron file fills in:

    I    = mix(x)                      temporal mixing, identity by default
    m    = integrate(I(t), v(t-1))     leak*v + I
    o(t) = fire(m)                     payload value, o = theta*s, with the surrogate gradient
    v(t) = settle(m, o(t))             reset, and what of it the gradient sees

Half-precision currents (autocast) are integrated in float32; payloads come back in the type of the currents.
A neuron file also says how it becomes a soma: `lower()` returns a `FloatSoma`. Tests read `variants` and
check properties, gradients and lowering of every neuron in `snn2chip.nn.NEURONS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import attrs
import torch
from torch import Tensor, nn

from snn2chip.errors import InputError, UnsupportedError
from snn2chip.ir.layers import FloatSoma
from snn2chip.nn.fused import StepRule, fused, fused_step

if TYPE_CHECKING:
    from snn2chip.nn.qat import IntegerGrid
    from snn2chip.nn.qat_feed import Feed

StepMode = Literal["m", "s"]
ResetName = Literal["subtract", "zero"]
DetachName = Literal["nothing", "reset", "state"]
HalfTheta = Literal["half-theta"]
State = tuple[Tensor, Tensor | None]  # float potential; integer potential when `qat` is set


def check_choice(owner: str, **choices: tuple[object, tuple[object, ...]]) -> None:
    """Raise InputError that lists every argument whose value is not among its allowed ones."""
    breaches = [
        f"{owner}: {name}={value!r} is none of {', '.join(map(repr, allowed))}"
        for name, (value, allowed) in choices.items()
        if value not in allowed
    ]
    if breaches:
        raise InputError(breaches)


def start_potential(v_init: float | HalfTheta, *, theta: Tensor) -> Tensor:
    """Return v(0), a scalar like theta (potential units): theta/2 for "half-theta", else the number."""
    return theta / 2 if v_init == "half-theta" else torch.full_like(theta, float(v_init))


class Neuron(nn.Module, ABC):
    """A neuron layer with float potentials; shapes `[T,B,...]`, currents and payloads in potential units.

    Raises InputError for a wrong number of steps, UnsupportedError for a windowed neuron in single-step mode.
    """

    windowed: ClassVar[bool] = False
    method: ClassVar[str] = ""
    variants: ClassVar[tuple[dict[str, Any], ...]] = ()  # constructor arguments the tests try, besides `steps`

    steps: int
    levels: int
    step_mode: StepMode
    qat: IntegerGrid | None
    feed: Feed | None  # what drives an integer-trained neuron, and in `exact` "exact" or why it is not known
    exact: str

    def __init__(self, *, steps: int, levels: int = 1, step_mode: StepMode = "m") -> None:
        super().__init__()
        checked = {
            f"steps={steps!r}: expected an integer >= 1": isinstance(steps, int) and steps >= 1,
            f"levels={levels!r}: expected an integer >= 1": isinstance(levels, int) and levels >= 1,
            f"step_mode={step_mode!r}: expected 'm' or 's'": step_mode in ("m", "s"),
        }
        if breaches := [f"{type(self).__name__}: {text}" for text, fine in checked.items() if not fine]:
            raise InputError(breaches)
        self.steps, self.levels, self.step_mode = steps, levels, step_mode
        self.qat, self.feed, self.exact = None, None, ""
        self._state: State | None = None
        self._seen = 0

    @abstractmethod
    def threshold(self) -> Tensor:
        """Return theta, a positive scalar in potential units."""

    @abstractmethod
    def initial_potential(self) -> Tensor:
        """Return v(0), a scalar in potential units."""

    @abstractmethod
    def integrate(self, current: Tensor, v: Tensor) -> Tensor:
        """Return the potential before firing, m, from I(t) and v(t-1), both `[B,...]`."""

    @abstractmethod
    def fire(self, m: Tensor) -> Tensor:
        """Return the payload value o = theta*s of m, `[B,...]`, with this neuron's surrogate gradient."""

    @abstractmethod
    def settle(self, m: Tensor, o: Tensor) -> Tensor:
        """Return the potential after the reset, v(t), from m and o, `[B,...]`."""

    @abstractmethod
    def lower(self) -> FloatSoma:
        """Return this neuron as a float soma, in its trained (not rounded) constants."""

    def described(self) -> FloatSoma:
        """Return `lower()`, for a window over another number of frames too: a rectangle, which no program has."""
        return self.lower()

    def fused_rule(self) -> Callable[[Tensor], Tensor] | None:
        """Return what the compiled kernels need to know, as a function of the currents; None: there are no kernels."""
        return None

    def fused_step_rule(self, t: int) -> StepRule | None:
        """Return the rule of step t alone, for neurons whose potential is a constant between steps; else None."""
        return None

    @property
    def input_steps(self) -> int:
        """How many steps the input has: T, but for a window that reads another number of frames."""
        return self.steps

    def mix(self, x: Tensor) -> Tensor:
        """Return the currents `[T,B,...]` after temporal mixing; without a window that is `x` itself."""
        return x

    def float_soma(self) -> FloatSoma:
        """Return the lowering rule in float; after `quantize_neurons` leak and window on the grid, with integers."""
        soma = self.lower()
        if self.qat is None:
            return soma
        return attrs.evolve(self.qat.snap(soma), trained=self.qat.trained(self))

    @property
    def v(self) -> Tensor | None:
        """The potential kept between single-step calls, `[B,...]`, or None after `reset()`."""
        return None if self._state is None else self._state[0]

    def reset(self) -> None:
        """Forget the single-step state: the next call starts at v_init."""
        self._state = None
        self._seen = 0

    def cut(self) -> None:
        """Make the potential kept between single-step calls a constant: no gradient flows to earlier steps."""
        if self._state is not None:
            v, integer = self._state
            self._state = v.detach(), integer

    def forward(self, x: Tensor) -> Tensor:
        """Return payload values o = theta*s of currents x: `[T,B,...]`, or `[B,...]` in single-step mode."""
        if self.step_mode == "s":
            return self._one_step(x)
        if x.dim() < 2 or x.shape[0] != self.input_steps:
            raise InputError(
                f"{type(self).__name__}: expected [T,B,...] with T = {self.input_steps}, got {list(x.shape)}; "
                "put the steps first (Repeat, TimeFold) or build the neuron with this many steps"
            )
        if not torch.compiler.is_compiling() and (sent := fused(self, x)) is not None:
            return sent
        currents = self.mix(x)
        mixed = None if self.qat is None else self.qat.mix(self, x)
        state = self._initial(wide(x[0]))
        payloads: list[Tensor] = []
        for t in range(self.steps):
            o, state = self._advance(wide(currents[t]), state, None if mixed is None else mixed[t])
            payloads.append(o.to(x.dtype))
        return torch.stack(payloads)

    def _one_step(self, x: Tensor) -> Tensor:
        if self.windowed:
            raise UnsupportedError(
                f"{type(self).__name__} mixes all {self.steps} steps and cannot run one step at a time; "
                "use step_mode='m' with [T,B,...]"
            )
        if self._seen >= self.steps:
            raise InputError(
                f"{type(self).__name__}: step {self._seen + 1} of a sample of {self.steps} steps; "
                "call reset() before every sample or build the neuron with more steps"
            )
        if not torch.compiler.is_compiling() and (sent := fused_step(self, x)) is not None:
            self._seen += 1
            return sent
        kind, x = x.dtype, wide(x)
        state = self._initial(x) if self._state is None else self._state
        if state[0].shape != x.shape:
            raise InputError(
                f"{type(self).__name__}: the kept potential has shape {list(state[0].shape)}, "
                f"got {list(x.shape)}; call reset() before a batch of another shape"
            )
        integer = None if self.qat is None else self.qat.mix(self, x)
        o, self._state = self._advance(x, state, integer)
        self._seen += 1
        return o.to(kind)

    def _initial(self, like: Tensor) -> State:
        v = self.initial_potential().to(like.dtype).expand(like.shape)
        return v, None if self.qat is None else self.qat.initial(self, like)

    def _advance(self, current: Tensor, state: State, integer: Tensor | None) -> tuple[Tensor, State]:
        v, v_integer = state
        if self.qat is not None and integer is not None and v_integer is not None:
            return self.qat.advance(self, current, v, integer, v_integer)
        m = self.integrate(current, v)
        o = self.fire(m)
        return o, (self.settle(m, o), None)


def wide(x: Tensor) -> Tensor:
    """Return half-precision currents in float32, in which potentials are kept; other types as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
