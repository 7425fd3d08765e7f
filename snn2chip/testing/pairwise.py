"""A small covering array: rows of levels so that every legal pair of levels occurs in at least one row."""

from __future__ import annotations

import random
from collections.abc import Mapping

from snn2chip.testing.factors import Level, Space


def covering_rows(space: Space, *, seed: int = 0, tries: int = 8) -> list[dict[str, str]]:
    """Greedy pairwise rows: each row is the best of `tries` candidates that start from an uncovered pair.

    Every factor of a candidate takes the open level that covers most new pairs (ties at random). The result is
    the same for the same `seed`.
    """
    rng = random.Random(seed)
    open_pairs = _neighbours(space, space.pairs())
    rows: list[dict[str, str]] = []
    while any(open_pairs):
        candidates = [_candidate(space, open_pairs, rng) for _ in range(tries)]
        best = max(candidates, key=lambda row: _gain(space, open_pairs, row))
        if _gain(space, open_pairs, best) == 0:
            best = _forced(space, open_pairs)
        mask = _mask(space, best)
        for i in _bits(mask):
            open_pairs[i] &= ~mask
        rows.append({f: best[f] for f in space.factors})
    return rows


def _neighbours(space: Space, pairs: set[tuple[Level, Level]]) -> list[int]:
    found = [0] * len(space.items)
    for a, b in pairs:
        i, j = space.index[a], space.index[b]
        found[i] |= 1 << j
        found[j] |= 1 << i
    return found


def _mask(space: Space, row: Mapping[str, str]) -> int:
    return sum(1 << space.index[item] for item in row.items())


def _bits(mask: int) -> list[int]:
    return [i for i in range(mask.bit_length()) if mask >> i & 1]


def _gain(space: Space, open_pairs: list[int], row: Mapping[str, str]) -> int:
    mask = _mask(space, row)
    return sum((open_pairs[i] & mask).bit_count() for i in _bits(mask)) // 2


def _candidate(space: Space, open_pairs: list[int], rng: random.Random) -> dict[str, str]:
    most = max(pairs.bit_count() for pairs in open_pairs)
    first = rng.choice([i for i, pairs in enumerate(open_pairs) if pairs.bit_count() * 2 >= most])
    second = rng.choice(_bits(open_pairs[first]))
    row: dict[str, str] = {}
    order = [f for f in space.factors if f not in (space.items[first][0], space.items[second][0])]
    rng.shuffle(order)
    for i in (first, second):
        row[space.items[i][0]] = space.items[i][1]
    mask, banned = _mask(space, row), space.banned(row)
    for factor in order:
        levels = space.open_levels(row, factor, banned)
        if not levels:
            return _forced(space, open_pairs)
        score = [((open_pairs[space.index[factor, v]] & mask).bit_count(), rng.random(), v) for v in levels]
        row[factor] = max(score)[2]
        chosen = space.index[factor, row[factor]]
        mask, banned = mask | 1 << chosen, banned | space.excluded[chosen]
    return row


def _forced(space: Space, open_pairs: list[int]) -> dict[str, str]:
    """A row with the first uncovered pair, the rest as it comes."""
    i = next(i for i, pairs in enumerate(open_pairs) if pairs)
    a, b = space.items[i], space.items[_bits(open_pairs[i])[0]]
    row = space.complete({a[0]: a[1]}, b)
    assert row is not None, (a, b)
    return row
