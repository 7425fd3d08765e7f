"""The rules of the integer machine, one small method each, on plain Python integers.

A second witness beside `snn2chip.ir.dynamics`: written again from the contract, one neuron at a time, with
nothing but `int`. Because every rule is one method, a deliberate mistake is a subclass that overrides one of them
(see `snn2chip.testing.faults`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from snn2chip.ir.nodes import Synapse
from snn2chip.ir.soma import Soma

TOP = 2**23 - 1
Index = tuple[int, ...]
FIELDS = ("leak", "gain", "gain_shift", "bias", "levels", "v_init", "v_reset")
PAYLOAD_FIELDS = ("out_gain", "out_shift", "out_min", "out_max")
OPTIONAL = ("theta", "syn_leak", "v_min")


@attrs.define
class Neuron:
    """State of one neuron; `s_prev` is what it sent last (spikes, or the activation whose change was sent)."""

    v: int
    u: int = 0
    s_prev: int = 0


class Rules:
    """One logical step of one neuron, one current of one synapse, one arrival of one payload."""

    # numbers

    def half_up(self, x: int, k: int) -> int:
        """`x / 2^k` rounded to the nearest, halves up."""
        return x if k == 0 else (x + 2 ** (k - 1)) // 2**k

    def toward_zero(self, v: int, factor: int) -> int:
        """`v * factor / 4096` rounded toward zero."""
        size = (abs(v) * abs(factor)) // 4096
        return size if (v < 0) == (factor < 0) else -size

    def wrap(self, x: int) -> int:
        """24-bit two's complement."""
        return (x + 2**23) % 2**24 - 2**23

    def saturate(self, x: int) -> int:
        """±(2^23 - 1)."""
        return max(-TOP, min(TOP, x))

    # parameters

    def entry(self, stored: Any, t: int, index: Index) -> int:
        """Value of a stored parameter at step `t` for the neuron at `index`."""
        row = stored[t if len(stored) > 1 else 0]
        if row.ndim == 1:
            return int(row[index[0] if len(row) > 1 else 0])
        return int(row[index])

    def parameters(self, soma: Soma, t: int, index: Index) -> dict[str, Any]:
        """All parameters of one neuron at one step; a ladder is `rungs`."""
        found: dict[str, Any] = {f: self.entry(getattr(soma, f), t, index) for f in (*FIELDS, *PAYLOAD_FIELDS)}
        for field in OPTIONAL:
            stored = getattr(soma, field)
            plain = stored is not None and not (field == "theta" and soma.ladder)
            found[field] = self.entry(stored, t, index) if plain else None
        if soma.ladder:
            ladder: Any = soma.theta
            found["rungs"] = [self.entry(ladder[k : k + 1], 0, index) for k in range(len(ladder))]
        return found

    # one step

    def start(self, before: Neuron | None, v_init: int) -> Neuron:
        """State at the start of a sample; `before` is how the previous sample ended."""
        return Neuron(v_init)

    def mixed(self, window: Sequence[Sequence[int]], shift: int, currents: Sequence[int], t: int) -> int:
        """Temporal mixing of the currents of a whole sample."""
        return self.half_up(sum(window[t][j] * a for j, a in enumerate(currents)), shift)

    def scaled(self, a: int, p: dict[str, Any], t: int) -> int:
        """The current in units of the potential."""
        return self.half_up(a * p["gain"], p["gain_shift"])

    def synaptic(self, u: int, x: int, p: dict[str, Any]) -> int:
        """The decaying synaptic current."""
        return self.wrap(self.toward_zero(u, p["syn_leak"]) + x)

    def membrane(self, v: int, x: int, p: dict[str, Any], t: int) -> int:
        """The new potential before saturation (and before a delayed subtraction)."""
        return self.toward_zero(v, p["leak"]) + x + p["bias"]

    def delayed(self, neuron: Neuron, p: dict[str, Any]) -> int:
        """What `subtract-delayed` takes off at this step."""
        return int(p["theta"]) * neuron.s_prev

    def spikes(self, soma: Soma, v: int, p: dict[str, Any]) -> int:
        """The emission rule."""
        if soma.fire == "levels":
            return self.rungs_reached(v, p["rungs"], p) if soma.ladder else self.levels_reached(v, p["theta"], p)
        if soma.fire == "excess":
            return self.excess(v, p["theta"])
        if soma.fire == "relay":
            return self.relayed(v)
        return self.looked_up(soma, v) if soma.fire == "table" else 0

    def levels_reached(self, v: int, theta: int, p: dict[str, Any]) -> int:
        """Number of k in 1..levels with v >= k*theta."""
        return sum(v >= k * theta for k in range(1, p["levels"] + 1))

    def rungs_reached(self, v: int, rungs: Sequence[int], p: dict[str, Any]) -> int:
        """Number of ladder thresholds reached, the first `levels` of them."""
        return sum(v >= rung for rung in rungs[: p["levels"]])

    def excess(self, v: int, theta: int) -> int:
        """What is above the threshold."""
        return max(v - theta, 0)

    def relayed(self, v: int) -> int:
        """A relay repeats its potential."""
        return v

    def looked_up(self, soma: Soma, v: int) -> int:
        """Entry of the table."""
        at = (v + soma.table_offset) // 2**soma.table_shift
        return int(soma.table[max(0, min(255, at))])  # type: ignore[index]

    def activation(self, v: int, v_min: int) -> int:
        """What a delta code follows: the potential above its floor."""
        return max(v, v_min)

    def change(self, v: int, sent: int) -> int:
        """How far the activation is from the one that was last sent."""
        return v - sent

    def changed(self, d: int, theta: int) -> bool:
        """Whether a change is worth sending."""
        return abs(d) >= theta

    def sent_change(self, d: int, shift: int) -> int:
        """A change as it is sent: floored to multiples of `2^shift`."""
        return d // 2**shift

    def remembered(self, neuron: Neuron, v: int, s: int, shift: int) -> int:
        """What a neuron that has sent the change `s` takes for known."""
        return v

    def reset(self, soma: Soma, v: int, s: int, p: dict[str, Any]) -> int:
        """The potential after the reset rule."""
        if soma.fire == "none" or soma.reset in ("subtract-delayed", "keep"):
            return v
        if soma.reset == "drop":
            return 0
        if soma.reset == "clamp":
            return min(v, int(p["theta"]))
        if soma.reset == "subtract":
            return v - s * int(p["theta"])
        return (0 if soma.reset == "zero" else int(p["v_reset"])) if s > 0 else v

    def floored(self, v: int, v_min: int) -> int:
        """The floor of the potential after reset."""
        return max(v, v_min)

    def payload(self, s: int, p: dict[str, Any]) -> int:
        """Scaled and clipped to the declared range."""
        return max(p["out_min"], min(p["out_max"], self.half_up(s * p["out_gain"], p["out_shift"])))

    # synapses

    def weight(self, synapse: Synapse, value: int) -> int:
        """A stored weight as it acts."""
        return value

    def tap(self, y: int, i: int, stride: int, padding: int, dilation: int) -> int:
        """Source position that output position `y` reads through kernel position `i`."""
        return y * stride - padding + i * dilation

    def kernel_at(self, synapse: Synapse, i: int, j: int) -> tuple[int, int]:
        """Kernel entry used at offsets (i, j): a cross-correlation."""
        return i, j

    def first_channel(self, out_channel: int, out_channels: int, groups: int, per_group: int) -> int:
        """First source channel of the group that `out_channel` belongs to."""
        return out_channel // (out_channels // groups) * per_group

    def inside(self, y: int, x: int, height: int, width: int) -> tuple[int, int] | None:
        """The source position, or None where the padding is (which is zero)."""
        return (y, x) if 0 <= y < height and 0 <= x < width else None

    def per_channel(self, weight: Any, index: Index) -> int:
        """Weight of an identity or sum-pool synapse at a source position."""
        if weight.ndim == 0 or weight.size == 1:
            return int(weight.ravel()[0])
        return int(weight[index[0]] if weight.ndim == 1 else weight[index])

    def shifted(self, total: int, exponent: int) -> int:
        """The weight exponent."""
        return int(total * 2**exponent)

    def connections(
        self, synapse: Synapse, source: Index, target: Index
    ) -> Iterator[tuple[Index, list[tuple[Index, int]]]]:
        """For every output index the source indices it reads and their weights."""
        from itertools import product as cross

        for out in cross(*map(range, target)):
            yield out, [(at, self.weight(synapse, w)) for at, w in self._reads(synapse, source, out, target)]

    def _reads(self, synapse: Synapse, source: Index, out: Index, target: Index) -> Iterator[tuple[Index, int]]:
        if synapse.kind == "identity":
            yield out, self.per_channel(synapse.weight, out)
        elif synapse.kind == "linear":
            place = 0
            for index, size in zip(out, target, strict=True):
                place = place * size + index
            row = synapse.dense()[place]
            for n, at in enumerate(_indices(source)):
                if row[n]:
                    yield at, int(row[n])
        else:
            yield from self._conv_reads(synapse, source, out, target)

    def _conv_reads(self, s: Synapse, source: Index, out: Index, target: Index) -> Iterator[tuple[Index, int]]:
        channel, y, x = out
        pool = s.kind == "sumpool"
        per_group = 1 if pool else s.weight.shape[1]
        first = channel if pool else self.first_channel(channel, target[0], s.groups, per_group)
        for i in range(s.kernel_size[0]):
            for j in range(s.kernel_size[1]):
                row = self.tap(y, i, s.stride[0], s.padding[0], s.dilation[0])
                col = self.tap(x, j, s.stride[1], s.padding[1], s.dilation[1])
                at = self.inside(row, col, source[1], source[2])
                if at is None:
                    continue
                for k in range(per_group):
                    index = (first + k, *at)
                    if pool:
                        yield index, self.per_channel(s.weight, index)
                    else:
                        a, b = self.kernel_at(s, i, j)
                        yield index, int(s.weight[channel, k, a, b])

    def multiplied(self, p: int, q: int, shift: int) -> int:
        """The current of a product."""
        return self.half_up(p * q, shift)

    def gate_index(self, index: Index, shape: Index, gate: Index) -> Index:
        """Where a factor of shape `gate` is read for a neuron at `index` of `shape`."""
        return index if gate == shape else (index[0], *(0,) * (len(gate) - 1))

    # time

    def arrives(self, sample: int, t: int, delay: int, steps: int) -> tuple[int, int] | None:
        """(sample, step) whose payload arrives at step `t` over an edge with `delay`; None: nothing yet."""
        return (sample, t - delay) if t >= delay else None


def _indices(shape: Index) -> Iterator[Index]:
    from itertools import product as cross

    return cross(*map(range, shape))
