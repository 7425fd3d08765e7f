"""Layer-wise calibration of DA-QCFS, and the ranges of ReLU activations: data, no gradients.

    student  r = (theta + phi)/T * clip(floor(((z + psi)*T + theta/2)/theta), 0, T)        per channel
    teacher  QCFS with T~ levels, or ClipReLU: clip(z, 0, theta)

Both networks run side by side, layer by layer in data-flow order, over batches of the calibration set:

    e_pre  = mean(z_teacher - z_student)    psi <- rho*psi + (1-rho)*e_pre       and psi is used at once
    e_post = mean(o_teacher - o_student)    phi <- phi + (1-rho)*e_post          integral (default)
                                            phi <- rho*phi + (1-rho)*e_post      ema, as printed
    phi is used from the next batch on;     theta + phi >= 0

The printed form shrinks the mean error only by 1/(1 + mean rate); the integral form takes it to zero.
Only maps [C,H,W] are calibrated unless `fc`. Source: Hao et al. ICML 2025 (arXiv 2412.13610).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

import attrs
import torch
from torch import Tensor

from snn2chip.convert.activations import Activation, find
from snn2chip.errors import InputError
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import per_channel
from snn2chip.nn.base import check_choice

PhiUpdate = Literal["integral", "ema"]


@attrs.frozen(kw_only=True, eq=False)
class DAQCFS:
    """The constants of one DA-QCFS activation: theta, psi and phi `[C]` or scalar (activation units), T levels."""

    theta: Tensor
    psi: Tensor
    phi: Tensor
    steps: int

    def apply(self, z: Tensor) -> Tensor:
        """Return r of currents z `[T or 1,B,C,...]`."""
        theta, psi, phi = (per_channel(v, z, lead=2) for v in (self.theta, self.psi, self.phi))
        count = torch.floor(((z + psi) * self.steps + theta / 2) / theta).clamp(0, self.steps)
        return (theta + phi) / self.steps * count


@attrs.frozen(kw_only=True)
class Calibration:
    """How to calibrate: the phi rule, the momentum rho, passes over the data, whether fc activations too."""

    phi: PhiUpdate = "integral"
    momentum: float = 0.99
    passes: int = 1
    fc: bool = False

    def __attrs_post_init__(self) -> None:
        check_choice("Calibration", phi=(self.phi, get_args(PhiUpdate)))
        if not 0 <= self.momentum < 1 or self.passes < 0:
            raise InputError(f"Calibration: momentum={self.momentum} (0 <= rho < 1), passes={self.passes} (>= 0)")


def batches(data: Tensor | Iterable[Any], *, batch: int = 64) -> list[Tensor]:
    """Return input batches of a tensor `[N,...]`, or of an iterable of batches or (batch, label) pairs."""
    parts = list(torch.split(data, batch)) if isinstance(data, Tensor) else [_inputs(part) for part in data]
    if not parts or not all(isinstance(part, Tensor) and len(part) for part in parts):
        raise InputError("calibration needs batches of input tensors, at least one sample in each")
    return parts


def _inputs(part: Any) -> Any:
    return part[0] if isinstance(part, (tuple, list)) else part


def run_layers(graph: LayerGraph, x: Tensor, activation: Any) -> Tensor:
    """Return the network's output with `activation(name, z)` in the place of every activation."""
    names = {a.name for a in find(graph)}
    values: dict[str, Tensor] = {}
    out = x
    for layer in graph.layers:
        given = [values[name] for name in graph.inputs.get(layer.name, ())] or [x.unsqueeze(0)]
        out = activation(layer.name, given[0]) if layer.name in names else layer.apply(given)
        values[layer.name] = out
    return out


@torch.no_grad()
def relu_ranges(
    graph: LayerGraph, data: list[Tensor], *, per_channel_max: bool = True, quantile: float = 1.0, eps: float = 1e-3
) -> dict[str, Tensor]:
    """Return theta of every ReLU: the largest current of each channel `[C]` (or of the layer) on the data.

    `quantile` < 1 takes that quantile of every batch instead, averaged. A channel that is never positive gets `eps`
    times the layer's largest theta. Raises InputError for a layer that never fires.
    """
    if not 0 < quantile <= 1 or not eps > 0:
        raise InputError(f"quantile={quantile} must be in (0, 1] and eps={eps} positive")
    tops: dict[str, list[Tensor]] = {}

    def note(name: str, z: Tensor) -> Tensor:
        rows = z.transpose(0, 2).flatten(1) if per_channel_max else z.reshape(1, -1)
        tops.setdefault(name, []).append(_upper(rows, quantile))
        return known[name].value(z)

    known = {a.name: a for a in find(graph)}
    for x in data:
        run_layers(graph, x, note)
    found, dead = {}, []
    for name, rows in tops.items():
        if known[name].kind != "relu":
            continue
        theta = torch.stack(rows).amax(0) if quantile == 1 else torch.stack(rows).mean(0)
        ceiling = getattr(known[name].layer, "top", None)
        theta = theta if ceiling is None else theta.clamp(max=ceiling)
        top = float(theta.max())
        if not top > 0:
            dead.append(f"{known[name].layer.label}: never positive on the calibration data, so it has no threshold")
        theta = theta.clamp(min=eps * top)
        found[name] = theta if per_channel_max else theta[0]
    if dead:
        raise InputError(dead)
    return found


def _upper(rows: Tensor, quantile: float) -> Tensor:
    if quantile == 1:
        return rows.amax(1)
    rank = min(rows.shape[1], int(quantile * rows.shape[1]) + 1)
    return rows.kthvalue(rank, dim=1).values


@torch.no_grad()
def calibrate(
    graph: LayerGraph,
    data: list[Tensor],
    *,
    steps: int,
    theta: Mapping[str, Tensor],
    options: Calibration | None = None,
) -> dict[str, DAQCFS]:
    """Return the calibrated constants of every activation; `theta` by name, QCFS ones from their own vth.

    psi and phi start at 0 and are `[C]` where calibrated, scalar 0 where not.
    """
    options = Calibration() if options is None else options
    known = {a.name: a for a in find(graph)}
    state = {name: _start(a, theta[name], steps=steps, fc=options.fc) for name, a in known.items()}
    for _ in range(options.passes):
        for x in data:
            _calibrate_batch(graph, x, known, state, options)
    return state


def _start(a: Activation, theta: Tensor, *, steps: int, fc: bool) -> DAQCFS:
    zero = torch.zeros(a.channels if a.spatial or fc else (), dtype=theta.dtype, device=theta.device)
    return DAQCFS(theta=theta, psi=zero, phi=zero.clone(), steps=steps)


def _calibrate_batch(
    graph: LayerGraph, x: Tensor, known: Mapping[str, Activation], state: dict[str, DAQCFS], options: Calibration
) -> None:
    teacher: dict[str, Tensor] = {}
    student: dict[str, Tensor] = {}
    rho = options.momentum
    for layer in graph.layers:
        names = graph.inputs.get(layer.name, ())
        z_t = [teacher[name] for name in names] or [x.unsqueeze(0)]
        z_s = [student[name] for name in names] or [x.unsqueeze(0)]
        if layer.name not in known:
            teacher[layer.name], student[layer.name] = layer.apply(z_t), layer.apply(z_s)
            continue
        now = state[layer.name]
        teacher[layer.name] = _teach(known[layer.name], now.theta, z_t[0])
        if now.psi.dim():
            now = attrs.evolve(now, psi=rho * now.psi + (1 - rho) * _channel_mean(z_t[0] - z_s[0]).to(now.psi))
        student[layer.name] = now.apply(z_s[0])
        if now.phi.dim():
            error = _channel_mean(teacher[layer.name] - student[layer.name]).to(now.phi)
            phi = now.phi * (rho if options.phi == "ema" else 1.0) + (1 - rho) * error
            now = attrs.evolve(now, phi=torch.maximum(phi, -now.theta))
        state[layer.name] = now


def _teach(a: Activation, theta: Tensor, z: Tensor) -> Tensor:
    if a.kind == "qcfs":
        return a.value(z)
    return torch.minimum(z.clamp(min=0), per_channel(theta, z, lead=2))


def _channel_mean(x: Tensor) -> Tensor:
    return x.transpose(0, 2).flatten(1).mean(1)
