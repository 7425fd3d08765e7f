"""Deliberate mistakes inside one neuron: rounding, registers, firing, reset, integration, payload."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from snn2chip.ir.soma import Soma
from snn2chip.testing.fault_tools import Faults
from snn2chip.testing.rules import TOP, Neuron, Rules

_faults = Faults()
_replace = _faults.replace
NEURON_FAULTS = _faults.found

# rounding and registers


def _floor(right: Any, v: int, factor: int) -> int:
    return (v * factor) // 4096


def _nearest(right: Any, v: int, factor: int) -> int:
    return (v * factor + 2048) // 4096


def _away_from_zero(right: Any, x: int, k: int) -> int:
    size: int = right(abs(x), k)
    return size if x >= 0 else -size


_replace("toward_zero", "LeakFloors", _floor, "Leaks floor instead of truncating.")
_replace("toward_zero", "LeakRounds", _nearest, "Leaks round to the nearest.")
_replace("half_up", "ShiftFloors", lambda right, x, k: x >> k, "Right shifts floor.")
_replace("half_up", "ShiftRoundsSymmetric", _away_from_zero, "Right shifts round halves away from zero.")
_replace("saturate", "PotentialWraps", lambda right, x: Rules().wrap(x), "The potential wraps instead of saturating.")
_replace("saturate", "PotentialUnbounded", lambda right, x: x, "The potential never saturates.")
_replace("saturate", "SaturatesToTwosComplement", lambda right, x: max(-TOP - 1, min(TOP, x)), "Floor at -2^23.")
_replace("wrap", "CurrentSaturates", lambda right, x: max(-TOP - 1, min(TOP, x)), "The synaptic current saturates.")
_replace("wrap", "CurrentUnbounded", lambda right, x: x, "The synaptic current never wraps.")

# firing

_replace(
    "levels_reached",
    "CompareStrict",
    lambda right, v, theta, p: sum(v > k * theta for k in range(1, p["levels"] + 1)),
    "A tie does not fire.",
)
_replace("levels_reached", "LevelsUncapped", lambda right, v, theta, p: max(v // theta, 0) if theta else 0, "No cap.")
_replace("levels_reached", "LevelsBinary", lambda right, v, theta, p: int(v >= theta), "At most one spike.")
_replace(
    "rungs_reached",
    "LadderStrict",
    lambda right, v, rungs, p: sum(v > rung for rung in rungs[: p["levels"]]),
    "A tie with a ladder threshold does not fire.",
)
_replace(
    "rungs_reached",
    "LadderAsMultiples",
    lambda right, v, rungs, p: sum(v >= k * rungs[0] for k in range(1, p["levels"] + 1)),
    "A ladder is read as multiples of its first threshold.",
)
_replace("excess", "ExcessNotRectified", lambda right, v, theta: v - theta, "Excess may be negative.")
_replace("excess", "ExcessWhole", lambda right, v, theta: v if v > theta else 0, "Sends v instead of v - theta.")
_replace("relayed", "RelayRectifies", lambda right, v: max(v, 0), "A relay drops negative values.")


@_faults.add
class TableUnclipped(Rules):
    """A table index below 0 wraps around."""

    def looked_up(self, soma: Soma, v: int) -> int:
        at = (v + soma.table_offset) >> soma.table_shift
        return int(soma.table[min(255, at) % 256])  # type: ignore[index]


@_faults.add
class TableRoundsIndex(Rules):
    """The table index is rounded, not floored."""

    def looked_up(self, soma: Soma, v: int) -> int:
        at = self.half_up(v + soma.table_offset, soma.table_shift)
        return int(soma.table[max(0, min(255, at))])  # type: ignore[index]


# reset


def _reset_fault(name: str, reset: str, wrong: Callable[[int, int, dict[str, Any]], int], doc: str) -> None:
    def call(right: Any, soma: Soma, v: int, s: int, p: dict[str, Any]) -> int:
        return wrong(v, s, p) if soma.reset == reset and soma.fire != "none" else int(right(soma, v, s, p))

    _replace("reset", name, call, doc)


_reset_fault("ResetMissing", "subtract", lambda v, s, p: v, "No reset by subtraction.")
_reset_fault("SubtractsOnce", "subtract", lambda v, s, p: v - (s > 0) * p["theta"], "Subtracts one theta for s spikes.")
_reset_fault("SubtractIsZero", "subtract", lambda v, s, p: 0 if s else v, "Hard reset instead of soft reset.")
_reset_fault(
    "SubtractsPayload", "subtract", lambda v, s, p: v - Rules().payload(s, p) * p["theta"], "Uses the payload."
)
_reset_fault("ZeroAlways", "zero", lambda v, s, p: 0, "Resets without a spike.")
_reset_fault("ZeroIsSubtract", "zero", lambda v, s, p: v - s * (p["theta"] or 0), "Soft reset instead of hard reset.")
_reset_fault("ValueIsZero", "value", lambda v, s, p: 0 if s else v, "Resets to 0 instead of v_reset.")
_reset_fault("ValueAdds", "value", lambda v, s, p: v + p["v_reset"] if s else v, "Adds v_reset.")
_reset_fault("ClampMissing", "clamp", lambda v, s, p: v, "The potential is not clamped.")
_reset_fault("ClampOffByOne", "clamp", lambda v, s, p: min(v, p["theta"] - 1), "Clamps below the threshold.")
_reset_fault("DropKeeps", "drop", lambda v, s, p: v, "A stateless soma keeps its potential.")
_reset_fault("DelayedAtOnce", "subtract-delayed", lambda v, s, p: v - s * p["theta"], "Also subtracts at once.")
_replace("delayed", "DelayedForgotten", lambda right, n, p: 0, "The delayed subtraction never comes.")
_replace("delayed", "DelayedOnce", lambda right, n, p: p["theta"] * (n.s_prev > 0), "One theta for s delayed spikes.")
_replace("floored", "FloorMissing", lambda right, v, v_min: v, "v_min is ignored.")
_replace("floored", "FloorAtZero", lambda right, v, v_min: max(v, 0), "Potentials never go below 0.")


@_faults.add
class FloorBeforeReset(Rules):
    """v_min is applied before the reset (and not after)."""

    def reset(self, soma: Soma, v: int, s: int, p: dict[str, Any]) -> int:
        return super().reset(soma, v if p["v_min"] is None else max(v, p["v_min"]), s, p)

    def floored(self, v: int, v_min: int) -> int:
        return v


# changes

_replace("changed", "ChangeStrict", lambda right, d, theta: abs(d) > theta, "A change of exactly theta is not sent.")
_replace("changed", "ChangeOneSided", lambda right, d, theta: d >= theta, "Only what grows is sent.")
_replace("changed", "ChangeAlways", lambda right, d, theta: d != 0, "Small changes are sent too.")
_replace("sent_change", "ChangeRounds", lambda right, d, shift: Rules().half_up(d, shift), "Changes are rounded.")
_replace("sent_change", "ChangeTowardZero", lambda right, d, shift: int(d / 2**shift), "Changes are truncated.")
_replace("sent_change", "ChangeUnshifted", lambda right, d, shift: d, "delta_shift is ignored.")
_replace("remembered", "ChangeSummed", lambda right, n, v, s, k: n.s_prev + s * 2**k, "Floored bits are sent later.")
_replace("remembered", "ChangeFromNothing", lambda right, n, v, s, k: 0, "What was sent is forgotten.")
_replace("activation", "ChangeBeforeFloor", lambda right, v, v_min: v, "The floor acts after the change is taken.")
_replace("change", "ChangeUnknown", lambda right, v, sent: v, "The activation is sent, not its change.")


@_faults.add
class ChangeAcrossSamples(Rules):
    """What was sent in one sample is still known in the next."""

    def start(self, before: Neuron | None, v_init: int) -> Neuron:
        return Neuron(v_init, s_prev=0 if before is None else before.s_prev)


# the current and the potential

_replace("membrane", "BiasSkippedFirst", lambda right, v, x, p, t: right(v, x, p, t) - (t == 0) * p["bias"], "t = 0.")
_replace("membrane", "BiasOnce", lambda right, v, x, p, t: right(v, x, p, t) - (t > 0) * p["bias"], "Only at t = 0.")
_replace(
    "membrane",
    "LeakAfterInput",
    lambda right, v, x, p, t: Rules().toward_zero(v + x + p["bias"], p["leak"]),
    "The new input leaks too.",
)
_replace("scaled", "GainAfterShift", lambda right, a, p, t: Rules().half_up(a, p["gain_shift"]) * p["gain"], "Order.")
_replace("scaled", "GainShiftIgnored", lambda right, a, p, t: a * p["gain"], "gain_shift is ignored.")
_replace(
    "synaptic",
    "SynapticDecayLate",
    lambda right, u, x, p: Rules().wrap(Rules().toward_zero(u + x, p["syn_leak"])),
    "The synaptic current decays after the input.",
)
_replace("synaptic", "SynapticFloors", lambda right, u, x, p: Rules().wrap(u * p["syn_leak"] // 4096 + x), "Floors.")

# payload


def _clip_first(right: Any, s: int, p: dict[str, Any]) -> int:
    clipped = max(p["out_min"], min(p["out_max"], s))
    return Rules().half_up(clipped * p["out_gain"], p["out_shift"])


_replace(
    "payload",
    "ClipMissing",
    lambda right, s, p: Rules().half_up(s * p["out_gain"], p["out_shift"]),
    "The payload is not clipped.",
)
_replace("payload", "ClipBeforeShift", _clip_first, "The payload is clipped before it is scaled.")
_replace(
    "payload",
    "OutShiftFloors",
    lambda right, s, p: max(p["out_min"], min(p["out_max"], (s * p["out_gain"]) >> p["out_shift"])),
    "Payload scaling floors.",
)
_replace("payload", "NegativesLost", lambda right, s, p: max(0, right(s, p)), "out_min is taken as 0.")
_replace("payload", "GainIgnored", lambda right, s, p: right(s, {**p, "out_gain": 1}), "out_gain is ignored.")
