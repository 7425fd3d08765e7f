"""The parallel spiking neuron: all T spikes of a sample at once, from the sum of its T currents.

    m = Lambda_PC Lambda_PRE I,   s(x) = 1[m(x) + psi/(T-x+1) >= theta]
                             <=>  S + psi >= (T-x+1)*theta,   S = sum_i I(i)
    Lambda_PC[x,i] = T/(x*(T-x+1)) for i <= x,   Lambda_PRE[x,i] = 1/T,   fused: 1/(T-x+1) for all i
    number of spikes = clip(floor((S + psi)/theta), 0, T),   payload o = (theta + phi)*s

x = 1..T are the output steps. As printed, the spikes occupy the last steps; `order="first"` (the default, as in the
released code) sends the same train reversed, so that a reader may stop early. There is no state and no training:
theta, psi and phi, scalars or one per channel, come from a conversion (`snn2chip.convert`).

Lowers to T binary steps: window of ones, reset = drop, theta per step x*theta, bias psi.
Sources: Hao et al. ICML 2025 (arXiv 2412.13610), Fang et al. NeurIPS 2023.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from snn2chip.errors import InputError
from snn2chip.ir.layers import FloatSoma
from snn2chip.nn.base import check_choice
from snn2chip.nn.fused import allowed
from snn2chip.nn.fused.at_once import spikes_at_once
from snn2chip.nn.fused.gpu_parallel import parallel_spikes

Order = Literal["first", "last"]
Evaluation = Literal["hadamard", "search", "matrix"]
Rows = list[list[Fraction]]


def primary_matrix(steps: int) -> Rows:
    """Return Lambda_PC `[T][T]` in exact fractions: T/(x(T-x+1)) where i <= x, else 0."""
    return [
        [Fraction(steps, x * (steps - x + 1)) if i <= x else Fraction(0) for i in range(1, steps + 1)]
        for x in range(1, steps + 1)
    ]


def projection_matrix(steps: int) -> Rows:
    """Return Lambda_PRE `[T][T]` in exact fractions: 1/T everywhere."""
    return [[Fraction(1, steps)] * steps for _ in range(steps)]


def fused_matrix(steps: int) -> Rows:
    """Return Lambda_PC Lambda_PRE `[T][T]` in exact fractions: row x is 1/(T-x+1)."""
    return [[Fraction(1, steps - x + 1)] * steps for x in range(1, steps + 1)]


def thresholds(theta: Tensor, *, steps: int, order: Order = "first") -> Tensor:
    """Return what the summed current must reach at every output step, `[T, *theta.shape]`, in potential units.

    first: theta, 2*theta, .., T*theta (the first k steps fire)      last: the same, reversed.
    """
    factor = torch.arange(1, steps + 1, device=theta.device)
    factor = factor if order == "first" else factor.flip(0)
    return factor.view(-1, *[1] * theta.dim()) * theta


def hadamard_spikes(total: Tensor, *, theta: Tensor, psi: Tensor, steps: int, order: Order = "first") -> Tensor:
    """Return spikes `[T,B,...]` of summed currents S `[B,...]`: one compare per step, no division.

    `theta` and `psi` broadcast against S. Works on integers too, then exactly.
    """
    rows = thresholds(theta + torch.zeros_like(total), steps=steps, order=order)
    return total + psi >= rows


def search_count(total: Tensor, *, theta: Tensor, psi: Tensor, steps: int) -> Tensor:
    """Return the spike count 0..T `[B,...]` int64 by binary search: ceil(log2(T+1)) compares per neuron.

    The largest k with S + psi >= k*theta; needs theta > 0.
    """
    target = total + psi
    low = torch.zeros(target.shape, dtype=torch.int64, device=target.device)
    high = torch.full_like(low, steps)
    for _ in range(steps.bit_length()):
        middle = (low + high + 1) // 2
        reached = target >= middle * theta
        low, high = torch.where(reached, middle, low), torch.where(reached, high, middle - 1)
    return low


def sorted_spikes(count: Tensor, *, steps: int, order: Order = "first") -> Tensor:
    """Return `[T,B,...]` bool spikes of counts `[B,...]`: the first (or last) `count` steps fire."""
    step = torch.arange(steps, device=count.device).view(-1, *[1] * count.dim())
    return step < count if order == "first" else step >= steps - count


class ParallelNeuron(nn.Module):
    """All T spikes of a sample from the sum of its currents: `[T,B,C,...]` to payloads {0, theta + phi}.

    `theta` > 0 is compared with, `psi` (theta/2 unless given) is added to the sum of the currents, `phi` is added to
    theta in the payload; scalars or `[C]`. `evaluation`: hadamard and search compare S with multiples of theta,
    matrix divides as printed, the same in exact arithmetic but for order, which it too obeys. Raises InputError.
    """

    timed: ClassVar[bool] = True
    windowed: ClassVar[bool] = True
    method: ClassVar[str] = "parallel"

    theta: Tensor
    psi: Tensor
    phi: Tensor

    def __init__(
        self,
        *,
        steps: int,
        theta: Any = 1.0,
        psi: Any = None,
        phi: Any = 0.0,
        order: Order = "first",
        evaluation: Evaluation = "hadamard",
    ) -> None:
        super().__init__()
        check_choice("ParallelNeuron", order=(order, get_args(Order)), evaluation=(evaluation, get_args(Evaluation)))
        made = {key: torch.as_tensor(value).detach().clone() for key, value in (("theta", theta), ("phi", phi))}
        made["psi"] = made["theta"] / 2 if psi is None else torch.as_tensor(psi).detach().clone()
        breaches = [
            f"{key} has shape {list(v.shape)}, expected a number or [C]" for key, v in made.items() if v.dim() > 1
        ]
        breaches += [] if isinstance(steps, int) and steps >= 1 else [f"steps={steps!r}: expected an integer >= 1"]
        breaches += [] if made["theta"].is_meta or bool((made["theta"] > 0).all()) else ["theta must be positive"]
        if breaches:
            raise InputError([f"ParallelNeuron: {text}" for text in breaches])
        self.steps, self.levels = steps, 1
        self.order, self.evaluation = order, evaluation
        for key, value in made.items():
            self.register_buffer(key, value)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Return payload values `[T,B,C,...]` of currents of the same shape; nothing here is trained."""
        if x.dim() < 2 or x.shape[0] != self.steps:
            raise InputError(f"ParallelNeuron: expected [T,B,...] with T = {self.steps}, got {list(x.shape)}")
        if self.evaluation == "hadamard" and x.is_cuda and allowed():
            sent = parallel_spikes(x, self.theta, self.psi, self.phi, last=self.order == "last")
            if sent is not None:
                return sent
        theta, psi, phi = (self._shaped(value, x) for value in (self.theta, self.psi, self.phi))
        if self.evaluation == "matrix":
            divisor = torch.arange(self.steps, 0, -1, device=x.device).view(-1, *[1] * (x.dim() - 1)).to(x.dtype)
            fired = x.sum(0) / divisor + psi / divisor >= theta
            fired = fired.flip(0) if self.order == "first" else fired
        elif self.evaluation == "search":
            count = search_count(x.sum(0), theta=theta, psi=psi, steps=self.steps)
            fired = sorted_spikes(count, steps=self.steps, order=self.order)
        elif (sent := self._compiled(x, theta, psi, theta + phi)) is not None:
            return sent
        else:
            fired = hadamard_spikes(x.sum(0), theta=theta, psi=psi, steps=self.steps, order=self.order)
        return fired.to(x.dtype) * (theta + phi)

    def float_soma(self) -> FloatSoma:
        """Return T binary steps: window of ones, nothing kept, theta per step."""
        return binary_steps(self.theta, psi=self.psi, unit=self.theta + self.phi, steps=self.steps, order=self.order)

    def extra_repr(self) -> str:
        """Return the constants shown by `print`."""
        return f"steps={self.steps}, order={self.order}, evaluation={self.evaluation}"

    def _compiled(self, x: Tensor, theta: Tensor, psi: Tensor, unit: Tensor) -> Tensor | None:
        if torch.compiler.is_compiling() or not allowed():
            return None
        return spikes_at_once(x, theta=theta, psi=psi, unit=unit, last=self.order == "last")

    @staticmethod
    def _shaped(value: Tensor, x: Tensor) -> Tensor:
        return value.to(x.device).view(-1, *[1] * (x.dim() - 3)) if value.dim() else value.to(x.device)


def binary_steps(theta: Tensor, *, psi: Tensor, unit: Tensor, steps: int, order: Order = "first") -> FloatSoma:
    """Return the soma of T binary steps; theta, psi and unit are those of the summed current, scalars or `[C]`."""
    theta, psi, unit = (v.detach() for v in (theta, psi, unit))
    return FloatSoma(
        steps=steps,
        theta=thresholds(theta, steps=steps, order=order).view(steps, -1),
        unit=unit,
        bias=psi,
        reset="drop",
        window=torch.ones(steps, steps, dtype=theta.dtype, device=theta.device),
        method="parallel",
    )


def graded_step(theta: Tensor, *, psi: Tensor, unit: Tensor, levels: int, ladder: bool = False) -> FloatSoma:
    """Return the same neuron as one graded step on the mean current: theta/T, psi/T, unit/T and `levels` = T.

        k = clip(floor((psi + S)/theta), 0, T)    =    number of k in 1..T with S/T >= (k*theta - psi)/T

    `ladder` gives the T thresholds one by one, which an integer machine rounds singly and therefore exactly.
    """
    theta, psi, unit = (v.detach() / levels for v in (theta, psi, unit))
    if not ladder:
        return FloatSoma(steps=1, theta=theta, unit=unit, bias=psi, levels=levels, reset="drop", method="parallel")
    rows = thresholds(theta, steps=levels) - psi
    return FloatSoma(
        steps=1,
        theta=theta,
        unit=unit,
        levels=levels,
        fire="ladder",
        ladder=rows.view(levels, -1),
        reset="drop",
        method="parallel",
    )
