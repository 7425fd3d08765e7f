"""QCFS: the quantised clip-floor-shift activation, trained as an ANN and converted to spikes.

    a = vth/L * clip(floor(z*L/vth + 1/2), 0, L)        each step by itself, vth > 0 trained, one per layer

With theta = vth/L and m = z + theta/2 it is a multi-level neuron: a = theta*clip(floor(m/theta), 0, L).
The straight-through floor follows the clip:

    da/dz = 1[0 <= z <= vth]        da/dvth = (a - z)/vth inside, 0 below, 1 above

`clip = "after"` clips after the floor: the same values and formulas, on the band -vth/(2L) <= z < vth*(1 + 1/(2L)).

Lowers to: fire = levels with L levels, theta = vth/L. One step: v_init = floor(theta/2) and soft reset.
Several steps of the activation keep nothing between them: reset = drop, bias theta/2. `spiking` gives the
conversion to T steps: IF or multi-level neurons of threshold vth/levels, started at half of it, whose payload
mean is QCFS with levels*T levels when the current is constant.
Source: Bu et al. ICLR 2022 (arXiv 2303.04347).
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from snn2chip.errors import InputError, QuantizeError
from snn2chip.ir.layers import FloatSoma
from snn2chip.nn.base import Neuron, StepMode, check_choice
from snn2chip.nn.fused.clips import ClipRule
from snn2chip.nn.multilevel import LMHT, MHT
from snn2chip.nn.surrogate import straight_through

ClipName = Literal["before", "after"]


class QCFS(Neuron):
    """Quantised activation with a trained range: `[T,B,...]` currents to values {0, vth/L, .., vth}."""

    method: ClassVar[str] = "qcfs"
    variants: ClassVar[tuple[dict[str, Any], ...]] = (
        {"levels": 4, "vth": 1.0},
        {"levels": 8, "vth": 2.0},
        {"levels": 3, "vth": 1.5},
        {"levels": 4, "vth": 1.0, "clip": "after"},
    )

    def __init__(
        self,
        *,
        steps: int = 1,
        levels: int = 4,
        vth: float = 8.0,
        clip: ClipName = "before",
        step_mode: StepMode = "m",
    ) -> None:
        super().__init__(steps=steps, levels=levels, step_mode=step_mode)
        check_choice(type(self).__name__, clip=(clip, get_args(ClipName)))
        if not vth > 0:
            raise InputError(f"{type(self).__name__}: vth={vth} must be positive")
        self.clip: ClipName = clip
        self.vth = nn.Parameter(torch.tensor(float(vth)))

    def threshold(self) -> Tensor:
        """Return theta = vth/L, a scalar in potential units."""
        return self.vth / self.levels

    def initial_potential(self) -> Tensor:
        """Return the shift theta/2, added at every step."""
        return self.threshold() / 2

    def integrate(self, current: Tensor, v: Tensor) -> Tensor:
        """Return m = z + theta/2."""
        return current + v

    def fire(self, m: Tensor) -> Tensor:
        """Return a = theta*floor(clip(m/theta, 1/2, L + 1/2)), the floor passed straight through."""
        theta = self.threshold()
        if self.clip == "after":
            ratio = m / theta
            return theta * straight_through(ratio, value=torch.floor(ratio)).clamp(0, self.levels)
        ratio = (m / theta).clamp(0.5, self.levels + 0.5)
        return theta * straight_through(ratio, value=torch.floor(ratio))

    def fused_rule(self) -> ClipRule:
        """Return the equations above as constants of the compiled kernels."""
        return ClipRule(theta=self.threshold(), levels=self.levels, after=self.clip == "after")

    def settle(self, m: Tensor, o: Tensor) -> Tensor:
        """Return the shift again: nothing is kept."""
        return self.initial_potential().to(m.dtype).expand(m.shape)

    def lower(self) -> FloatSoma:
        """Return the graded soma with L levels; raises QuantizeError when training made vth non-positive."""
        theta = self.threshold().detach()
        if not float(theta) > 0:
            raise QuantizeError(
                f"QCFS: vth = {float(self.vth.detach())} is not positive; train with a smaller learning rate"
            )
        kept = self.steps == 1
        return FloatSoma(
            steps=self.steps,
            theta=theta,
            unit=theta,
            levels=self.levels,
            reset="subtract" if kept else "drop",
            bias=0.0 if kept else theta / 2,
            v_init=theta / 2 if kept else 0.0,
            v_init_rule="half-theta" if kept else "round",
            method=self.method,
        )

    def spiking(self, *, steps: int, levels: int = 1, window: bool = False) -> MHT | LMHT:
        """Return the converted neuron: theta = vth/levels, v(0) = theta/2, leak 1, `steps` steps.

        `window` gives LM-HT neurons with Omega = 1/T, the start of hybrid training; weights and biases stay.
        """
        theta = float(self.vth.detach()) / levels
        neuron: MHT | LMHT
        if window:
            neuron = LMHT(steps=steps, levels=levels, theta=theta, v_init="half-theta")
        else:
            neuron = MHT(steps=steps, levels=levels, theta=theta, v_init="half-theta")
        return neuron.to(self.vth.device, self.vth.dtype)

    def extra_repr(self) -> str:
        """Return the constants shown by `print`."""
        return f"steps={self.steps}, levels={self.levels}, vth={float(self.vth.detach()):g}"
