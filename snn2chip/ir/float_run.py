"""The float interpreter: one soma over its steps, and what a run of a graph returns.

    m(t) = leak[t]*v(t-1) + gain[t]*I(t) + bias[t],   I(t) = sum_j window[t,j]*I(j) with a window
    payload(t) = s(m(t))*unit,   v(t) = reset of m(t)      with out_max: unit*clip(round(s/unit), 0, out_max)

Used for fidelity: the same equations as the integer soma, without any rounding. A soma that was trained on integers
runs on them, as it did in training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs
import torch
from torch import Tensor

from snn2chip.errors import UnsupportedError
from snn2chip.ir.layers import FloatSoma
from snn2chip.ir.trained import run_trained

FIRES = ("levels", "excess", "relay", "none", "ladder", "sigmoid", "membrane")
RESETS = ("subtract", "clamp", "zero", "value", "drop", "subtract-delayed")


@attrs.frozen(kw_only=True, eq=False)
class SomaRun:
    """Payload values, the potentials before firing and after the reset, and the current, each `[T,B,*shape]`."""

    payload: Tensor
    before: Tensor
    after: Tensor
    current: Tensor


@attrs.frozen(kw_only=True, eq=False)
class FloatRun:
    """Result of a graph: its output, and if asked for, every layer's value `[T,B,*shape]`.

    `before` and `after` hold the potentials of the neurons by layer name: before firing, after the reset; `currents`
    the (mixed) currents of those that feed themselves, and u/gain of current-based ones.
    """

    output: Tensor
    values: Mapping[str, Tensor]
    before: Mapping[str, Tensor]
    after: Mapping[str, Tensor]
    currents: Mapping[str, Tensor] = attrs.field(factory=dict)


def step_value(value: Tensor, step: int, *, like: Tensor) -> Tensor:
    """Return a scalar, `[C]` or `[T or 1, C or 1]` soma field at one step, to go with `[B, C, ...]`."""
    value = value.to(like)
    if value.dim() == 2:
        value = value[step if value.shape[0] > 1 else 0]
    return value.view(-1, *[1] * (like.dim() - 2)) if value.dim() == 1 else value


Feedback = Callable[[Tensor], Tensor]
"""The current `[B, *shape]` that payload values `[B, *shape]` of the step before give back."""


def run_soma(
    soma: FloatSoma, current: Tensor, *, feedback: Feedback | None = None, sent: Tensor | None = None
) -> SomaRun:
    """Run a soma over its currents `[T or 1, B, *shape]` (potential units), starting at v_init.

    `feedback` adds what its payloads of the step before give back, zeros at first; with `sent` `[T or 1, B, *shape]`
    those payloads are taken instead of its own (teacher forcing).
    Raises UnsupportedError for an emission or reset rule the float interpreter does not know.
    """
    if soma.fire not in FIRES or soma.reset not in RESETS:
        raise UnsupportedError(
            f"soma {soma.method}: the float interpreter knows fire {', '.join(FIRES)} and reset "
            f"{', '.join(RESETS)}, got fire={soma.fire}, reset={soma.reset}"
        )
    current = current.expand(soma.steps, *current.shape[1:])
    if soma.trained is not None and bool((soma.gain == 1).all()):
        found = run_trained(soma.trained, current)
        units = (soma.unit.to(current), soma.trained.lsb, soma.trained.lsb)
        values = [whole.to(current.dtype) * unit for whole, unit in zip(found, units, strict=True)]
        return SomaRun(payload=values[0], before=values[1], after=values[2], current=current)
    if soma.window is not None:
        mixed = soma.window.to(current) @ current.flatten(1)
        current = mixed.view(current.shape)
    v = step_value(soma.v_init, 0, like=current[0]).expand(current.shape[1:])
    payload: list[Tensor] = []
    before, after, drives = [], [], []
    u, s_prev = torch.zeros_like(v), torch.zeros_like(v)
    forced = None if sent is None else sent.to(current).expand(current.shape)
    for t in range(soma.steps):
        leak, gain, bias, theta, unit = (
            step_value(field, t, like=v) for field in (soma.leak, soma.gain, soma.bias, soma.theta, soma.unit)
        )
        drive = current[t]
        if feedback is not None:
            past = torch.zeros_like(drive) if not t else payload[t - 1] if forced is None else forced[t - 1]
            drive = drive + feedback(past)
            drives.append(drive)
        x = gain * drive
        if soma.syn_leak is not None:
            x = u = step_value(soma.syn_leak, t, like=v) * u + x
            drives[t:] = [u / torch.where(gain == 0, torch.ones_like(gain), gain)]
        m = leak * v + x + bias
        if soma.reset == "subtract-delayed":
            m = m - s_prev * theta
        if soma.fire == "levels" and soma.strict:
            s = (m > theta).to(m)
        elif soma.fire == "levels":
            s = torch.floor(m / theta).clamp(0, soma.levels)
        elif soma.fire == "excess":
            s = (m - theta).clamp(min=0)
        elif soma.fire == "ladder":
            s = _rungs(soma, m)
        elif soma.fire == "sigmoid":
            s = torch.sigmoid(m)
        else:
            s = m if soma.fire in ("relay", "membrane") else torch.zeros_like(m)
        if soma.fire == "membrane" or soma.reset == "subtract-delayed":
            v, s_prev = m, s
        elif soma.reset == "subtract":
            v = m - s * theta
        elif soma.reset == "clamp":
            v = torch.minimum(m, theta)
        elif soma.reset == "zero":
            v = torch.where(s > 0, torch.zeros_like(m), m)
        elif soma.reset == "value":
            assert soma.v_reset is not None
            v = torch.where(s > 0, step_value(soma.v_reset, t, like=v), m)
        else:
            v = torch.zeros_like(m)
        if soma.v_min is not None:
            v = torch.maximum(v, step_value(soma.v_min, t, like=v))
        payload.append(s * unit if soma.fire != "excess" or soma.out_max is None else graded(soma, s, unit))
        before.append(m)
        after.append(v)
    found = (torch.stack(payload), torch.stack(before), torch.stack(after))
    drive = torch.stack(drives) if drives else current
    return SomaRun(payload=found[0], before=found[1], after=found[2], current=drive)


def _rungs(soma: FloatSoma, m: Tensor) -> Tensor:
    """Return how many thresholds of the ladder the potential `[B,*shape]` reaches."""
    assert soma.ladder is not None
    s = torch.zeros_like(m)
    for row in soma.ladder:
        s = s + (m >= step_value(row, 0, like=m)).to(m)
    return s


def graded(soma: FloatSoma, s: Tensor, unit: Tensor) -> Tensor:
    """Return the value of an excess `s` (potential units) on the payload's codes 0..out_max of width `unit`."""
    ratio = s / unit
    code = torch.round(ratio) if soma.out_rounding == "half-even" else torch.floor(ratio + 0.5)
    return code.clamp(0, soma.out_max) * unit
