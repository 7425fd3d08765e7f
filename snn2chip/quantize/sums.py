"""Sums: branches that meet in one soma share one unit of current `delta` per channel.

    delta[c] = step[c] / 2^r           step: value of one weight unit of the branch that sets the unit

That branch (trained integers first, else the finest) keeps its integers and has the exponent r. Where it was float,
an identity of value t moves its step a little, to `t * 2^(r-e) / m`, so that the identity is `m * 2^e` units exactly.
Every other branch is rounded to the unit directly if that costs next to nothing, and else goes through a relay of its
own, which keeps its integers and rounds once, to half a unit. Branches of very unequal size all take relays.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from snn2chip.quantize.spec import FloatArray
from snn2chip.quantize.weights import IntWeights, errors, on_grid, top

IDENTITY_SHIFT = 7
"""Fraction bits under an identity that sets the unit."""

SILENT_BITS = 12
"""Magnitude bits of a channel in which the branch that sets the unit has no weights."""

MAX_EXPONENT = 16
SLACK = 1.25
UNSOUND = 1e6  # what squared error beyond that weighs in a choice
"""How much more squared error than through a relay a branch may have to go without one."""


@attrs.frozen(kw_only=True, eq=False)
class Branch:
    """One linear map into a sum: its own integers and the width it may use.

    `payload`, `mean`, `power`: largest, mean and mean square payload of its source, in payload units;
    `reach [C]`: its largest current on calibration data; `identity`: one weight per channel, no layer of the user's.
    """

    weights: IntWeights
    payload: float
    mean: float
    power: float
    reach: FloatArray
    width: int | str
    identity: bool = False

    @property
    def loss(self) -> FloatArray:
        """Mean squared error `[C]` of the current, the errors of single weights independent."""
        return self.loss_of(self.weights)

    def loss_of(self, weights: IntWeights) -> FloatArray:
        """The same with other integers."""
        off = errors(weights)
        loss: FloatArray = np.einsum("ij,ij->i", off, off) * self.power
        return loss

    def bias_of(self, weights: IntWeights) -> FloatArray:
        """Mean squared error `[C]` of the current with the share that all payloads' mean gives it."""
        off = errors(weights)
        spread: FloatArray = np.einsum("ij,ij->i", off, off) * (self.power - self.mean**2)
        return spread + np.square(off.sum(1) * self.mean)


@attrs.frozen(kw_only=True, eq=False)
class SumPlan:
    """The unit `delta [C]` of a sum and the integers of every branch in it; None: through a relay of its own."""

    delta: FloatArray
    weights: tuple[IntWeights | None, ...]


def plan_sum(branches: Sequence[Branch], reach: FloatArray, *, limit: float, shift: int) -> SumPlan:
    """Choose the unit of a sum whose largest current on calibration data is `reach [C]` (all branches together).

    `limit`: largest integer current; `shift`: fraction bits r under the branch that sets the unit.
    """
    lead = _lead(branches)
    if lead is None:
        return _relays_only(branches, reach, limit)
    chosen = branches[lead]
    room = np.floor(np.log2(limit * chosen.weights.delta / np.maximum(reach, 1e-30)))
    r = int(np.clip(np.median(room), 0, shift))
    if chosen.identity:
        r = int(np.clip(room.min(), 0, IDENTITY_SHIFT))
    if room.min() < r and _fixed(chosen):
        return _relays_only(branches, reach, limit)
    if not _fixed(chosen):
        chosen = attrs.evolve(chosen, weights=on_grid(chosen.weights, _steps(chosen, branches, reach, r, limit)))
    rest = [i for i in range(len(branches)) if i != lead]
    total = np.sum([b.loss for b in branches], axis=0)
    integers = chosen.weights
    if not _fixed(chosen):
        ties = (_tied(chosen, branches[i], r, total) for i in rest if branches[i].identity)
        integers = next((tied for tied in ties if tied is not None), integers)
    delta = integers.delta / 2.0**r
    plan: list[IntWeights | None] = [None] * len(branches)
    plan[lead] = attrs.evolve(integers, delta=delta, exponent=r)
    for i in rest:
        plan[i] = _direct(branches[i], delta, total)
    return SumPlan(delta=delta, weights=tuple(plan))


def _lead(branches: Sequence[Branch]) -> int | None:
    """The branch that sets the unit: the first with trained integers, else the layer with the smallest steps."""
    layers = [i for i, b in enumerate(branches) if not b.identity]
    trained = [i for i in layers if branches[i].weights.exact]
    pool = trained[:1] or layers or [i for i, b in enumerate(branches) if (b.weights.values != 0).all()]
    return min(pool, key=lambda i: float(np.log2(branches[i].weights.delta).mean()), default=None)


def _fixed(lead: Branch) -> bool:
    """Whether a branch keeps its steps: trained integers, identities, and ±1, which have no finer grid."""
    return lead.weights.exact or lead.identity or top(lead.weights.bits) == 1


def _silent(branch: Branch) -> NDArray[np.bool_]:
    """Channels `[C]` in which a branch has no weights."""
    values = branch.weights.values
    found: NDArray[np.bool_] = (values == 0).reshape(len(values), -1).all(1)
    return found


def _steps(lead: Branch, branches: Sequence[Branch], reach: FloatArray, r: int, limit: float) -> FloatArray:
    """Steps of a float branch that leave the sum its 24 bits; those of another where it has no weights itself."""
    others = [np.where(_silent(b), np.inf, b.weights.delta) for b in branches if not b.identity]
    finest = np.min(others, axis=0)
    finest = np.where(np.isinf(finest), reach * 2.0 ** (r - SILENT_BITS), finest)
    own = np.where(_silent(lead), finest, lead.weights.delta)
    steps = np.maximum(own, reach * 2.0**r / limit)
    return np.where(steps > 0, steps, 1.0)


def _relays_only(branches: Sequence[Branch], reach: FloatArray, limit: float) -> SumPlan:
    delta = np.where(reach > 0, reach, 1.0) / limit
    return SumPlan(delta=delta, weights=(None,) * len(branches))


def _tied(lead: Branch, identity: Branch, r: int, total: FloatArray) -> IntWeights | None:
    """The lead's weights on steps that make `identity` exact, unless that costs any channel much."""
    highest = top(identity.width)
    value = identity.weights.delta * np.abs(identity.weights.values)
    wide = value * 2.0**r / lead.weights.delta
    exponent = max(0, int(np.ceil(np.log2(max(float(wide.max()), 1e-30) / highest))))
    if exponent > MAX_EXPONENT:
        return None
    options: list[FloatArray] = []
    for whole in (np.floor(wide / 2.0**exponent), np.ceil(wide / 2.0**exponent)):
        m = np.clip(whole, 1, highest)
        options.append(np.where(value > 0, value * 2.0 ** (r - exponent) / m, lead.weights.delta))
    down, up = (on_grid(lead.weights, step) for step in options)
    room = SLACK * (total + np.square(options[0] / 2.0**r) / 12) - total + lead.loss  # what the lead itself may lose
    worth = [lead.bias_of(w) + UNSOUND * np.maximum(lead.loss_of(w) - room, 0.0) for w in (down, up)]
    best = on_grid(lead.weights, np.where(worth[0] <= worth[1], options[0], options[1]))
    steady = lead.bias_of(best).sum() <= SLACK * (lead.bias_of(lead.weights) + room - lead.loss).sum()
    return best if bool((lead.loss_of(best) <= room).all() and steady) else None


def _direct(branch: Branch, delta: FloatArray, total: FloatArray) -> IntWeights | None:
    """A branch rounded to the unit, if no channel loses much by it; None if a relay is better."""
    if branch.weights.exact and not branch.weights.fitted and not branch.identity:
        return _shifted(branch.weights, delta)
    target = branch.weights.target
    highest = top(branch.width)
    ratio = np.abs(target).reshape(len(target), -1).max(1) / delta
    exponent = max(0, int(np.ceil(np.log2(max(float(ratio.max()), 1e-30) / highest))))
    if exponent > MAX_EXPONENT:
        return None
    grid = attrs.evolve(branch.weights, bits=branch.width, exact=False, fitted=False)
    placed = attrs.evolve(on_grid(grid, delta * 2.0**exponent), delta=delta, exponent=exponent)
    if branch.identity:  # as good as a relay, or a factor right to ten bits
        off = np.abs(placed.values * delta * 2.0**exponent - target)
        return placed if bool(((off * branch.payload <= delta) | (off <= np.abs(target) / 1024)).all()) else None
    relayed = total + np.square(delta) / 12
    return placed if bool((total - branch.loss + branch.loss_of(placed) <= SLACK * relayed).all()) else None


def _shifted(weights: IntWeights, delta: FloatArray) -> IntWeights | None:
    """Trained integers, which stay as they are, in a unit that is a power of two below their own; None in any other."""
    ratio = np.log2(weights.delta / delta)
    exponent = int(np.rint(ratio[0]))
    if not 0 <= exponent <= MAX_EXPONENT or (np.abs(ratio - exponent) > 2.0**-20).any():
        return None
    return attrs.evolve(weights, delta=delta, exponent=exponent)


def whole_units(target: FloatArray) -> IntWeights:
    """A per-channel factor `[C]` as -1, 0 or 1 with the unit |factor|: exact."""
    values = np.sign(target).astype(np.int64)
    delta = np.where(target == 0.0, 1.0, np.abs(target))
    bits: int | str = 1 if (values != 0).all() else "ternary"
    return IntWeights(values=values, delta=delta, bits=bits, exact=True, target=target)
