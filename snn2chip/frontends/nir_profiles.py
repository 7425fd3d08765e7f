"""What a `.nir` file leaves open, by the framework that wrote it: time step, discretisation, compare, reset, levels.

One step of a neuron with the current x (sum of what it reads), k = dt/tau:

    euler   v = (1 - k) v + r k x + k v_leak           current-based: u = (1 - k_s) u + w_in k_s x,   x = u
    exp     v = e^(-k) v + (1 - e^(-k)) r x            rockpool: u = e^(-k_s) (u + x),   v = e^(-k) v + u
    IF      v = v + r dt x   (euler),  v + r x  where r counts steps

then spikes, 0/1 at v > or >= theta or floor(v/theta) of them, and the reset. Measured against the frameworks' own
forward passes: snntorch 1.0.0, spikingjelly 2.0.0, norse 1.1.0, sinabs 3.1.3; read from the sources: rockpool 3.1.0,
lava-dl 0.6.0 (through `lava_to_nir.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs

from snn2chip.errors import InputError

COMPARES = (">", ">=")
RESETS = ("value", "zero", "subtract", "subtract-delayed")
UPDATES = ("euler", "exp", "rockpool")
GAINS = ("euler", "norm", "one")
STARTS = ("zero", "v_reset")
ALL = ("IF", "LIF", "CubaLIF", "I", "LI", "CubaLI", "Threshold")


@attrs.frozen(kw_only=True)
class Profile:
    """The conventions of one exporter.

    `dt` in the unit of tau (None: it follows from r). `gain`: how a current enters a leaky neuron: euler (r k), norm
    (r (1 - leak)) or one. `tau_scale` corrects written time constants. `counts_steps`: an IF's r is in steps.
    `cuba_jump`: a current-based neuron adds its input whole (w_in is written as 1 and means tau_syn/dt). `levels`: most
    spikes of one step. `floor`: the potential's floor in units of the threshold. `start`: the potential before the
    first step. `recurrent_bias`: whether the bias of a recurrent map acts in the first step. `neurons`: the types this
    framework writes; `batched`: its inputs and outputs carry batch and time in front; `v_leak`: any, zero, or equal to
    v_reset; `r`: any, one, gain (r k = 1), gain-or-one.
    """

    name: str
    dt: float | None
    update: str = "euler"
    gain: str = "euler"
    tau_scale: float = 1.0
    counts_steps: bool = False
    cuba_jump: bool = False
    compare: str = ">"
    reset: str = "value"
    levels: int = 1
    floor: float | None = None
    start: str = "zero"
    recurrent_bias: bool = False
    neurons: tuple[str, ...] = ALL
    v_leak: str = "any"
    r: str = "any"
    v_reset: str = "any"
    batched: bool = False

    def described(self) -> list[str]:
        """What is assumed, one line each."""
        dt = "as it follows from r" if self.dt is None else f"{self.dt:g}"
        spikes = "0 or 1 spike" if self.levels == 1 else f"floor(v/theta) spikes, at most {self.levels}"
        return [
            f"dt = {dt}, {self.update} update" + (f", written tau * {self.tau_scale:g}" if self.tau_scale != 1 else ""),
            f"{spikes} at v {self.compare} theta, reset {self.reset}"
            + ("" if self.floor is None else f", potential never below {self.floor:g} * theta"),
            f"potential starts at {'v_reset' if self.start == 'v_reset' else '0'}; the bias of a recurrent map "
            + ("acts from the first step" if self.recurrent_bias else "acts from the second step"),
        ]


PROFILES: Mapping[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(
            name="snntorch",
            dt=1e-4,
            reset="subtract-delayed",
            recurrent_bias=True,
            neurons=("LIF", "CubaLIF"),
            v_leak="zero",
            r="gain",
            v_reset="zero",
        ),
        Profile(
            name="spikingjelly",
            dt=1e-4,
            compare=">=",
            start="v_reset",
            neurons=("IF", "LIF", "CubaLIF"),
            v_leak="v_reset",
            r="gain-or-one",
        ),
        Profile(
            name="norse",
            dt=1e-3,
            counts_steps=True,
            cuba_jump=True,
            neurons=("IF", "LIF", "CubaLIF", "LI", "CubaLI"),
            r="one",
        ),
        Profile(
            name="norse-1.1",
            dt=1e-3,
            tau_scale=1000.0,
            counts_steps=True,
            cuba_jump=True,
            neurons=("IF", "LIF", "CubaLIF", "LI", "CubaLI"),
            r="one",
        ),
        Profile(
            name="sinabs",
            dt=1.0,
            update="exp",
            gain="norm",
            counts_steps=True,
            compare=">=",
            reset="subtract",
            levels=15,
            neurons=("IF", "LIF", "LI"),
            v_leak="zero",
            r="one",
        ),
        Profile(
            name="rockpool",
            dt=None,
            update="rockpool",
            gain="one",
            compare=">=",
            reset="subtract",
            levels=15,
            neurons=("LIF", "CubaLIF", "LI"),
            v_leak="zero",
            batched=True,
        ),
        Profile(name="lava-dl", dt=1e-4, compare=">=", reset="zero", neurons=("LIF", "CubaLIF", "IF"), v_leak="zero"),
        Profile(name="generic", dt=1e-4),
    )
}
OPTIONS = {
    "dt": "the time step, in the unit of tau",
    "update": "euler or exp",
    "gain": "how a current enters a leaky neuron: euler (r dt/tau), norm (r (1 - leak)), one",
    "compare": "> or >=",
    "reset": "value, zero, subtract or subtract-delayed",
    "levels": "most spikes of one neuron in one step",
    "floor": "lowest potential in units of the threshold, or none",
    "start": "zero or v_reset",
    "recurrent_bias": "yes or no: the bias of a recurrent map acts in the first step",
}
NO_DELAY = (
    "snnTorch's reset_mechanism='subtract' with reset_delay=False is no plain soft reset: the spike is tested on "
    "m - theta*[v > theta] with the potential of the step before, which the soma cannot say; train with the delay"
)


def profile_of(name: str, overrides: Mapping[str, Any] | None = None) -> Profile:
    """The profile `name` with overrides (texts or numbers); InputError lists everything that is wrong with them."""
    if name not in PROFILES:
        raise InputError(f"profile {name!r} is none of {', '.join(PROFILES)}")
    given, bad = dict(overrides or {}), []
    changed: dict[str, Any] = {}
    for key, value in given.items():
        try:
            changed[key] = _OPTION[key](value)
        except KeyError:
            bad.append(f"option {key!r} is none of {', '.join(OPTIONS)}")
        except (TypeError, ValueError):
            bad.append(f"{key}={value!r}: expected {OPTIONS[key]}")
    if name == "snntorch" and changed.get("reset") == "subtract":
        bad.append(NO_DELAY)
    if changed.get("reset") == "zero" and name in ("spikingjelly", "norse", "norse-1.1"):
        bad.append(f"{name} resets to v_reset, which the file holds; leave out reset=zero")
    if bad:
        raise InputError(bad)
    made = attrs.evolve(PROFILES[name], **changed)
    if made.levels > 1 and (made.compare == ">" or made.reset != "subtract"):
        raise InputError(f"levels={made.levels} goes with compare=>= and reset=subtract")
    return made


def _word(words: tuple[str, ...]) -> Any:
    def check(value: Any) -> str:
        if value not in words:
            raise ValueError(value)
        return str(value)

    return check


def _positive(value: Any) -> float:
    number = float(value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(value)
    return number


def _levels(value: Any) -> int:
    number = int(value)
    if not 1 <= number <= 255:
        raise ValueError(value)
    return number


def _floor(value: Any) -> float | None:
    if value in (None, "none"):
        return None
    if not math.isfinite(float(value)):
        raise ValueError(value)
    return float(value)


_OPTION: Mapping[str, Any] = {
    "dt": _positive,
    "update": _word(UPDATES),
    "gain": _word(GAINS),
    "compare": _word(COMPARES),
    "reset": _word(RESETS),
    "levels": _levels,
    "floor": _floor,
    "start": _word(STARTS),
    "recurrent_bias": lambda value: value if isinstance(value, bool) else _word(("yes", "no"))(value) == "yes",
}
