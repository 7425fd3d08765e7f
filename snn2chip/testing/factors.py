"""What a test program can vary: factors, their levels, and which levels exclude each other.

A *row* gives every factor one level. Legality is a set of excluded pairs of levels, so that a partial row can be
judged and completed quickly (`Space`). `snn2chip.testing.levels` reads the levels back from finished nodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from snn2chip.ir.soma import LEGAL_RESETS, RESETS

Level = tuple[str, str]
"""(factor, level)"""

SOMA_FACTORS: dict[str, tuple[str, ...]] = {
    "ladder": ("no", "yes"),
    "fire": ("levels", "excess", "relay", "table", "none", "delta"),
    "reset": RESETS,
    "levels": ("one", "many"),
    "theta": ("positive", "nonpositive", "never"),
    "window": ("none", "exact", "shifted"),
    "syn_leak": ("none", "zero", "decay", "full"),
    "leak": ("one", "zero", "decay", "growth", "negative"),
    "v_min": ("none", "negative", "positive"),
    "gain": ("one", "scaled", "negative"),
    "bias": ("no", "yes"),
    "v_init": ("no", "yes"),
    "per_step": ("no", "yes"),
    "spread": ("scalar", "channel", "neuron"),
    "scaling": ("identity", "scaled", "clipped"),
}
SYNAPSE_FACTORS: dict[str, tuple[str, ...]] = {
    "kind": ("linear", "conv2d", "sumpool", "identity", "product", "gate"),
    "weights": ("binary", "ternary", "int4", "int8", "excitatory", "inhibitory", "none"),
    "sparse": ("no", "yes"),
    "exponent": ("no", "yes"),
    "stride": ("plain", "strided"),
    "padding": ("no", "yes"),
    "dilation": ("no", "yes"),
    "groups": ("one", "two", "depthwise"),
}
PROGRAM_FACTORS: dict[str, tuple[str, ...]] = {
    "structure": ("single", "chain", "residual", "recurrent", "loop", "delay", "two-inputs", "host", "shared"),
    "source": ("binary", "graded", "signed"),
    "coding": ("steps", "repeat", "rate"),
    "magnitude": ("normal", "saturate", "wrap", "wide"),
    "steps": ("1", "3", "8"),
    "batch": ("1", "5"),
}

NARROW = 255
"""An unbounded rule (excess, relay) counts as clipped when its payloads are declared narrower than this."""
NO_THETA = ("relay", "table", "none")
_GATED = ("product", "gate")


def _excluded() -> Iterator[tuple[Level, Level]]:
    """Pairs of levels that no program (or no useful one) can combine."""
    for fire, resets in LEGAL_RESETS.items():
        yield from ((("fire", fire), ("reset", r)) for r in RESETS if r not in resets)
        if fire == "none":
            yield ("scaling", "clipped"), ("fire", fire)
        if fire != "levels":
            yield ("ladder", "yes"), ("fire", fire)
            yield ("levels", "many"), ("fire", fire)
    yield from ((("ladder", "yes"), ("reset", r)) for r in RESETS if r != "drop")
    yield ("ladder", "yes"), ("levels", "one")
    for fire in (*NO_THETA, "delta"):
        yield ("theta", "nonpositive"), ("fire", fire)
        yield ("theta", "never"), ("fire", fire)
    yield from ((("theta", "nonpositive"), ("reset", r)) for r in ("subtract", "clamp"))
    yield ("theta", "never"), ("spread", "scalar")  # all neurons would be silent
    yield ("reset", "drop"), ("v_init", "yes")
    yield ("reset", "drop"), ("v_min", "positive")
    yield ("steps", "1"), ("per_step", "yes")
    for kind in SYNAPSE_FACTORS["kind"]:
        bare = kind in _GATED
        for weights in SYNAPSE_FACTORS["weights"]:
            if (weights == "none") != bare:
                yield ("kind", kind), ("weights", weights)
        if bare or kind == "sumpool":
            yield ("kind", kind), ("sparse", "yes")
        if bare:
            yield ("kind", kind), ("exponent", "yes")
        if kind not in ("conv2d", "sumpool"):
            yield ("kind", kind), ("stride", "strided")
            yield ("kind", kind), ("padding", "yes")
        if kind != "conv2d":
            yield ("kind", kind), ("dilation", "yes")
            yield from ((("kind", kind), ("groups", g)) for g in ("two", "depthwise"))
    yield ("kind", "linear"), ("spread", "neuron")  # a flat soma has one neuron per channel
    for structure in ("recurrent", "loop"):
        yield from ((("structure", structure), ("window", w)) for w in ("exact", "shifted"))
        yield ("structure", structure), ("fire", "none")
    yield ("source", "signed"), ("coding", "rate")
    yield ("magnitude", "saturate"), ("gain", "one")
    yield ("magnitude", "saturate"), ("bias", "no")
    yield ("magnitude", "wrap"), ("gain", "one")
    yield ("magnitude", "wrap"), ("syn_leak", "none")
    yield ("magnitude", "wrap"), ("exponent", "no")
    yield ("magnitude", "wide"), ("exponent", "no")


class Space:
    """A set of factors with their excluded pairs, on bit masks."""

    def __init__(self, factors: Mapping[str, Sequence[str]]) -> None:
        self.factors = {name: tuple(levels) for name, levels in factors.items()}
        self.items: list[Level] = [(f, v) for f, levels in self.factors.items() for v in levels]
        self.index = {item: i for i, item in enumerate(self.items)}
        self.mask = {f: sum(1 << self.index[f, v] for v in levels) for f, levels in self.factors.items()}
        self.excluded = [self.mask[f] & ~(1 << i) for i, (f, _) in enumerate(self.items)]
        for a, b in _excluded():
            if a in self.index and b in self.index:
                self.excluded[self.index[a]] |= 1 << self.index[b]
                self.excluded[self.index[b]] |= 1 << self.index[a]
        self._close()

    def _close(self) -> None:
        """Add the pairs that follow: what a level forces (the only level left of a factor) excludes more."""
        changed = True
        while changed:
            changed = False
            for i, (factor, _) in enumerate(self.items):
                banned = self.excluded[i]
                for f, mask in self.mask.items():
                    left = mask & ~banned
                    if f != factor and left and left & (left - 1) == 0:
                        banned |= self.excluded[left.bit_length() - 1]
                if banned != self.excluded[i]:
                    changed = True
                    for j in range(len(self.items)):
                        self.excluded[j] |= (banned >> j & 1) << i
                    self.excluded[i] = banned

    def banned(self, row: Mapping[str, str]) -> int:
        """Mask of the levels that the levels chosen so far exclude."""
        found = 0
        for item in row.items():
            found |= self.excluded[self.index[item]]
        return found

    def open_levels(self, row: Mapping[str, str], factor: str, banned: int | None = None) -> list[str]:
        """Levels of `factor` that keep every other open factor possible (`banned`: as of `banned(row)`)."""
        banned = self.banned(row) if banned is None else banned
        others = [mask for f, mask in self.mask.items() if f != factor and f not in row]
        found = []
        for level in self.factors[factor]:
            i = self.index[factor, level]
            after = banned | self.excluded[i]
            if not banned >> i & 1 and all(mask & ~after for mask in others):
                found.append(level)
        return found

    def pairs(self) -> set[tuple[Level, Level]]:
        """Every pair of levels of different factors that some legal row contains."""
        found: set[tuple[Level, Level]] = set()
        for i, a in enumerate(self.items):
            for b in self.items[i + 1 :]:
                if a[0] != b[0] and (a, b) not in found:
                    row = self.complete({a[0]: a[1]}, b)
                    found |= self.pairs_of(row) if row is not None else set()
        return found

    def complete(self, row: Mapping[str, str], *more: Level) -> dict[str, str] | None:
        """A legal full row that contains `row` and `more`, or None."""
        full = dict(row)
        for factor, level in more:
            if factor in full or level not in self.open_levels(full, factor):
                return None
            full[factor] = level
        banned = self.banned(full)
        for factor in self.factors:
            if factor not in full:
                levels = self.open_levels(full, factor, banned)
                if not levels:
                    return None
                full[factor] = levels[0]
                banned |= self.excluded[self.index[factor, levels[0]]]
        return full

    def pairs_of(self, row: Mapping[str, str]) -> set[tuple[Level, Level]]:
        """The pairs of levels that one row contains, in the order of the factors."""
        items = [(f, row[f]) for f in self.factors if f in row]
        return {(a, b) for i, a in enumerate(items) for b in items[i + 1 :]}


def soma_space() -> Space:
    """The factors of one soma alone."""
    return Space(SOMA_FACTORS)


@lru_cache(maxsize=1)
def neuron_space() -> Space:
    """The factors of one soma and the synapse that feeds it."""
    return Space({**SOMA_FACTORS, **SYNAPSE_FACTORS})


def full_space() -> Space:
    """The factors of one soma, the synapse that feeds it, and the program around it."""
    return Space({**SOMA_FACTORS, **SYNAPSE_FACTORS, **PROGRAM_FACTORS})
