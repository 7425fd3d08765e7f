"""Placement: which core lies where, so that messages go few hops.

One message goes to each core that a spike reaches, so the hops are a sum over pairs of cores, and placing n cores on n
ids is a quadratic assignment problem:

    minimise  sum over i, j of  messages(i, j) * distance(id(i), id(j))

SciPy's FAQ (Vogelstein et al. 2015) gives a start, exchanges of two cores improve it until none helps, and seeded kicks
leave local minima. Results depend on the seed only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import quadratic_assignment

from snn2chip.ir.types import IntArray
from snn2chip.mapping.mesh import Chips, distances

FAQ_MOST = 512
"""Largest number of ids for FAQ, whose steps take n^3."""
SWAPS_WORK = 2e9
"""Work of all exchanges together, each n^2: bounds the time, not by a clock."""
KICKS = 12


def placed(traffic: Any, start: IntArray, chips: Chips, *, allowed: Any = None, seed: int = 0) -> IntArray:
    """Core ids that minimise the distance of `traffic [n, n]`, from `start` ids `[n]`.

    Free ids of the chips may be taken too. `allowed(ids)`: whether an assignment of all cores is legal; when the best
    one is not, cores only change places within their chips.
    """
    n = traffic.shape[0]
    flow = np.asarray((traffic + traffic.T).todense(), float)
    np.fill_diagonal(flow, 0.0)
    if n < 2 or not flow.any():
        return start
    free = np.setdiff1d(np.arange(chips.count * chips.cores), start)
    ids = np.concatenate([start, free[: max(0, 4 * n - n)]])
    whole = np.zeros((len(ids), len(ids)))
    whole[:n, :n] = flow
    apart = distances(chips, ids)
    order = _best_of(whole, apart, np.arange(len(ids)), seed=seed, same=None)
    found = ids[order[:n]]
    if allowed is not None and not allowed(found):
        chip = chips.chip(ids)
        order = _best_of(whole, apart, np.arange(len(ids)), seed=seed, same=chip)
        found = ids[order[:n]]
        if not allowed(found):
            return start
    return found


def _best_of(flow: Any, apart: Any, start: IntArray, *, seed: int, same: IntArray | None) -> IntArray:
    """The best assignment that FAQ, exchanges and kicks find; `same`: chip of each id, which cores do not leave."""
    n = len(flow)
    budget = int(SWAPS_WORK / (n * n))
    starts = [start]
    if n <= FAQ_MOST and same is None:
        starts.append(np.asarray(quadratic_assignment(flow, apart, method="faq").col_ind))
    results = []
    for first in starts:
        order, used = _exchange(flow, apart, first, most=budget // 2, same=same)
        budget -= used
        results.append((_total(flow, apart, order), order))
    best, order = min(results, key=lambda r: r[0])
    rng = np.random.default_rng(seed)
    for _ in range(KICKS):
        if budget <= 0:
            break
        kicked = order.copy()
        some = rng.choice(n, size=max(2, n // 16), replace=False)
        if same is None:
            kicked[some] = kicked[np.roll(some, 1)]
        moved, used = _exchange(flow, apart, kicked, most=budget, same=same)
        budget -= used
        value = _total(flow, apart, moved)
        if value < best * (1 - 1e-12):
            best, order = value, moved
    return order


def _total(flow: Any, apart: Any, order: IntArray) -> float:
    return float((flow * apart[np.ix_(order, order)]).sum()) / 2


def _exchange(flow: Any, apart: Any, order: IntArray, *, most: int, same: IntArray | None) -> tuple[IntArray, int]:
    """Exchange the two cores that gain most, until none gains; returns the order and the number of exchanges.

    there[i, j] is what core i costs at the place of core j; an exchange changes it by a matrix of rank 1.
    """
    order = order.copy()
    pairs = apart[np.ix_(order, order)]
    there = flow @ pairs
    limit = 1e-9 * max(float(flow.sum()), 1.0)
    for used in range(most):
        own = np.diagonal(there)
        gain = there + there.T - own[:, None] - own + 2 * flow * pairs
        if same is not None:
            gain[same[order][:, None] != same[order]] = 0.0
        best = int(gain.argmin())
        i, j = divmod(best, len(order))
        if gain[i, j] >= -limit:
            return order, used
        order[[i, j]] = order[[j, i]]
        there[:, [i, j]] = there[:, [j, i]]
        pairs[[i, j]] = pairs[[j, i]]
        pairs[:, [i, j]] = pairs[:, [j, i]]
        # the exchanged cores now lie elsewhere: i where j was (pairs[:, i]), j where i was
        there += np.outer(flow[:, i] - flow[:, j], pairs[:, i] - pairs[:, j])
    return order, most
