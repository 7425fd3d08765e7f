"""T steps become one graded step where every neuron only needs the sum of its currents."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import numpy as np

from snn2chip.analysis.ranges import program_ranges
from snn2chip.errors import UnsupportedError
from snn2chip.ir.nodes import Host, Input, Node, Output, Product, Synapse, describe
from snn2chip.ir.program import Program
from snn2chip.ir.soma import PER_STEP, Soma
from snn2chip.ir.types import LEAK_ONE, NEVER, V_MAX, IntArray
from snn2chip.transforms.base import Transform, constant, rebuilt, rows


@attrs.frozen(kw_only=True)
class FuseTime(Transform):
    """Collapse the T steps of a sample into one graded step; the payload of a soma becomes the sum of its T payloads.

    With an all-equal window of entries c every step sees x = c * sum_j a(j), so that (methods.md P2.3, P2.4, P2.9)

        sum_t s(t) = clip(floor((v_init + T*(x + bias))/theta), 0, T*levels)       reset subtract, leak 1
        sum_t s(t) = #{(t, k): x + bias(t) >= k*theta(t)}  as a sorted ladder      reset drop (P4.6)

    The same holds without a window where the current is the same at every step (a repeated frame through synapses).
    Read-outs add up; relays may only pass whole sums (no rounding, no clipping). Raises UnsupportedError naming every
    node that needs single steps, with the reason.
    """

    name: ClassVar[str] = "fuse-time"
    keeps: ClassVar[str] = (
        "the sum of every soma's payloads over the steps, the final potential of read-outs, and every output"
    )

    def run(self, program: Program) -> Program:
        """Return the program of one step; unchanged where it has one step already."""
        if program.steps == 1:
            return program
        work = _Work(program)
        nodes = [work.fused(node) for node in program.nodes]
        if work.bad:
            raise UnsupportedError(work.bad)
        return rebuilt(program, nodes, program.edges, by=self.name, steps=1)


class _Work:
    def __init__(self, program: Program) -> None:
        self.program, self.steps = program, program.steps
        self.bad: list[str] = []
        self.ranges = {name: found.mixed.bounds for name, found in program_ranges(program).items()}
        self.repeats = _repeating(program)

    def stop(self, node: Node, text: str) -> Node:
        self.bad.append(f"{describe(node)}: {text}")
        return node

    def fused(self, node: Node) -> Node:
        if isinstance(node, (Input, Host)):
            single = node.coding == "repeat"
            return node if single else self.stop(node, f"coding={node.coding!r} gives every step its own payload")
        if isinstance(node, Product):
            return self.stop(node, "a product of two sums is not the sum of the products")
        if isinstance(node, Output) and node.read == "count":
            (source,) = self.program.sources(node.name)
            if not isinstance(source, Soma) or source.payload_type().hi > 1:
                return self.stop(node, "counts steps with a graded spike; read the payload instead")
            return attrs.evolve(node, read="payload")
        if isinstance(node, Synapse):
            delayed = any(e.delay for e in self.program.into[node.name])
            return self.stop(node, "its payload arrives in a later step (delay)") if delayed else node
        return self.soma(node) if isinstance(node, Soma) else node

    def soma(self, soma: Soma) -> Node:
        """The soma of one step, or the reason why there is none."""
        mixed = {e.src in self.repeats for e in self.program.into[soma.name]}
        if len(mixed) > 1:
            return self.stop(soma, "adds a current that repeats to one that does not")
        if soma.syn_leak is not None or soma.reset == "subtract-delayed":
            return self.stop(soma, "has state besides its potential")
        if soma.window is not None and (soma.window != soma.window[0, 0]).any():
            return self.stop(soma, "its window mixes the steps unevenly")
        if soma.fire == "none":
            return self.readout(soma)
        if soma.fire == "relay":
            return self.relay(soma)
        if soma.name not in self.repeats and soma.window is None:
            return self.stop(soma, "sees a different current at every step (no all-equal window)")
        if soma.fire != "levels":
            return self.stop(soma, f"fire={soma.fire!r} is not a count of levels")
        if soma.out_shift.any() or (soma.out_gain != 1).any() or (soma.out_max < soma.levels).any():
            return self.stop(soma, "its payload is scaled (out_gain, out_shift, out_max) at every step")
        return self.ladder(soma) if soma.reset == "drop" else self.levels(soma)

    def current(self, soma: Soma) -> tuple[IntArray, dict[str, Any]]:
        """Factor between the fused current and x of one step, and the fields every fused soma shares.

        The fused current adds up the payloads: with a window x = c * sum, of a repeating source x = sum (c = 1
        without a window, c * T with one).
        """
        factor = np.int64(1) if soma.window is None else soma.window[0, 0]
        if soma.window is not None and soma.name in self.repeats:
            factor = factor * self.steps
        return np.asarray(factor), {"window": None, "window_shift": 0, "v_min": None}

    def levels(self, soma: Soma) -> Node:
        """`clip(floor((v_init + T*(x + bias))/theta), 0, T*levels)`, as one step with reset drop."""
        steps = self.steps
        assert soma.theta is not None
        if soma.reset != "subtract":
            return self.stop(soma, f"reset={soma.reset!r} forgets what is left over")
        fields = [f for f in PER_STEP if f not in ("v_reset", "v_min") and not constant(getattr(soma, f))]
        if fields:
            return self.stop(soma, f"{', '.join(fields)} changes from step to step")
        if (soma.leak != LEAK_ONE).any():
            return self.stop(soma, "its potential leaks from step to step")
        if soma.v_min is not None and (soma.v_min > 0).any():
            return self.stop(soma, "has a floor above 0")
        start, theta, levels = even(soma, soma.v_init, soma.theta, soma.levels)
        if (start < 0).any() or (start >= theta).any():
            return self.stop(soma, "starts outside [0, theta)")
        if ((theta < NEVER) & (levels * steps * theta > V_MAX)).any():
            return self.stop(soma, f"{steps} steps of {int(soma.levels.max())} levels exceed the register")
        factor, shared = self.current(soma)
        scale = self.scaled(soma, factor * steps)
        bias, start = even(soma, soma.bias[:1] * steps, soma.v_init)
        bias = bias + start
        if scale is None or not self.fits(soma, "bias", bias, V_MAX):
            return soma
        top = soma.levels * steps
        shared |= {"gain": scale, "gain_shift": 0, "bias": bias, "v_init": 0, "theta": soma.theta[:1]}
        return attrs.evolve(soma, **shared, reset="drop", levels=top, out_max=top, out_min=0, ladder=False)

    def ladder(self, soma: Soma) -> Node:
        """The sorted thresholds of all steps and levels as one ladder."""
        assert soma.theta is not None
        if not constant(soma.gain) or (soma.levels != soma.levels.max()).any():
            return self.stop(soma, "gain per step or levels per channel with reset='drop'")
        factor, shared = self.current(soma)
        bars = np.concatenate([soma.theta] * self.steps) if soma.ladder else self.multiples(soma)
        bias = rows(soma.bias, self.steps)
        bars, bias = even(soma, bars, bias)
        n = int(soma.levels.max())
        never, always = bars > V_MAX, bars <= -V_MAX
        bars = bars - np.repeat(bias, n, axis=0)
        never, always = np.broadcast_to(never, bars.shape), np.broadcast_to(always, bars.shape)
        scale = self.scaled(soma, factor)
        if scale is None or not self.fits(soma, "a threshold", np.where(never | always, 0, bars), V_MAX):
            return soma
        bars = np.sort(np.where(never, NEVER, np.where(always, -V_MAX - 1, bars)), axis=0)
        top = bars.shape[0]
        shared |= {"gain": scale, "gain_shift": 0, "bias": 0, "theta": bars}
        return attrs.evolve(soma, **shared, levels=top, out_max=top, out_min=0, ladder=True)

    def multiples(self, soma: Soma) -> IntArray:
        """`k*theta(t)` for every step and level, `[T*levels, C or 1]`; `never` stays never."""
        assert soma.theta is not None
        n = int(soma.levels.max())
        own = np.repeat(rows(soma.theta, self.steps), n, axis=0)
        k = np.tile(np.arange(1, n + 1), self.steps).reshape(-1, *(1,) * (own.ndim - 1))
        return np.asarray(np.where(own >= NEVER, NEVER, own * k))

    def readout(self, soma: Soma) -> Node:
        """The potential of a read-out is the sum of its currents."""
        changing = [f for f in ("gain", "leak") if not constant(getattr(soma, f))]
        if changing or (soma.leak != LEAK_ONE).any() or soma.v_min is not None:
            return self.stop(soma, "a read-out with a leak, a floor or a gain per step weighs the steps")
        factor, shared = self.current(soma)
        repeated = soma.window is not None or soma.name in self.repeats
        scale = self.scaled(soma, factor * (self.steps if repeated else 1))
        bias = rows(soma.bias, self.steps).sum(0, keepdims=True)
        if scale is None or not self.fits(soma, "bias", bias, V_MAX) or not self.unsaturated(soma, repeated):
            return soma
        return attrs.evolve(soma, **shared, gain=scale, gain_shift=0, bias=bias, theta=None)

    def relay(self, soma: Soma) -> Node:
        """A relay passes the sum on if it neither rounds nor clips."""
        if not all(constant(getattr(soma, f)) for f in ("gain", "bias")) or soma.v_min is not None:
            return self.stop(soma, "a relay with a floor, or parameters per step")
        factor, shared = self.current(soma)
        repeated = soma.window is not None or soma.name in self.repeats
        if soma.out_shift.any() or soma.gain_shift.any():
            return self.stop(soma, "a relay that rounds at every step (out_shift, gain_shift)")
        found = program_ranges(self.program)[soma.name]
        sent = found.before.times(soma.spread(soma.out_gain[0]))
        low_end, high_end = soma.spread(soma.out_min[0]), soma.spread(soma.out_max[0])
        if found.saturates or (sent.lo < low_end).any() or (sent.hi > high_end).any():
            return self.stop(soma, "a relay that may clip at a step")
        scale = self.scaled(soma, factor * (self.steps if repeated else 1))
        low, top = (self.steps * end for end in sent.bounds)
        if scale is None or not self.fits(soma, "payload", np.asarray([low, top]), V_MAX):
            return soma
        bias = rows(soma.bias, self.steps).sum(0, keepdims=True)
        return attrs.evolve(soma, **shared, gain=scale, bias=bias, out_min=min(low, 0), out_max=max(top, 1))

    def scaled(self, soma: Soma, factor: IntArray) -> IntArray | None:
        """`gain * factor` as a 16-bit gain; None, with the reason noted, if rounding or width forbid it."""
        if soma.gain_shift.any() or (soma.window is not None and soma.window_shift):
            self.stop(soma, "its current is rounded at every step (gain_shift, window_shift)")
            return None
        gain = soma.gain[:1] * factor
        return gain if self.fits(soma, "gain", gain, (1 << 15) - 1) else None

    def fits(self, soma: Soma, what: str, value: IntArray, most: int) -> bool:
        """Whether a value keeps its register; the reason is noted if not."""
        if int(np.abs(value).max()) > most:
            self.stop(soma, f"{what} of the fused step is {int(np.abs(value).max())}, beyond {most}")
            return False
        return True

    def unsaturated(self, soma: Soma, repeated: bool) -> bool:
        """Whether a read-out's potential provably stays inside its register."""
        lo, hi = self.ranges[soma.name]
        reach = max(-lo, hi) * int(np.abs(soma.gain).max()) + int(np.abs(soma.bias).max())
        if reach * self.steps + int(np.abs(soma.v_init).max()) > V_MAX:
            self.stop(soma, "its potential may saturate between the steps, so the sum is not proved to be exact")
            return False
        return True


def even(soma: Soma, *values: IntArray) -> tuple[IntArray, ...]:
    """Stored parameters with equally many axes: numbers per channel are spread where others are per neuron."""
    if len({value.ndim for value in values}) == 1:
        return values
    return tuple(np.stack([soma.spread(row) for row in value]) for value in values)


def _repeating(program: Program) -> set[str]:
    """Names of inputs, synapses and somas whose payload or current is one repeated frame (or a linear map of it)."""
    found: set[str] = set()
    for node in program.order:
        edges = program.into[node.name]
        alone = all(not isinstance(program[e.src], Soma) and e.src in found for e in edges)
        if getattr(node, "coding", "") == "repeat" or (isinstance(node, (Synapse, Soma)) and alone):
            found.add(node.name)
    return found
