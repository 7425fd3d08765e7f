"""EM-PF version II: a batch norm of the membrane potential at every step, and its exact merge for inference.

    m(t) = leak(t)*v(t-1) + I(t)
    n(t) = alpha(t)*m(t) + beta(t)*( gamma_c*(m(t) - mu_c)/sd_c + b_c )_t          c: channel, one norm per step
    s(t) = ReLU(n(t) - theta(t)),   v(t) = min(n(t), theta(t))                     the normalised potential is kept

`scales` = sigmoid: alpha(t), beta(t) in (0, 1), both start at 1/2 (released); version I is only a limit. `free`: any
real number, start (1, 0): a fresh neuron is exactly version I. `carry` = raw keeps v(t) = m(t) - s(t) instead, the
potential before the norm, as one reading of the printed text has it; that form does not merge and is not lowered.
With the running statistics the norm is affine,

    a_c(t) = alpha(t) + beta(t)*gamma_c/sd_c,      c_c(t) = beta(t)*(b_c - gamma_c*mu_c/sd_c)

    form A   leak = a*leak(t)   gain = a   bias = c                    theta = theta(t)           keeps v
    form B   leak = a*leak(t)   gain = a   bias = a*leak(t)*c(t-1)     theta = theta(t) - c(t)    keeps v - c;  c(0) = 0

Both are exact for any sign of a. Merging c into theta alone, without form B's bias, is not.
Sources: Hao et al. (EM-PF, arXiv 2410.07547); Guo et al. ICCV 2023 (membrane potential batch norm).
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, cast, get_args

import attrs
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from snn2chip.errors import InputError, UnsupportedError
from snn2chip.ir.layers import FloatSoma
from snn2chip.nn.base import DetachName, StepMode, check_choice
from snn2chip.nn.empf import EMPF
from snn2chip.nn.payload import RoundingName

ScalesName = Literal["sigmoid", "free"]
FormName = Literal["A", "B"]
CarryName = Literal["normalised", "raw"]


class MembraneNorm(_BatchNorm):
    """Batch norm over all axes but the second, `[B,C,...]` of any rank."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2 or input.shape[1] != self.num_features:
            raise InputError(
                f"EMPFNorm: expected currents [T,B,{self.num_features},...], got one step of shape "
                f"{list(input.shape)}; build the neuron with channels={input.shape[1] if input.dim() > 1 else 1}"
            )


@attrs.frozen(kw_only=True, eq=False)
class MergedNorm:
    """Constants of the merged neuron: `leak`, `gain`, `bias` are `[T,C]`, `theta` is `[T,1]` (A) or `[T,C]` (B)."""

    leak: Tensor
    gain: Tensor
    bias: Tensor
    theta: Tensor


class EMPFNorm(EMPF):
    """EM-PF version II: `[T,B,C,...]` currents to real payloads; one norm, leak, threshold, alpha, beta per step."""

    method: ClassVar[str] = "empf-norm"
    variants: ClassVar[tuple[dict[str, Any], ...]] = ()  # needs the number of channels

    def __init__(
        self,
        *,
        steps: int,
        channels: int,
        scales: ScalesName = "sigmoid",
        carry: CarryName = "normalised",
        eps: float = 1e-5,
        momentum: float = 0.1,
        detach: DetachName = "state",
        learn_start: bool = False,
        payload_bits: int | None = None,
        payload_step: float = 0.25,
        payload_rounding: RoundingName = "half-up",
        step_mode: StepMode = "m",
    ) -> None:
        """`channels` is C, the axis after the batch; `eps` and `momentum` as in `nn.BatchNorm2d`."""
        super().__init__(
            steps=steps,
            detach=detach,
            learn_start=learn_start,
            payload_bits=payload_bits,
            payload_step=payload_step,
            payload_rounding=payload_rounding,
            step_mode=step_mode,
        )
        check_choice(type(self).__name__, scales=(scales, get_args(ScalesName)), carry=(carry, get_args(CarryName)))
        if not isinstance(channels, int) or channels < 1:
            raise InputError(f"EMPFNorm: channels={channels!r}, expected an integer >= 1")
        self.channels, self.scales, self.carry = channels, scales, carry
        self._before_norm: Tensor | None = None
        self.alpha_raw = nn.Parameter(torch.zeros(steps) if scales == "sigmoid" else torch.ones(steps))
        self.beta_raw = nn.Parameter(torch.zeros(steps))
        self.norms = nn.ModuleList(MembraneNorm(channels, eps=eps, momentum=momentum) for _ in range(steps))

    def alphas(self) -> Tensor:
        """Return alpha(t), `[T]`."""
        return torch.sigmoid(self.alpha_raw) if self.scales == "sigmoid" else self.alpha_raw

    def betas(self) -> Tensor:
        """Return beta(t), `[T]`."""
        return torch.sigmoid(self.beta_raw) if self.scales == "sigmoid" else self.beta_raw

    def integrate(self, current: Tensor, v: Tensor) -> Tensor:
        """Return n = alpha(t)*m + beta(t)*norm_t(m), m = leak(t)*v + I; `[B,C,...]`."""
        m = super().integrate(current, v)
        if self.carry == "raw":
            self._before_norm = m
        normed: Tensor = self.norms[self._clock[0]](m)
        if self.scales == "sigmoid":
            alpha, beta = self.now(self.alpha_raw, like=m), self.now(self.beta_raw, like=m)
        else:
            alpha, beta = self.alpha_raw[self._clock[0]].to(m.dtype), self.beta_raw[self._clock[0]].to(m.dtype)
        return alpha * m + beta * normed

    def settle(self, m: Tensor, o: Tensor) -> Tensor:
        """Return v = min(n, theta(t)), or with `carry` raw v = m - s, s the excess of the normalised potential."""
        if self._before_norm is None:
            return super().settle(m, o)
        raw, self._before_norm = self._before_norm, None
        excess = torch.relu(m - self.now(self.theta_raw, like=m))
        v = raw - (excess if self.detach == "nothing" else excess.detach())
        return v.detach() if self.detach == "state" else v

    def affine(self) -> tuple[Tensor, Tensor]:
        """Return (a, c), each `[T,C]`: n(t) = a*m(t) + c with the running statistics."""
        norms = [cast(MembraneNorm, norm) for norm in self.norms]
        gamma, shift, mean, var = (
            torch.stack([cast(Tensor, getattr(norm, key)).detach() for norm in norms])
            for key in ("weight", "bias", "running_mean", "running_var")
        )
        slope = gamma / torch.sqrt(var + norms[0].eps)
        alpha, beta = self.alphas().detach().unsqueeze(1), self.betas().detach().unsqueeze(1)
        return alpha + beta * slope, beta * (shift - mean * slope)

    def merged(self, *, form: FormName = "A") -> MergedNorm:
        """Return the inference constants with the norm inside leak, gain, bias (A) or also theta (B).

        Raises UnsupportedError with `carry` raw: what is kept is not the potential that is compared.
        """
        if self.carry == "raw":
            raise UnsupportedError("EMPFNorm: carry='raw' does not merge into leak, gain, bias; use carry='normalised'")
        check_choice(type(self).__name__, form=(form, get_args(FormName)))
        a, c = self.affine()
        leak = a * self.leaks().detach().unsqueeze(1)
        theta = self.threshold().detach().unsqueeze(1)
        if form == "A":
            return MergedNorm(leak=leak, gain=a, bias=c, theta=theta)
        before = torch.cat([torch.zeros_like(c[:1]), c[:-1]])
        return MergedNorm(leak=leak, gain=a, bias=leak * before, theta=theta - c)

    def lower(self, *, form: FormName = "A") -> FloatSoma:
        """Return a soma that fires its excess and clamps, the norm merged: leak, gain, bias `[T,C]`."""
        merged = self.merged(form=form)
        fields = {**self.soma_fields(), **attrs.asdict(merged, recurse=False)}
        return FloatSoma(**fields, reset="clamp")

    def extra_repr(self) -> str:
        """Return the constants shown by `print`."""
        return f"{super().extra_repr()}, channels={self.channels}, scales={self.scales}"
