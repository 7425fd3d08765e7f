"""Placement: which core lies where, so that messages go few hops.

One message goes to each core that a spike reaches, so the hops are a sum over pairs of cores, and placing n cores on n
ids is a quadratic assignment problem:

    minimise  sum over i, j of  messages(i, j) * distance(id(i), id(j))

Starts: program order, the same and a spectral order (Hall 1970) spread evenly over the chips, and SciPy's FAQ
(Vogelstein et al. 2015). Exchanges of two cores improve each until none helps, and seeded kicks leave local minima.
Results depend on the seed (and, among equals, on the rounding of the linear algebra).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import quadratic_assignment

from snn2chip.ir.types import IntArray
from snn2chip.mapping.mesh import Chips, distances

SMALL = 512
"""Largest number of ids for the starts whose steps take n^3."""
MOST = 3000
"""Above so many cores the matrices are too large: they stay in program order."""
SWAPS_WORK = 2e9
"""Work of all exchanges together, each n^2: bounds the time, not by a clock."""
KICKS = 24


def placed(traffic: Any, start: IntArray, chips: Chips, *, allowed: Any = None, seed: int = 0) -> IntArray:
    """Core ids that minimise the distance of `traffic [n, n]`, from `start` ids `[n]`.

    Free ids of the chips may be taken too. `allowed(ids)`: whether an assignment of all cores is legal; when the best
    one is not, cores only change places within their chips.
    """
    n = traffic.shape[0]
    if n < 2 or n > MOST or not traffic.nnz:
        return start
    flow = np.asarray((traffic + traffic.T).todense(), float)
    np.fill_diagonal(flow, 0.0)
    free = np.setdiff1d(np.arange(chips.count * chips.cores), start)
    ids = np.concatenate([start, free[: 3 * n]])
    whole = np.zeros((len(ids), len(ids)))
    whole[:n, :n] = flow
    apart = distances(chips, ids)
    starts = [np.arange(len(ids)), *(_completed(ids, wanted) for wanted in _spread(flow, chips))]
    if len(ids) <= SMALL:
        starts.append(np.asarray(quadratic_assignment(whole, apart, method="faq").col_ind))
    found = ids[_best_of(whole, apart, starts, seed=seed, same=None)[:n]]
    if allowed is None or allowed(found):
        return found
    within = ids[_best_of(whole, apart, starts[:1], seed=seed, same=chips.chip(ids))[:n]]
    return within if allowed(within) else start


def _spread(flow: Any, chips: Chips) -> list[IntArray]:
    """Ids of all cores, the same number on each chip: in program order, and along the graph's slowest wave."""
    n = len(flow)
    if chips.count < 2:
        return []
    even = np.concatenate(
        [
            chip * chips.cores + np.arange(len(part))
            for chip, part in enumerate(np.array_split(np.arange(n), chips.count))
        ]
    )
    if n > SMALL:
        return [even]
    weight = np.maximum(flow.sum(1), 1e-9) ** -0.5
    wave = np.linalg.eigh(-weight[:, None] * flow * weight)[1][:, 1]
    spectral = np.empty_like(even)
    spectral[np.argsort(wave, kind="stable")] = even
    return [even, spectral]


def _completed(ids: IntArray, wanted: IntArray) -> IntArray:
    """Places in `ids` of the `wanted` ids, and behind them the other places."""
    place = np.argsort(ids)[np.searchsorted(np.sort(ids), wanted)]
    return np.concatenate([place, np.setdiff1d(np.arange(len(ids)), place)])


def _best_of(flow: Any, apart: Any, starts: list[IntArray], *, seed: int, same: IntArray | None) -> IntArray:
    """The best assignment that exchanges and kicks find; `same`: chip of each id, which cores do not leave."""
    n = len(flow)
    budget = int(SWAPS_WORK / (n * n))
    results = []
    for first in starts:
        order, used = _exchange(flow, apart, first, most=budget // 2, same=same)
        budget -= used
        results.append((_total(flow, apart, order), order))
    best, order = min(results, key=lambda r: r[0])
    rng = np.random.default_rng(seed)
    for _ in range(KICKS if same is None else 0):
        if budget <= 0:
            break
        kicked = order.copy()
        some = rng.choice(n, size=max(2, n // 16), replace=False)
        kicked[some] = kicked[np.roll(some, 1)]
        moved, used = _exchange(flow, apart, kicked, most=budget, same=None)
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
