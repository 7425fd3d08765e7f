"""The machine-time schedule against brute force: every simple loop, every simple path."""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import ceil

import numpy as np
import pytest

from snn2chip.errors import ScheduleError
from snn2chip.ir.nodes import Input, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.schedule import Schedule, links, schedule
from snn2chip.testing.cases import covering_cases
from snn2chip.testing.edges import edge_cases
from snn2chip.testing.programs import random_program

Hop = tuple[str, str, int]
"""(source, destination, delay)"""


def wired(hops: list[Hop], *, windows: tuple[str, ...] = (), steps: int = 3) -> Program:
    """One-neuron somas joined by identity synapses; whatever nothing feeds is an input."""
    names = dict.fromkeys(name for s, d, _ in hops for name in (s, d))
    fed = {d for _, d, _ in hops}
    nodes: list[Input | Soma | Synapse] = []
    for name in names:
        window = np.ones((steps, steps)) if name in windows else None
        nodes.append(Soma(name, (1,), theta=3, window=window) if name in fed else Input(name, (1,)))
    edges: list[tuple[str, str, int]] = []
    for i, (source, dest, delay) in enumerate(hops):
        nodes.append(Synapse(f"syn{i}", "identity"))
        edges += [(source, f"syn{i}", delay), (f"syn{i}", dest, 0)]
    return Program(nodes=nodes, edges=edges, steps=steps)


def random_hops(seed: int) -> list[Hop]:
    """A random graph of up to five somas with forward edges (delay 0..2) and backward edges (delay 1..3)."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 6))
    hops: list[Hop] = [("in", "n0", 0)]
    for i in range(1, count):
        hops.append((f"n{int(rng.integers(0, i))}", f"n{i}", 0))
    for _ in range(int(rng.integers(0, 5))):
        a, b = (int(x) for x in rng.integers(0, count, 2))
        hops.append((f"n{a}", f"n{b}", int(rng.integers(0, 3)) if a < b else int(rng.integers(1, 4))))
    return hops


def hops_of(program: Program) -> list[Hop]:
    return [(link.src, link.dst, link.delay) for link in links(program)]


def simple_paths(hops: list[Hop], start: str) -> Iterator[list[Hop]]:
    """Every path from `start` that meets no node twice, the empty one too; the last hop may close a loop."""
    stack: list[tuple[str, list[Hop]]] = [(start, [])]
    while stack:
        at, path = stack.pop()
        yield path
        met = {start, *(d for _, d, _ in path)}
        for hop in hops:
            if hop[0] == at and (hop[1] not in met or hop[1] == start):
                if hop[1] == start:
                    yield [*path, hop]
                else:
                    stack.append((hop[1], [*path, hop]))


def loops(hops: list[Hop]) -> list[list[Hop]]:
    starts = {s for s, _, _ in hops}
    return [path for start in starts for path in simple_paths(hops, start) if path and path[-1][1] == start]


def smallest_stretch(hops: list[Hop]) -> int:
    """max over loops of ceil(hops / delay)."""
    return max([1, *(ceil(len(loop) / sum(d for _, _, d in loop)) for loop in loops(hops))])


def earliest(program: Program, plan: Schedule, name: str) -> int:
    """Longest simple path into `name`: each hop costs 1, a window one sample, a delay pays `stretch` back."""
    hops, best = hops_of(program), 0
    lag = {n.name: plan.sample_steps for n in program.somas if n.window is not None}
    for start in plan.skew_in:
        for path in simple_paths(hops, start):
            if path and path[-1][1] == name:
                best = max(best, sum(1 + lag.get(s, 0) - plan.stretch * d for s, _, d in path))
    return best


def check_schedule(program: Program) -> Schedule:
    plan = schedule(program)
    assert plan.stretch == smallest_stretch(hops_of(program))
    assert all(length >= 0 for length in plan.buffers.values())
    for link in links(program):
        wait = plan.wait(link.edge, link.dst)
        assert wait >= 0
        arrival = plan.skew_out[link.src] + 1 + wait
        assert arrival == plan.skew_in[link.dst] + plan.stretch * link.delay
    for soma in program.somas:
        windowed = plan.sample_steps if soma.window is not None else 0
        assert plan.skew_out[soma.name] == plan.skew_in[soma.name] + windowed
    return plan


@pytest.mark.parametrize("seed", range(120))
def test_random_graphs(seed: int) -> None:
    program = wired(random_hops(seed))
    plan = check_schedule(program)
    for soma in program.somas:
        assert plan.skew_in[soma.name] == earliest(program, plan, soma.name), "the latency is minimal"
    last = max(plan.skew_out[s.name] for s in program.somas)
    assert plan.latency == last + plan.stretch * program.steps


@pytest.mark.parametrize("seed", range(120))
def test_without_stretch_the_smallest_legal_delay_is_named(seed: int) -> None:
    hops = random_hops(seed)
    program = wired(hops)
    if smallest_stretch(hops_of(program)) == 1:
        assert schedule(program, stretch=False).stretch == 1
        return
    with pytest.raises(ScheduleError) as raised:
        schedule(program, stretch=False)
    assert raised.value.breaches
    for text in raised.value.breaches:
        for named in re.finditer(r"(\d+) on (\w+) -> syn(\d+)", text):
            delay, i = int(named[1]), int(named[3])
            enough, less = list(hops), list(hops)
            enough[i], less[i] = (*hops[i][:2], delay), (*hops[i][:2], delay - 1)
            inside = {n for loop in loops(hops) for n, _, _ in loop}
            assert hops[i][0] in inside
            tight = [loop for loop in loops(enough) if hops[i][:2] in [h[:2] for h in loop]]
            assert all(len(loop) <= sum(d for _, _, d in loop) for loop in tight)
            assert smallest_stretch(less) > 1


@pytest.mark.parametrize("seed", range(60))
def test_random_programs(seed: int) -> None:
    """Windows, products and delays as they really occur; skews are minimal there too."""
    program = random_program(6000 + seed).program
    plan = check_schedule(program)
    for soma in program.somas:
        assert plan.skew_in[soma.name] == earliest(program, plan, soma.name)


def test_conformance_programs() -> None:
    plans = [check_schedule(case.program) for case in (*covering_cases(), *edge_cases())]
    assert {plan.stretch for plan in plans} >= {1, 2, 3}
    assert any(plan.buffered_words for plan in plans)


def test_chain_by_hand() -> None:
    """in -> a -> b -> c: skews 1, 2, 3; three samples of 4 steps end after 3*4 + 3 machine steps."""
    plan = schedule(wired([("in", "a", 0), ("a", "b", 0), ("b", "c", 0)], steps=4))
    assert dict(plan.skew_in) == {"in": 0, "a": 1, "b": 2, "c": 3}
    assert set(plan.buffers.values()) == {0}
    assert (plan.latency, plan.machine_steps(3), plan.sample_steps) == (7, 15, 4)


def test_residual_by_hand() -> None:
    """in -> a -> b -> c beside in -> c: the short path waits two machine steps."""
    plan = schedule(wired([("in", "a", 0), ("a", "b", 0), ("b", "c", 0), ("in", "c", 0)]))
    assert plan.buffers["in", "syn3", "c"] == 2
    assert plan.buffered_words == 2


def test_window_by_hand() -> None:
    """A windowed soma speaks a whole sample later, and what runs beside it waits for it."""
    hops = [("in", "a", 0), ("a", "w", 0), ("w", "c", 0), ("a", "c", 0)]
    plan = schedule(wired(hops, windows=("w",), steps=4))
    assert (plan.skew_in["w"], plan.skew_out["w"], plan.skew_in["c"]) == (2, 6, 7)
    assert plan.buffers["a", "syn3", "c"] == 5
    assert plan.latency == 11


def test_recurrent_delay_by_hand() -> None:
    """A loop of two hops: legal from d = skew(src) + 1 - skew(dst) = 2 on, else two machine steps per logical step."""
    two = [("in", "a", 0), ("a", "b", 0), ("b", "a", 2)]
    plan = schedule(wired(two), stretch=False)
    assert (plan.stretch, plan.buffers["b", "syn2", "a"]) == (1, 0)
    one = [("in", "a", 0), ("a", "b", 0), ("b", "a", 1)]
    assert schedule(wired(one)).stretch == 2
    with pytest.raises(ScheduleError, match=r"smallest legal delay is 2 on b -> syn2"):
        schedule(wired(one), stretch=False)


def test_delay_pays_for_skew_by_hand() -> None:
    """A forward edge with delay 2 needs no wait of its own and lets its target start first."""
    plan = schedule(wired([("in", "a", 0), ("in", "b", 0), ("b", "a", 2)]))
    assert (plan.skew_in["a"], plan.skew_in["b"]) == (1, 1)
    assert plan.buffers["b", "syn2", "a"] == 1
