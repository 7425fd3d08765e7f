"""What stands between two neurons of an integer-trained network: pools, one weight layer, norms.

    I = g*( (scale*q) * P + b ) + c       P = unit * integer payloads (sums of them behind a sum-pool)
    delta = |g|*scale*unit,   shift = g*b + c        so that I = delta*a + shift with whole numbers a
    G = floor(2^k * delta/(kappa*lsb) + 1/2), k as large as G < 2^15 and k <= 15 allow,   kappa = window's unit
    B(t) = floor(shift * sum_j w[t,j]/kappa / lsb + 1/2) + the soma's own bias

g, c come from the norms in between: their running statistics, so a feed is settled in eval mode only (or with
frozen norms). While a norm uses the statistics of its batch, the neuron rounds the float current instead.
A channel with delta < 2^-18*|shift| has no influence that float32 could tell from rounding: its G is 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import torch
from torch import Tensor, nn

from snn2chip.errors import InputError, QuantizeError
from snn2chip.ir.trained import TrainedSoma

if TYPE_CHECKING:
    from snn2chip.nn.base import Neuron
    from snn2chip.nn.qat import IntegerFields

GAIN_MAX = 2**15 - 1
SHIFT_MAX = 15
FAINT = 2.0**-18
OFF_GRID = 0.25


@attrs.frozen(kw_only=True, eq=False)
class Feed:
    """The modules that drive one neuron; `source` None is the model's input, whole multiples of `unit`.

    `unit`: value of one unit of the weight layer's input; behind a neuron its threshold comes on top. `after`: norms
    and pool factors between weights and neuron, the last one first. `label` is the weight layer's path.
    """

    layer: nn.Module
    label: str
    source: Neuron | None
    unit: float
    after: tuple[nn.Module | float, ...] = ()
    input_unit: float | None = None

    @property
    def settled(self) -> bool:
        """Whether no norm uses the statistics of its own batch."""
        return not any(isinstance(part, nn.Module) and part.training for part in self.after)

    def affine(self) -> tuple[Tensor, Tensor]:
        """Return (delta `[C]` > 0, shift `[C]`) in float64."""
        layer: Any = self.layer
        scale, _ = layer.weight_parts()
        factor, shift = torch.ones_like(scale, dtype=torch.float64), torch.zeros_like(scale, dtype=torch.float64)
        unit = self.unit if self.source is None else self.unit * float(self.source.threshold().detach())
        for part in self.after:  # y = factor*x + shift so far
            if isinstance(part, float):  # an average leaves constants alone and sums whole numbers
                unit *= part
                continue
            g, c = _norm(part)
            shift = shift + factor * c
            factor = factor * g
        if layer.bias is not None:
            shift = shift + factor * layer.bias.detach().double()
        return factor.abs() * scale.detach().double() * unit, shift

    def trained(self, fields: IntegerFields, *, kappa: int) -> TrainedSoma:
        """Return the integers of the soma behind this feed; QuantizeError if a current unit is far too coarse."""
        delta, shift = self.affine()
        delta = torch.where(delta < FAINT * shift.abs(), 0.0, delta)
        ratio = delta / (kappa * fields.lsb)
        if float(ratio.max()) > GAIN_MAX:
            raise QuantizeError(
                f"{self.label}: one unit of its current is worth {float(ratio.max()):.4g} units of the potential, "
                f"{GAIN_MAX} are the most; lower theta_bits"
            )
        room = torch.floor(torch.log2(GAIN_MAX / ratio.clamp(min=1e-30))).clamp(0, SHIFT_MAX)
        gain = torch.floor(ratio * 2.0**room + 0.5).to(torch.int64).clamp(max=GAIN_MAX)
        sums = torch.ones(1, dtype=torch.float64, device=delta.device)
        if fields.window is not None:
            sums = fields.window.to(delta.device).sum(1).double() / kappa
        bias = torch.floor(sums[:, None] * shift / fields.lsb + 0.5).to(torch.int64) + fields.bias
        return TrainedSoma(
            theta=fields.theta,
            levels=fields.levels,
            leak=fields.leak,
            v_init=fields.v_init,
            reset=fields.reset,
            window=fields.window,
            gain=gain,
            gain_shift=room.to(torch.int64),
            bias=bias,
            delta=delta,
            shift=shift,
            lsb=fields.lsb,
            kappa=kappa,
        )

    def holds(self, soma: TrainedSoma, current: Tensor, *, training: bool) -> bool:
        """Whether the current is whole numbers; if the input is not, False in training, else InputError."""
        if self.source is not None:
            return True
        ratio = soma.in_units(current)
        if not ratio.numel() or float((ratio - torch.round(ratio)).abs().max()) <= OFF_GRID:
            return True
        if training:  # augmented or noisy samples
            return False
        raise InputError(
            f"{self.label}: the model's input is not whole multiples of input_unit = {self.input_unit:g}, on which "
            "its neurons are trained; give such samples, or quantize_neurons(input_unit=...) another"
        )


def _norm(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """(g, c) of a batch norm with its running statistics, float64."""
    m: Any = norm
    g = (m.running_var.detach().double() + m.eps).rsqrt()
    if m.weight is not None:
        g = m.weight.detach().double() * g
    c = -m.running_mean.detach().double() * g
    return g, c if m.bias is None else m.bias.detach().double() + c
