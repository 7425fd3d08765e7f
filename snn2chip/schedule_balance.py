"""The schedule that waits least: of all plans with the smallest latency, the one with the fewest buffered words.

    minimise  sum over payload edges of  size(src) * max over hops of wait(edge, dst)
    subject to  0 <= wait <= most,  skew_out - skew_in as in the schedule,  latency minimal

All constraints are differences of skews, so the linear program has a whole-numbered solution (retiming, Leiserson
and Saxe 1991). It is solved by SciPy's HiGHS and the result is checked in integers.
"""

from __future__ import annotations

import attrs
import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from snn2chip.errors import ScheduleError
from snn2chip.ir.nodes import describe
from snn2chip.ir.program import Program
from snn2chip.ir.types import IntArray
from snn2chip.schedule import Link, Schedule, links, schedule


def balanced_schedule(program: Program, *, most: int | None = None) -> Schedule:
    """Return the plan of least buffered words at minimal latency; no wait is longer than `most` machine steps.

    Somas move to later machine steps where that shortens what has to be stored; logical time, and so every payload,
    stays as it is. Raises ScheduleError naming the edges that need a longer wait than `most` in any plan.
    """
    first = schedule(program)
    hops = links(program)
    if not hops:
        return first
    names = list(first.skew_in)
    rank = {name: i for i, name in enumerate(names)}
    groups = {key: i for i, key in enumerate(dict.fromkeys((h.edge.src, h.via) for h in hops))}
    found = _solve(program, first, hops, rank, groups, most)
    if found is None:
        raise ScheduleError(_too_long(program, first, most))
    extra = {name: first.skew_out[name] - first.skew_in[name] for name in names}
    skew_in = {name: int(found[rank[name]]) for name in names}
    plan = attrs.evolve(
        first, skew_in=skew_in, skew_out={name: skew + extra[name] for name, skew in skew_in.items()}, buffers={}
    )
    buffers: dict[tuple[str, str, str], int] = {}
    for hop in hops:
        wait = plan.wait(hop.edge, hop.dst)
        assert wait >= 0, hop
        assert most is None or wait <= most, hop
        key = (hop.src, hop.via, hop.dst)
        buffers[key] = max(wait, buffers.get(key, wait))
    return attrs.evolve(plan, buffers=buffers)


def _solve(
    program: Program,
    plan: Schedule,
    hops: list[Link],
    rank: dict[str, int],
    groups: dict[tuple[str, str], int],
    most: int | None,
) -> IntArray | None:
    """Skews and, behind them, the words that each (source, synapse) keeps; None if there is no such plan."""
    n, m = len(rank), len(groups)
    row: list[int] = []
    col: list[int] = []
    value: list[int] = []
    bound: list[int] = []

    def at_most(terms: list[tuple[int, int]], limit: int) -> None:
        for column, factor in terms:
            row.append(len(bound))
            col.append(column)
            value.append(factor)
        bound.append(limit)

    for hop in hops:
        src, dst = rank[hop.edge.src], rank[hop.dst]
        if src == dst:
            continue
        gap = plan.skew_out[hop.edge.src] - plan.skew_in[hop.edge.src] + 1 - plan.stretch * hop.edge.delay
        own = n + groups[hop.edge.src, hop.via]
        at_most([(src, 1), (dst, -1)], -gap)  # wait >= 0
        at_most([(dst, 1), (src, -1), (own, -1)], gap)  # words of the group >= wait
        if most is not None:
            at_most([(dst, 1), (src, -1)], gap + most)
    latest = max(plan.skew_out.values())
    limits = [(0, latest - plan.skew_out[name] + plan.skew_in[name]) for name in rank]
    inputs = {node.name for node in program.inputs}
    limits = [(0, 0) if name in inputs else limit for name, limit in zip(rank, limits, strict=True)]
    sizes = [int(np.prod(program.shapes[src], dtype=np.int64)) for src, _ in groups]
    cost = np.concatenate([np.zeros(n), np.asarray(sizes, dtype=float)])
    matrix = sparse.csr_matrix((value, (row, col)), shape=(len(bound), n + m)) if bound else None
    solved = linprog(cost, A_ub=matrix, b_ub=bound or None, bounds=[*limits, *[(0, None)] * m], method="highs-ds")
    return np.rint(solved.x).astype(np.int64) if solved.status == 0 else None


def _too_long(program: Program, plan: Schedule, most: int | None) -> list[str]:
    """The edges that wait longest, with what to do."""
    return [
        f"{describe(program[src])} -> {describe(program[dst])}: waits {wait} machine steps, but at most {most} are "
        "possible in any plan; apply the transform 'retime'"
        for (src, _, dst), wait in plan.buffers.items()
        if most is not None and wait > most
    ] or [f"no plan keeps every wait within {most} machine steps; apply the transform 'retime'"]
