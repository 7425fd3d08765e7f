"""Machine time of small programs by hand: chains, paths of two lengths, loops that fit and loops that do not."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

from snn2chip.errors import ScheduleError
from snn2chip.ir.nodes import Input, Output, Synapse
from snn2chip.ir.program import Edge, Program
from snn2chip.ir.soma import Soma
from snn2chip.schedule import Link, Schedule, links, schedule

T = 5


def program(hops: list[tuple[str, str, int]], *, windows: tuple[str, ...] = ()) -> Program:
    """Hops (source, destination, delay) through identity synapses `source_destination`; the last named is read."""
    names = list(dict.fromkeys(name for src, dst, _ in hops for name in (src, dst)))
    nodes: list[Any] = [Input("in", 2, 0, 3)]
    for name in names[1:]:
        nodes.append(Soma(name, 2, theta=2, window=np.eye(T, dtype=int) if name in windows else None))
    nodes += [Synapse(f"{src}_{dst}", "identity") for src, dst, _ in hops]
    edges: list[Any] = []
    for src, dst, delay in hops:
        edges += [Edge(src, f"{src}_{dst}", delay), (f"{src}_{dst}", dst)]
    return Program(nodes=[*nodes, Output("out", "count")], edges=[*edges, (names[-1], "out")], steps=T)


CHAIN = [("in", "a", 0), ("a", "b", 0), ("b", "c", 0)]


@pytest.mark.parametrize("backwards", [False, True])
def test_every_hop_takes_one_machine_step(backwards: bool) -> None:
    """skew 1, 2, 3; the last result is complete at 3 + T, and samples follow every T steps."""
    net = reversed_chain() if backwards else program(CHAIN)
    plan = schedule(net)
    assert dict(plan.skew_in) == dict(plan.skew_out) == {"in": 0, "a": 1, "b": 2, "c": 3}
    assert set(plan.buffers.values()) == {0}
    assert (plan.stretch, plan.steps, plan.sample_steps, plan.latency) == (1, T, T, 3 + T)
    assert [plan.machine_steps(n) for n in (1, 2, 3, 4)] == [3 + T, 3 + 2 * T, 3 + 3 * T, 3 + 4 * T]
    assert plan.buffered_words == 0


def reversed_chain() -> Program:
    """The chain with its edges named from the end on: each round of relaxation finds one hop."""
    net = program(CHAIN)
    return Program(nodes=net.nodes, edges=net.edges[::-1], steps=T)


def test_paths_meet_by_waiting() -> None:
    """a -> c waits for a -> b -> c; a delay of two steps is two machine steps more to wait."""
    plan = schedule(program([("in", "a", 0), ("a", "b", 0), ("a", "c", 2), ("b", "c", 0)]))
    assert dict(plan.skew_in) == {"in": 0, "a": 1, "b": 2, "c": 3}
    assert plan.buffers[("a", "a_c", "c")] == 3 - 1 - 1 + 2
    assert plan.buffered_words == 3
    assert plan.wait(Edge("a", "a_c", 2), "c") == 3


def test_a_window_speaks_a_sample_later() -> None:
    """skew_out = skew_in + T."""
    plan = schedule(program([("in", "a", 0), ("a", "b", 0)], windows=("a",)))
    assert dict(plan.skew_in) == {"in": 0, "a": 1, "b": 2 + T}
    assert dict(plan.skew_out) == {"in": 0, "a": 1 + T, "b": 2 + T}
    assert plan.latency == 2 + T + T


@pytest.mark.parametrize(("delay", "stretch"), [(1, 3), (2, 2), (3, 1), (4, 1)])
def test_a_loop_is_stretched_to_its_hops(delay: int, stretch: int) -> None:
    """ceil(n / D) machine steps per logical step for n = 3 hops of total delay D."""
    net = program([("in", "a", 0), ("a", "b", 0), ("b", "c", 0), ("c", "a", delay)])
    plan = schedule(net)
    assert (plan.stretch, plan.sample_steps) == (stretch, stretch * T)
    assert plan.latency == 3 + stretch * T
    assert plan.buffers[("c", "c_a", "a")] == 1 - 3 - 1 + stretch * delay
    if stretch == 1:
        assert schedule(net, stretch=False).latency == plan.latency
        return
    with pytest.raises(ScheduleError) as told:
        schedule(net, stretch=False)
    text = str(told.value)
    assert "the smallest legal delay is 3 on c -> c_a" in text
    assert f"now {delay}" in text


def test_only_the_loop_that_is_too_tight_is_named() -> None:
    """A loop of two hops and one step; a neuron that reads itself and a loop with enough delay are fine."""
    net = program(
        [("in", "a", 0), ("a", "b", 0), ("b", "a", 1), ("b", "c", 0), ("c", "c", 1), ("c", "d", 0), ("d", "e", 1),
         ("e", "d", 1)]
    )  # fmt: skip
    with pytest.raises(ScheduleError) as told:
        schedule(net, stretch=False)
    text = str(told.value)
    assert text.count("has more hops than delay") == 1
    assert "the smallest legal delay is 2 on b -> b_a" in text
    for other in ("a_b", "c_c", "d_e", "e_d"):
        assert other not in text
    assert schedule(net).stretch == 2


def test_hops_in_the_order_of_the_edges() -> None:
    """Payload edges alone, each with what lies between and the delay of its first half."""
    found = links(program([("in", "a", 0), ("a", "b", 2)]))
    assert [(h.src, h.via, h.dst, h.delay) for h in found] == [("in", "in_a", "a", 0), ("a", "a_b", "b", 2)]
    assert found[1].edge == Edge("a", "a_b", 2)


@pytest.mark.parametrize("kind", [Link, Schedule])
def test_plans_are_made_by_name(kind: type) -> None:
    """Numbers of the same kind beside each other are not told apart by place."""
    assert {p.kind for p in inspect.signature(kind).parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}
