"""Deliberate mistakes around the neuron: parameters, windows, synapses, products, delays, samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from snn2chip.ir.nodes import Synapse
from snn2chip.testing.fault_tools import Faults
from snn2chip.testing.rules import Index, Neuron, Rules

_faults = Faults()
_replace = _faults.replace
WIRING_FAULTS = _faults.found

# parameters


@_faults.add
class ChannelsSwapped(Rules):
    """Per-channel parameters are read in reverse order."""

    def entry(self, stored: Any, t: int, index: Index) -> int:
        return super().entry(stored, t, (stored.shape[1] - 1 - index[0], *index[1:]) if stored.shape[1] > 1 else index)


@_faults.add
class StepsLate(Rules):
    """A table of per-step values is read one step late."""

    def entry(self, stored: Any, t: int, index: Index) -> int:
        return super().entry(stored, max(t - 1, 0), index)


@_faults.add
class StepsFrozen(Rules):
    """Only the first of the per-step values is used."""

    def entry(self, stored: Any, t: int, index: Index) -> int:
        return super().entry(stored, 0, index)


@_faults.add
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


@_faults.add
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


@_faults.add
class KernelTransposed(Rules):
    """Height and width of the kernel are confused where both exist."""

    def kernel_at(self, synapse: Synapse, i: int, j: int) -> tuple[int, int]:
        height, width = synapse.kernel_size
        return (j, i) if j < height and i < width else (i, j)


@_faults.add
class ExcitatorySigned(Rules):
    """An unsigned 8-bit weight is read as two's complement."""

    def weight(self, synapse: Synapse, value: int) -> int:
        return value - 256 if synapse.sign == "excitatory" and value > 127 else value


@_faults.add
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


@_faults.add
class DelayLonger(Rules):
    """Delayed payloads arrive one step late."""

    def arrives(self, sample: int, t: int, delay: int, steps: int) -> tuple[int, int] | None:
        return super().arrives(sample, t, delay + (delay > 0), steps)


@_faults.add
class DelayCrossesSamples(Rules):
    """Payloads of the previous sample arrive in this one."""

    def arrives(self, sample: int, t: int, delay: int, steps: int) -> tuple[int, int] | None:
        at = divmod(sample * steps + t - delay, steps)
        return at if at[0] >= 0 else None


@_faults.add
class StateLeaks(Rules):
    """The potential is not re-initialised between samples."""

    def start(self, before: Neuron | None, v_init: int) -> Neuron:
        return Neuron(v_init) if before is None else attrs.evolve(before, u=0, s_prev=0)


@_faults.add
class SynapticStateLeaks(Rules):
    """The synaptic current is not re-initialised between samples."""

    def start(self, before: Neuron | None, v_init: int) -> Neuron:
        return Neuron(v_init, u=0 if before is None else before.u)


@_faults.add
class LastSpikeLeaks(Rules):
    """The last spike of a sample is subtracted in the next one."""

    def start(self, before: Neuron | None, v_init: int) -> Neuron:
        return Neuron(v_init, s_prev=0 if before is None else before.s_prev)


@_faults.add
class StartsAtZero(Rules):
    """v_init is ignored."""

    def start(self, before: Neuron | None, v_init: int) -> Neuron:
        return Neuron(0)
