"""The schedule whose waiting payloads need the fewest words: brute force over all starts, limits, refusals."""

from __future__ import annotations

from itertools import product

import pytest

from snn2chip.errors import ScheduleError
from snn2chip.ir.nodes import Input, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.schedule import links, schedule
from snn2chip.schedule_balance import balanced_schedule

SIZES = {"x": 1, "a": 3, "b": 1, "c": 2, "d": 1, "e": 1, "f": 5}
NETS = {
    "a long and a short way": [("x", "a"), ("a", "b"), ("b", "c"), ("c", "d"), ("a", "d")],
    "two shortcuts": [("x", "a"), ("x", "b"), ("b", "c"), ("c", "d"), ("a", "d"), ("d", "e"), ("b", "e")],
    "the smaller of two waits": [("x", "a"), ("a", "b"), ("b", "c"), ("c", "e"), ("e", "d"), ("a", "f"), ("f", "d")],
    "large payloads could wait": [("x", "b"), ("b", "a"), ("x", "d"), ("a", "e"), ("d", "e")],
}


def net(hops: list[tuple[str, str]]) -> Program:
    """Somas of different sizes joined by all-ones synapses, the input called x."""
    names = list(dict.fromkeys(name for hop in hops for name in hop))
    nodes = [Input(n, (SIZES[n],)) if n == "x" else Soma(n, (SIZES[n],), theta=3) for n in names]
    edges = []
    for i, (src, dst) in enumerate(hops):
        nodes.append(Synapse(f"s{i}", "linear", [[1] * SIZES[src]] * SIZES[dst]))
        edges += [(src, f"s{i}", 0), (f"s{i}", dst, 0)]
    return Program(nodes=nodes, edges=edges, steps=2)


def words(program: Program, skew: dict[str, int]) -> int | None:
    """Words that wait: per source its size times the longest wait of its edges; None where a payload is late."""
    longest: dict[tuple[str, str], int] = {}
    for hop in links(program):
        wait = skew[hop.dst] - skew[hop.src] - 1
        if wait < 0:
            return None
        key = (hop.src, hop.via)
        longest[key] = max(wait, longest.get(key, 0))
    return sum(SIZES[src] * wait for (src, _), wait in longest.items())


@pytest.mark.parametrize("name", NETS)
def test_no_other_plan_needs_fewer_words(name: str) -> None:
    """All starts of all somas with the input at 0 and nobody later than in the first plan."""
    program = net(NETS[name])
    plan, first = balanced_schedule(program), schedule(program)
    assert plan.skew_in["x"] == 0
    assert all(plan.skew_out[n] - plan.skew_in[n] == first.skew_out[n] - first.skew_in[n] for n in plan.skew_in)
    got = words(program, plan.skew_out)
    latest = max(first.skew_out.values())
    others = [n for n in plan.skew_in if n != "x"]
    choices = (dict(zip(others, starts, strict=True)) for starts in product(range(latest + 1), repeat=len(others)))
    found = [w for w in (words(program, {"x": 0, **starts}) for starts in choices) if w is not None]
    assert got == min(found)
    assert max(plan.skew_out.values()) <= latest
    for (src, via, dst), wait in plan.buffers.items():
        assert wait == max(plan.skew_in[h.dst] - plan.skew_out[h.src] - 1 for h in links(program)
                           if (h.src, h.via, h.dst) == (src, via, dst))  # fmt: skip


def test_a_limit_holds_or_is_refused_with_the_edges_that_wait() -> None:
    """Three hops beside one: the short way waits 2; a limit of 2 stands, 1 cannot, and says what to do."""
    program = net(NETS["a long and a short way"])
    assert max(balanced_schedule(program, most=2).buffers.values()) == 2
    with pytest.raises(ScheduleError, match="at most 1 are possible in any plan; apply the transform 'retime'"):
        balanced_schedule(program, most=1)


def test_only_what_waits_longer_than_the_limit_is_named() -> None:
    """a -> d waits 2 beside a -> b -> c -> d; a -> c waits 1, which is no more than the limit."""
    program = net([("x", "a"), ("a", "b"), ("b", "c"), ("c", "d"), ("a", "d"), ("a", "c")])
    assert max(balanced_schedule(program, most=2).buffers.values()) == 2
    with pytest.raises(ScheduleError) as told:
        balanced_schedule(program, most=1)
    assert str(told.value).count("waits") == 1
    assert "waits 2 machine steps" in str(told.value)


def test_a_program_without_hops_is_its_own_plan() -> None:
    """An input alone waits for nobody."""
    program = Program(nodes=[Input("x", (2,))], edges=[], steps=1)
    assert balanced_schedule(program) == schedule(program)
