"""Machine time: when each soma sees logical step 0, and the buffers that make paths meet.

A payload sent in machine step n arrives in step n + 1. With `stretch` m machine steps per logical step
(m = 1 unless a loop is tighter than the hops along it) a payload edge with logical delay d needs

    skew_in(dst) >= skew_out(src) + 1 - m*d
    buffer(edge)  = skew_in(dst) - skew_out(src) - 1 + m*d   >= 0      (extra machine steps on that edge)

and a windowed soma speaks one sample later: skew_out = skew_in + m*T, else skew_out = skew_in. The skews are
the smallest that satisfy all edges, so the latency is minimal. Samples follow each other every m*T steps;
a soma is re-initialised at `skew_out + n*m*T`; its result is complete at `skew_out + m*T`.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from snn2chip.errors import ScheduleError
from snn2chip.ir.nodes import PAYLOAD_SOURCES, describe
from snn2chip.ir.program import Edge, Program
from snn2chip.ir.soma import Soma


@attrs.frozen(kw_only=True)
class Link:
    """One payload hop: from a source through synapse or product `via` into `dst`, `edge` being the first half."""

    edge: Edge
    src: str
    via: str
    dst: str
    delay: int


@attrs.frozen(kw_only=True)
class Schedule:
    """Machine-time plan of a program (see the module's text); all numbers are machine steps.

    `skew_in` / `skew_out` per payload source, `buffers` per link `(src, via, dst)` (the longer one where a product
    takes the same source twice with different delays; `wait` tells them apart), `stretch` machine steps per logical
    step, `sample_steps` per sample, `latency` from a sample's first step to its last result.
    """

    steps: int
    stretch: int
    skew_in: Mapping[str, int]
    skew_out: Mapping[str, int]
    buffers: Mapping[tuple[str, str, str], int]
    latency: int

    @property
    def sample_steps(self) -> int:
        """Machine steps between the starts of two samples."""
        return self.steps * self.stretch

    def machine_steps(self, samples: int) -> int:
        """Machine steps that `samples` samples take from first input to last result."""
        return self.sample_steps * (samples - 1) + self.latency

    def wait(self, edge: Edge, dst: str) -> int:
        """Extra machine steps on the payload edge `edge` on its way into soma `dst`."""
        return self.skew_in[dst] - self.skew_out[edge.src] - 1 + self.stretch * edge.delay

    @property
    def buffered_words(self) -> int:
        """Sum of buffer lengths over all links (multiply by the source's size for memory)."""
        return sum(self.buffers.values())


def links(program: Program) -> list[Link]:
    """Every payload hop of the program, in the order of the edges."""
    found = []
    for edge in program.edges:
        if not isinstance(program[edge.src], PAYLOAD_SOURCES):
            continue
        for onward in program.out_of[edge.dst]:
            found.append(Link(edge=edge, src=edge.src, via=edge.dst, dst=onward.dst, delay=edge.delay))
    return found


def schedule(program: Program, *, stretch: bool = True) -> Schedule:
    """Compute skews, buffers and latency; raises ScheduleError when a loop is too tight.

    A loop of n hops with a total delay of D < n needs ceil(n / D) machine steps per logical step; with
    `stretch=False` that raises and names the smallest legal delay instead.
    """
    hops = links(program)
    factor = 1
    while (skews := _skews(program, hops, factor)) is None:
        if not stretch:
            raise ScheduleError(_tight(program, hops))
        factor += 1
        if factor > len(program.somas) + 1:
            raise ScheduleError(_tight(program, hops))
    skew_in, skew_out = skews
    buffers: dict[tuple[str, str, str], int] = {}
    for hop in hops:
        key = (hop.src, hop.via, hop.dst)
        length = skew_in[hop.dst] - skew_out[hop.src] - 1 + factor * hop.delay
        buffers[key] = max(length, buffers.get(key, length))
    last = max((skew_out[s.name] for s in program.somas), default=0)
    return Schedule(
        steps=program.steps,
        stretch=factor,
        skew_in=skew_in,
        skew_out=skew_out,
        buffers=buffers,
        latency=last + factor * program.steps,
    )


def _skews(program: Program, hops: list[Link], factor: int) -> tuple[dict[str, int], dict[str, int]] | None:
    """Longest paths by relaxation; None if a loop is tighter than `factor` allows."""
    extra = {
        n.name: factor * program.steps if isinstance(n, Soma) and n.window is not None else 0 for n in program.nodes
    }
    skew_in = {n.name: 0 for n in program.nodes if isinstance(n, PAYLOAD_SOURCES)}
    for _ in range(len(skew_in) + 1):
        changed = False
        for hop in hops:
            need = skew_in[hop.src] + extra[hop.src] + 1 - factor * hop.delay
            if need > skew_in[hop.dst]:
                skew_in[hop.dst], changed = need, True
        if not changed:
            return skew_in, {name: skew + extra[name] for name, skew in skew_in.items()}
    return None


def _tight(program: Program, hops: list[Link]) -> list[str]:
    """Which loops are too tight at one machine step per logical step, and the smallest legal delays."""
    from snn2chip.ir.order import components

    found = []
    for names, feedback in components(program):
        inside = set(names)
        loop = [h for h in hops if feedback and h.src in inside and h.via in inside and h.dst in inside]
        if not loop or _skews(program, loop, 1) is not None:
            continue
        somas = [n for n in names if isinstance(program[n], Soma)]
        legal = [(h, d) for h in loop if h.delay and (d := _smallest_delay(program, loop, h, len(somas))) is not None]
        advice = " or ".join(f"{d} on {h.src} -> {h.via} ({describe(program[h.via])}), now {h.delay}" for h, d in legal)
        found.append(
            f"the loop over {', '.join(describe(program[n]) for n in somas)} has more hops than delay; "
            + (f"the smallest legal delay is {advice}" if advice else "give several of its edges more delay")
        )
    return found


def _smallest_delay(program: Program, loop: list[Link], hop: Link, most: int) -> int | None:
    """Smallest delay of one edge (all its hops) with which `loop` fits, the others left as they are."""
    for delay in range(hop.delay + 1, hop.delay + most + 1):
        changed = [attrs.evolve(h, delay=delay) if h.edge == hop.edge else h for h in loop]
        if _skews(program, changed, 1) is not None:
            return delay
    return None
