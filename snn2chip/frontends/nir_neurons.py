"""Neurons of a `.nir` file as float somas: the equations of `nir_profiles` with the values of the file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
import torch

from snn2chip.frontends.nir_file import NirNode
from snn2chip.frontends.nir_flat import FIRING
from snn2chip.frontends.nir_profiles import Profile
from snn2chip.ir.layers import FloatSoma, Shape

MAX_VALUES = 1 << 22
"""Values of one field that differ from neuron to neuron."""
NEAR = 1e-5
"""Relative distance to 1 at which a gain that went through tau and r in float32 is taken for 1."""


class Unfit(Exception):
    """Values that do not fit the profile, or a primitive that has no form; the texts say why."""

    def __init__(self, *texts: str, refused: bool = False) -> None:
        super().__init__(*texts)
        self.texts, self.refused = texts, refused


@attrs.define
class _Values:
    """The fields of one neuron, broadcast to its shape, and what is wrong with them."""

    node: NirNode
    shape: Shape
    bad: list[str] = attrs.field(factory=list)

    def get(self, key: str, default: float | None = None) -> Any:
        """A field as one number where it is the same everywhere (no memory for a neuron each), else per neuron."""
        value = self.node.fields.get(key)
        if value is None or isinstance(value, str):
            if default is None:
                self.bad.append(f"{key} is missing")
            return np.float64(0.0 if default is None else default)
        array = np.asarray(value)
        channels = bool(self.shape) and array.shape == (self.shape[0], *[1] * (len(self.shape) - 1))
        if array.size == 0 or (array.size != 1 and array.shape != self.shape and not channels):
            self.bad.append(f"{key} has shape {list(array.shape)}, the neurons {list(self.shape)}")
            return np.float64(0.0)
        if (array == array.flat[0]).all():
            return np.float64(array.flat[0])
        if array.size > MAX_VALUES:
            self.bad.append(f"{key} differs between {array.size} neurons; {MAX_VALUES} at most can be read")
            return np.float64(0.0)
        return array.astype(np.float64)

    def channels(self, key: str, value: Any) -> torch.Tensor:
        """One number, or one per channel; neurons of a channel must be equal."""
        flat = np.asarray(value, dtype=np.float64)
        if (flat == flat.flat[0]).all():
            return torch.tensor(float(flat.flat[0]), dtype=torch.float64)
        rows = flat.reshape(flat.shape[0], -1)
        if not (rows == rows[:, :1]).all():
            self.bad.append(f"{key} differs between the neurons of a channel; one value per channel can be compiled")
        return torch.tensor(rows[:, 0], dtype=torch.float64)


def soma_of(node: NirNode, shape: Shape, profile: Profile, *, steps: int) -> FloatSoma:
    """The float soma of a neuron of this shape; raises Unfit with everything that does not fit."""
    values = _Values(node, shape)
    kind = node.kind
    if kind != "Threshold" and kind not in profile.neurons:
        names = ", ".join(profile.neurons)
        raise Unfit(f"{profile.name} writes {names}, never {kind}; name the profile that wrote this file")
    with np.errstate(all="ignore"):  # what leaves the range of numbers is refused
        found = _dynamics(values, profile, kind)
    values.bad += [f"{key} leaves the range of numbers" for key, v in found.items() if not np.isfinite(v).all()]
    fields: dict[str, Any] = {key: values.channels(key, value) for key, value in found.items()}
    if kind in FIRING:
        fields |= _firing(values, profile, kind)
    else:
        fields |= {"theta": 0.0, "fire": "membrane", "reset": "zero"}
    if values.bad:
        raise Unfit(*dict.fromkeys(values.bad))
    return FloatSoma(steps=steps, unit=1.0, method=f"nir {kind}", **fields)


def _dynamics(v: _Values, profile: Profile, kind: str) -> dict[str, Any]:
    """leak, gain, bias and syn_leak of every neuron."""
    if kind == "Threshold":
        return {}
    r = v.get("r")
    if kind in ("I", "IF"):
        dt = 1.0 if profile.counts_steps else profile.dt
        if dt is None:
            v.bad.append("dt cannot be told from r; give the option dt")
            return {}
        _check_r(v, profile, r, r * dt)
        return {"gain": _snapped(r * dt)}
    cuba = kind in ("CubaLIF", "CubaLI")
    tau = v.get("tau_mem" if cuba else "tau") * profile.tau_scale
    if (tau <= 0).any():
        v.bad.append(f"a time constant of {tau.min():g}; expected more than 0")
        return {}
    dt = profile.dt if profile.dt is not None else _rockpool_dt(v, r, tau)
    k = _ratio(v, "tau_mem" if cuba else "tau", tau, dt, profile)
    leak = 1 - k if profile.update == "euler" else np.exp(-k)
    v_leak = v.get("v_leak", 0.0)
    _check_r(v, profile, r, r * k)
    if profile.update == "rockpool" and profile.gain == "one" and not np.allclose(r, tau * np.exp(-k) / dt, rtol=1e-3):
        v.bad.append(f"r = {_span(r)}, and rockpool writes {_span(tau * np.exp(-k) / dt)} at dt = {dt:g}")
    gain = {"euler": r * k, "norm": r * (1 - leak), "one": np.ones_like(k)}[profile.gain]
    pull = k if profile.update == "euler" else 1 - leak
    if not cuba:
        gain = gain * leak if profile.update == "rockpool" else gain
        return {"leak": leak, "gain": _snapped(gain), "bias": v_leak * pull}
    tau_syn = v.get("tau_syn") * profile.tau_scale
    if (tau_syn <= 0).any():
        v.bad.append(f"a time constant of {tau_syn.min():g}; expected more than 0")
        return {}
    k_syn = _ratio(v, "tau_syn", tau_syn, dt, profile)
    syn_leak = 1 - k_syn if profile.update == "euler" else np.exp(-k_syn)
    w_in = v.get("w_in", 1.0)
    if (profile.cuba_jump or profile.update == "rockpool") and (w_in != 1).any():
        v.bad.append(f"w_in = {_span(w_in)}, and {profile.name} writes 1")
    jump = np.ones_like(k) if profile.cuba_jump else _snapped(w_in * k_syn)
    if profile.update == "rockpool":
        jump = syn_leak
    elif profile.r in ("gain", "gain-or-one") and (jump != 1).any():
        v.bad.append(f"w_in*dt/tau_syn = {_span(jump)}, and {profile.name} writes 1 at dt = {dt:g}")
    return {"leak": leak, "gain": _snapped(gain) * jump, "bias": v_leak * pull, "syn_leak": syn_leak}


def _firing(v: _Values, profile: Profile, kind: str) -> dict[str, Any]:
    """Threshold, compare, reset and floor."""
    theta = v.get("threshold" if kind == "Threshold" else "v_threshold")
    if (theta <= 0).any():
        v.bad.append(f"a threshold of {theta.min():g}; expected more than 0")
    fields: dict[str, Any] = {"theta": v.channels("threshold", theta), "levels": profile.levels}
    if profile.levels == 1:
        fields["strict"] = True if profile.compare == ">" else None
    if kind == "Threshold":
        return {**fields, "levels": 1, "reset": "drop", "strict": True if profile.compare == ">" else None}
    reset = v.get("v_reset", 0.0)
    if profile.v_reset == "zero" and (reset != 0).any():
        v.bad.append(f"v_reset = {_span(reset)}, and {profile.name} writes 0")
    leaks_to = v.get("v_leak", 0.0) if kind != "IF" else reset
    if profile.v_leak == "zero" and kind != "IF" and (leaks_to != 0).any():
        v.bad.append(f"v_leak = {_span(leaks_to)}, and {profile.name} writes 0")
    if profile.v_leak == "v_reset" and kind == "LIF" and (leaks_to != reset).any():
        v.bad.append(f"v_leak = {_span(leaks_to)} is not v_reset = {_span(reset)}, as {profile.name} writes it")
    if profile.reset != "value" and profile.v_reset != "zero" and (reset != 0).any():
        v.bad.append(f"v_reset = {_span(reset)} has no meaning with reset={profile.reset}")
    fields["reset"] = profile.reset
    if profile.reset == "value":
        fields |= {"v_reset": v.channels("v_reset", reset)} if (reset != 0).any() else {"reset": "zero"}
    if profile.start == "v_reset" and (reset != 0).any():
        fields["v_init"] = v.channels("v_reset", reset)
    if profile.floor is not None:
        fields["v_min"] = v.channels("floor", profile.floor * theta)
    return fields


def _ratio(v: _Values, key: str, tau: Any, dt: float, profile: Profile) -> Any:
    """dt/tau, which an Euler step needs to be at most 1."""
    k = tau if not dt else dt / tau
    if profile.update == "euler" and (k > 1 + NEAR).any():
        v.bad.append(f"{key} = {_span(tau)} is shorter than dt = {dt:g}; give the option dt, or another profile")
    return k


def _check_r(v: _Values, profile: Profile, r: Any, gain: Any) -> None:
    one, whole = bool(np.allclose(r, 1.0, rtol=1e-6)), bool(np.allclose(gain, 1.0, rtol=1e-3))
    rule = "gain" if profile.r == "gain-or-one" and v.node.kind in ("I", "IF") else profile.r
    fits = {"any": True, "one": one, "gain": whole, "gain-or-one": one or whole}[rule]
    if not fits:
        product = "r*dt" if v.node.kind in ("I", "IF") else "r*dt/tau"
        want = {"one": "r = 1", "gain": f"{product} = 1", "gain-or-one": f"r = 1 or {product} = 1"}[rule]
        v.bad.append(
            f"r = {_span(r)}, {product} = {_span(gain)}, and {profile.name} writes {want} at dt = {profile.dt:g}"
        )


def settled(profile: Profile, nodes: Sequence[NirNode]) -> tuple[Profile, list[str]]:
    """The profile with the time step that r and tau of its neurons name, where it has none, and a line that says so."""
    found = []
    for node in nodes if profile.dt is None else ():
        key = "tau_mem" if "tau_mem" in node.fields else "tau"
        v = _Values(node, np.shape(node.fields.get("r", 0.0)))
        with np.errstate(all="ignore"):
            dt = _rockpool_dt(v, v.get("r"), v.get(key)) if node.kind in ("LIF", "LI", "CubaLIF", "CubaLI") else 0.0
        found += [dt] if not v.bad and np.isfinite(dt) and dt > 0 else []
    if not found:
        return profile, []
    dt = float(np.median(found))
    return attrs.evolve(profile, dt=dt), [f"dt = {dt:g} follows from r and tau"]


def _rockpool_dt(v: _Values, r: Any, tau: Any) -> float:
    """dt from r = tau e^(-dt/tau) / dt, written once for all neurons: x e^x = 1/r for x = dt/tau."""
    from scipy.special import lambertw

    if (r <= 0).any():
        v.bad.append(f"r = {_span(r)} names no time step")
        return 1.0
    found = (lambertw(1.0 / r).real * tau).ravel()
    if not np.allclose(found, found[0], rtol=1e-3):
        v.bad.append(f"r and tau name different time steps ({_span(found)})")
    return float(np.median(found))


def _snapped(value: Any) -> Any:
    return np.where(np.abs(value - 1.0) <= NEAR, 1.0, value)


def _span(value: Any) -> str:
    low, high = float(np.min(value)), float(np.max(value))
    return f"{low:g}" if low == high else f"{low:g}..{high:g}"
