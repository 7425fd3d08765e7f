"""Deliberate mistakes: each is `Rules` with one rule done wrong, the way people get it wrong.

A test suite that lets one of these pass is not a test suite. `FAULTS[name]` is a subclass of `Rules`;
`Witness(FAULTS[name]())` is a backend with that mistake. `MACHINE_FAULTS` are mistakes in machine time
(skews, buffers, sample boundaries), backends of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from snn2chip.ir.nodes import Synapse
from snn2chip.ir.program import Edge
from snn2chip.ir.soma import Soma
from snn2chip.testing.machine import Machine, Moment
from snn2chip.testing.rules import TOP, Index, Neuron, Rules

FAULTS: dict[str, type[Rules]] = {}
MACHINE_FAULTS: dict[str, type[Machine]] = {}


def _fault(cls: type[Rules]) -> type[Rules]:
    FAULTS[cls.__name__] = cls
    return cls


def _replace(method: str, name: str, wrong: Callable[..., Any], doc: str) -> None:
    """Register a fault that replaces one method; `wrong(right, *arguments)` also gets the right rule."""

    def call(self: Rules, *arguments: Any) -> Any:
        return wrong(getattr(super(cls, self), method), *arguments)

    cls: type[Rules] = type(name, (Rules,), {method: call, "__doc__": doc})
    FAULTS[name] = cls


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


@_fault
class TableUnclipped(Rules):
    """A table index below 0 wraps around."""

    def looked_up(self, soma: Soma, v: int) -> int:
        at = (v + soma.table_offset) >> soma.table_shift
        return int(soma.table[min(255, at) % 256])  # type: ignore[index]


@_fault
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


@_fault
class FloorBeforeReset(Rules):
    """v_min is applied before the reset (and not after)."""

    def reset(self, soma: Soma, v: int, s: int, p: dict[str, Any]) -> int:
        return super().reset(soma, v if p["v_min"] is None else max(v, p["v_min"]), s, p)

    def floored(self, v: int, v_min: int) -> int:
        return v


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

# parameters


@_fault
class ChannelsSwapped(Rules):
    """Per-channel parameters are read in reverse order."""

    def entry(self, stored: Any, t: int, index: Index) -> int:
        return super().entry(stored, t, (stored.shape[1] - 1 - index[0], *index[1:]) if stored.shape[1] > 1 else index)


@_fault
class StepsLate(Rules):
    """A table of per-step values is read one step late."""

    def entry(self, stored: Any, t: int, index: Index) -> int:
        return super().entry(stored, max(t - 1, 0), index)


@_fault
class StepsFrozen(Rules):
    """Only the first of the per-step values is used."""

    def entry(self, stored: Any, t: int, index: Index) -> int:
        return super().entry(stored, 0, index)


@_fault
class NeuronsAsChannels(Rules):
    """Per-neuron values are read at the channel's first neuron."""

    def entry(self, stored: Any, t: int, index: Index) -> int:
        return super().entry(stored, t, (index[0], *(0,) * (len(index) - 1)))


# windows

_replace(
    "mixed",
    "WindowTransposed",
    lambda right, window, shift, currents, t: right(list(zip(*window, strict=True)), shift, currents, t),
    "The window is read transposed.",
)
_replace("mixed", "WindowShiftIgnored", lambda right, window, shift, a, t: right(window, 0, a, t), "No shift.")


@_fault
class WindowCausal(Rules):
    """A step sees only the currents up to itself."""

    def mixed(self, window: Sequence[Sequence[int]], shift: int, currents: Sequence[int], t: int) -> int:
        return super().mixed(window, shift, [a if j <= t else 0 for j, a in enumerate(currents)], t)


# synapses

_replace("shifted", "ExponentIgnored", lambda right, total, exponent: total, "The weight exponent is ignored.")
_replace("kernel_at", "KernelFlipped", lambda right, s, i, j: (s.kernel_size[0] - 1 - i, s.kernel_size[1] - 1 - j), "")
_replace("tap", "StrideDilationSwapped", lambda right, y, i, s, p, d: right(y, i, d, p, s), "Swapped.")
_replace("tap", "PaddingIgnored", lambda right, y, i, s, p, d: right(y, i, s, 0, d), "No padding on the near side.")
_replace("tap", "DilationIgnored", lambda right, y, i, s, p, d: right(y, i, s, p, 1), "Dilation is ignored.")
_replace(
    "inside",
    "PaddingRepeatsEdge",
    lambda right, y, x, h, w: (max(0, min(h - 1, y)), max(0, min(w - 1, x))),
    "Padding repeats the border.",
)
_replace("inside", "PaddingWraps", lambda right, y, x, h, w: (y % h, x % w), "Padding wraps around.")
_replace(
    "first_channel",
    "GroupsInterleaved",
    lambda right, c, cout, groups, per_group: c % groups * per_group,
    "Output channels take their groups in turns.",
)
_replace(
    "per_channel",
    "ChannelWeightShared",
    lambda right, weight, index: right(weight, (0,) * len(index)),
    "All channels use the first channel's weight.",
)


@_fault
class KernelTransposed(Rules):
    """Height and width of the kernel are confused where both exist."""

    def kernel_at(self, synapse: Synapse, i: int, j: int) -> tuple[int, int]:
        height, width = synapse.kernel_size
        return (j, i) if j < height and i < width else (i, j)


@_fault
class ExcitatorySigned(Rules):
    """An unsigned 8-bit weight is read as two's complement."""

    def weight(self, synapse: Synapse, value: int) -> int:
        return value - 256 if synapse.sign == "excitatory" and value > 127 else value


@_fault
class OddWeightsTruncated(Rules):
    """Mixed weights lose their lowest bit (what an 8-bit chip format with a sign does)."""

    def weight(self, synapse: Synapse, value: int) -> int:
        return value & ~1 if synapse.sign == "mixed" and synapse.kind == "linear" else value


_replace("multiplied", "ProductShiftFloors", lambda right, p, q, shift: (p * q) >> shift, "A product floors.")
_replace("multiplied", "ProductShiftIgnored", lambda right, p, q, shift: p * q, "The product's shift is ignored.")
_replace("multiplied", "ProductAdds", lambda right, p, q, shift: right(p + q, 1, shift), "Adds instead of multiplying.")
_replace(
    "gate_index",
    "GateFirstChannel",
    lambda right, index, shape, gate: right((0, *index[1:]), shape, gate) if gate != shape else index,
    "A gate uses the first channel's factor everywhere.",
)

# time and samples


@_fault
class DelayLonger(Rules):
    """Delayed payloads arrive one step late."""

    def arrives(self, sample: int, t: int, delay: int, steps: int) -> tuple[int, int] | None:
        return super().arrives(sample, t, delay + (delay > 0), steps)


@_fault
class DelayCrossesSamples(Rules):
    """Payloads of the previous sample arrive in this one."""

    def arrives(self, sample: int, t: int, delay: int, steps: int) -> tuple[int, int] | None:
        at = divmod(sample * steps + t - delay, steps)
        return at if at[0] >= 0 else None


@_fault
class StateLeaks(Rules):
    """The potential is not re-initialised between samples."""

    def start(self, before: Neuron | None, v_init: int) -> Neuron:
        return Neuron(v_init) if before is None else attrs.evolve(before, u=0, s_prev=0)


@_fault
class SynapticStateLeaks(Rules):
    """The synaptic current is not re-initialised between samples."""

    def start(self, before: Neuron | None, v_init: int) -> Neuron:
        return Neuron(v_init, u=0 if before is None else before.u)


@_fault
class LastSpikeLeaks(Rules):
    """The last spike of a sample is subtracted in the next one."""

    def start(self, before: Neuron | None, v_init: int) -> Neuron:
        return Neuron(v_init, s_prev=0 if before is None else before.s_prev)


@_fault
class StartsAtZero(Rules):
    """v_init is ignored."""

    def start(self, before: Neuron | None, v_init: int) -> Neuron:
        return Neuron(0)


# machine time


def _machine_fault(cls: type[Machine]) -> type[Machine]:
    MACHINE_FAULTS[cls.__name__] = cls
    return cls


@_machine_fault
class HopsCostNothing(Machine):
    """Payloads arrive in the machine step in which they are sent."""

    def reads_at(self, edge: Edge, dst: str, m: int) -> int:
        return super().reads_at(edge, dst, m) + 1


@_machine_fault
class SkewOffByOne(Machine):
    """Payloads arrive one machine step late."""

    def reads_at(self, edge: Edge, dst: str, m: int) -> int:
        return super().reads_at(edge, dst, m) - 1


@_machine_fault
class BuffersMissing(Machine):
    """Paths of different length are not balanced."""

    def reads_at(self, edge: Edge, dst: str, m: int) -> int:
        return m - 1


@_machine_fault
class StaleMessages(Machine):
    """Messages of another sample are not discarded."""

    def keeps(self, message_sample: int, sample: int) -> bool:
        return True


@_machine_fault
class StartsOneStepLate(Machine):
    """The state is re-initialised one step after the sample's first."""

    def starts(self, at: Moment) -> bool:
        return at[1] == 1


@_machine_fault
class NeverRestarts(Machine):
    """The state is initialised once, before the first sample."""

    def starts(self, at: Moment) -> bool:
        return False


@_machine_fault
class BankNotSwapped(Machine):
    """A windowed soma keeps mixing the currents of the first sample."""

    def mixed(self, soma: Soma, at: Moment) -> dict[Index, int]:
        return super().mixed(soma, (0, at[1]))
