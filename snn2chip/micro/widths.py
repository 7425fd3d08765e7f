"""Proven widths: every register's range over a sample, by interval arithmetic per channel, and what it breaks.

The state starts at its value at the start of a sample and is carried through every step with the currents anywhere in
their static range, so a range holds for every input. Where a select takes `x - c` under `x >= c` (or x itself), the
condition narrows the branch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs
import numpy as np

from snn2chip.ir.types import V_MAX, IntArray
from snn2chip.mapping.target import Target
from snn2chip.micro.step import Arg, Listing, Param, Step

FOLLOWED = 64
"""Longest sample that is followed step by step; longer ones start from any state."""


@attrs.frozen
class Interval:
    """Elementwise bounds, inclusive; arrays that broadcast against the soma's shape."""

    lo: IntArray
    hi: IntArray

    @property
    def ends(self) -> tuple[int, int]:
        """Smallest and largest value of all."""
        return int(self.lo.min()), int(self.hi.max())


def bits_of(lo: int, hi: int) -> int:
    """Bits of the smallest two's complement integer that holds `lo..hi`."""
    return max(hi.bit_length() if hi >= 0 else (-hi - 1).bit_length(), (-lo - 1).bit_length() if lo < 0 else 0) + 1


@attrs.frozen(kw_only=True)
class Widths:
    """Range of every step's result (in the order of the listing) and of every register, over a whole sample."""

    arrive: tuple[tuple[int, int], ...]
    step: tuple[tuple[int, int], ...]
    registers: Mapping[str, tuple[int, int]]

    @property
    def product(self) -> int:
        """Bits of the widest result."""
        return max((bits_of(*ends) for ends in (*self.arrive, *self.step)), default=1)


def widths(listing: Listing, current: tuple[int, int]) -> Widths:
    """Ranges of all registers for any currents within `current` (before mixing, with a window)."""
    return _Follower(listing, current).follow()


class _Follower:
    def __init__(self, listing: Listing, current: tuple[int, int]) -> None:
        self.listing = listing
        self.a = Interval(np.array(current[:1]), np.array(current[1:]))
        self.registers: dict[str, tuple[int, int]] = {}
        self.results: dict[int, tuple[int, int]] = {}

    def follow(self) -> Widths:
        """Walk through a sample."""
        listing, soma = self.listing, self.listing.soma
        state = {n: Interval(p.at(soma, 0), p.at(soma, 0)) for n, p in listing.state.items()}
        for name, found in state.items():
            self.note(name, found)
        self.note("a", self.a)
        for t in range(listing.steps if listing.arrive else 0):
            self.run(listing.arrive, {**state, "a": self.a}, state, t, 0)
        offset = len(listing.arrive)
        if listing.steps > FOLLOWED:
            state = {n: found if n.startswith("bank") else self.anything(n) for n, found in state.items()}
            for name, found in state.items():
                self.note(name, found)
        varied = [arg.values.shape[0] for line in listing.step for arg in line.args if isinstance(arg, Param)]
        for t in range(listing.steps if listing.steps <= FOLLOWED or listing.arrive else max([1, *varied])):
            before = dict(state)
            self.run(listing.step, {**state, "a": self.a}, state, t, offset)
            if listing.steps > FOLLOWED:
                state = before
        ends = [self.results[i] for i in range(offset + len(listing.step))]
        return Widths(arrive=tuple(ends[:offset]), step=tuple(ends[offset:]), registers=self.registers)

    def anything(self, name: str) -> Interval:
        """Every value that a state register can hold."""
        sent = V_MAX if self.listing.soma.fire == "delta" else int(self.listing.soma.levels.max())
        top = {"v": V_MAX, "u": V_MAX + 1}.get(name, sent)
        low = 0 if name == "s_prev" and self.listing.soma.fire != "delta" else -top
        return Interval(np.array([low]), np.array([top]))

    def note(self, name: str, found: Interval) -> None:
        """Widen the range of a register."""
        lo, hi = found.ends
        old = self.registers.get(name, (lo, hi))
        self.registers[name] = min(lo, old[0]), max(hi, old[1])

    def run(
        self, lines: tuple[Step, ...], found: dict[str, Interval], kept: dict[str, Interval], t: int, offset: int
    ) -> None:
        """Ranges after `lines` at step `t`; state registers go to `kept`."""
        made: dict[str, Step] = {}

        def value(arg: Arg) -> Interval:
            if isinstance(arg, str):
                return found[f"bank{t}" if arg == "bank[t]" else arg]
            row = arg.at(self.listing.soma, t)
            return Interval(row, row)

        for i, line in enumerate(lines):
            args = [value(arg) for arg in line.args]
            if line.op == "select":
                result = self.select(line, args, made, value)
            else:
                result = combine(line.op, args, self.listing)
            found[line.out] = result
            made[line.out] = line
            lo, hi = result.ends
            old = self.results.get(offset + i, (lo, hi))
            self.results[offset + i] = min(lo, old[0]), max(hi, old[1])
            self.note(line.out, result)
            if line.out in self.listing.state:
                kept[line.out] = result

    def select(
        self, line: Step, args: list[Interval], made: Mapping[str, Step], value: Callable[[Arg], Interval]
    ) -> Interval:
        """Union of the branches, each narrowed by the comparison that chooses it."""
        mask, yes, no = args
        test = made.get(str(line.args[0]))
        if test is not None and test.op in ("ge", "gt"):
            bar = value(test.args[1]).lo + (test.op == "gt")
            yes = Interval(np.maximum(yes.lo, self._least(line.args[1], test, bar, made, value, yes.lo)), yes.hi)
            if line.args[2] == test.args[0]:
                no = Interval(no.lo, np.minimum(no.hi, bar - 1))
        can, must = mask.hi != 0, mask.lo > 0
        yes_ok, no_ok = can & (yes.lo <= yes.hi), ~must & (no.lo <= no.hi)
        lo = np.where(yes_ok & no_ok, np.minimum(yes.lo, no.lo), np.where(yes_ok, yes.lo, no.lo))
        hi = np.where(yes_ok & no_ok, np.maximum(yes.hi, no.hi), np.where(yes_ok, yes.hi, no.hi))
        return Interval(lo, hi)

    def _least(
        self,
        arg: Arg,
        test: Step,
        bar: IntArray,
        made: Mapping[str, Step],
        value: Callable[[Arg], Interval],
        otherwise: IntArray,
    ) -> IntArray:
        """Smallest value of a branch taken when `test`'s register is at least `bar`."""
        if arg == test.args[0]:
            return bar
        source = made.get(arg) if isinstance(arg, str) else None
        if source is not None and source.op == "sub" and source.args[0] == test.args[0]:
            return bar - value(source.args[1]).hi
        return otherwise


def combine(op: str, args: list[Interval], listing: Listing) -> Interval:
    """Range of one step's result from the ranges of its operands."""
    x = args[0]
    if op == "copy":
        return x
    if op == "lookup":
        assert listing.soma.table is not None
        lo, hi = x.ends
        entries = listing.soma.table[lo : hi + 1]
        return Interval(entries.min().reshape(1), entries.max().reshape(1))
    y = args[1]
    if op == "add":
        return Interval(x.lo + y.lo, x.hi + y.hi)
    if op == "sub":
        return Interval(x.lo - y.hi, x.hi - y.lo)
    if op in ("min", "max"):
        pick = np.minimum if op == "min" else np.maximum
        return Interval(pick(x.lo, y.lo), pick(x.hi, y.hi))
    if op in ("ge", "gt"):
        sure, can = (x.lo >= y.hi, x.hi >= y.lo) if op == "ge" else (x.lo > y.hi, x.hi > y.lo)
        return Interval(sure.astype(np.int64), can.astype(np.int64))
    if op == "and":  # a value that fits a mask of ones stays
        inside = (x.lo >= 0) & (x.hi <= y.lo) & ((y.lo & (y.lo + 1)) == 0)
        return Interval(np.where(inside, x.lo, 0), np.where(inside, x.hi, y.hi))
    corners = [_exact(op, a, b) for a in (x.lo, x.hi) for b in (y.lo, y.hi)]
    return Interval(np.minimum.reduce(corners), np.maximum.reduce(corners))


def _exact(op: str, a: IntArray, b: IntArray) -> IntArray:
    found: IntArray = a * b if op == "mul" else np.left_shift(a, b) if op == "shl" else np.right_shift(a, b)
    return found


@attrs.frozen
class WidthBreach:
    """Something too wide (or missing) for a target; `certain`: by a constant, whatever the data are."""

    text: str
    certain: bool

    def __str__(self) -> str:
        return self.text


def width_breaches(listing: Listing, found: Widths, target: Target) -> list[WidthBreach]:
    """What of a listing the target's registers, coefficients, products and operations cannot hold or do."""
    neuron = target.neuron
    state, product = neuron.state_bits.value, neuron.product_bits.value
    unknown = [kind for kind in listing.operations() if kind not in neuron.operations.value]
    bad = [WidthBreach(f"needs the operation {kind!r}, which is not there", True) for kind in unknown]
    if (n := bits_of(*found.registers["a"])) > neuron.current_bits.value:
        text = f"its current may need {n} bits, the target sums {neuron.current_bits.value}"
        bad.append(WidthBreach(text, False))
    for name in listing.state:
        if (n := bits_of(*found.registers[name])) > state:
            bad.append(WidthBreach(f"register {name} may need {n} bits, the target keeps {state}", False))
    lines = [*zip(listing.arrive, found.arrive, strict=True), *zip(listing.step, found.step, strict=True)]
    for i, (line, ends) in enumerate(lines, start=1):
        if (n := bits_of(*ends)) > product:
            text = f"step {i} ({line.op}) may need {n} bits, the target computes in {product}"
            bad.append(WidthBreach(text, False))
        bad += [attrs.evolve(b, text=f"step {i} ({line.op}): {b.text}") for b in _operands(line, found, target)]
    return bad


def _operands(line: Step, found: Widths, target: Target) -> list[WidthBreach]:
    state = target.neuron.state_bits.value
    bad = []
    for arg in line.args:
        if isinstance(arg, str):
            n = bits_of(*found.registers.get(arg, (0, 0)))
            if line.op == "mul" and n > state:
                bad.append(WidthBreach(f"factor {arg} may need {n} bits, the target multiplies {state}", False))
        elif line.op == "mul":
            bad += [WidthBreach(text, True) for text in _coefficient(arg, target)]
        elif arg.name and line.op in ("ge", "gt", "add", "sub", "select") and bits_of(arg.lo, arg.hi) > state:
            needed = bits_of(arg.lo, arg.hi)
            bad.append(WidthBreach(f"constant {arg} needs {needed} bits, the target keeps {state}", True))
    return bad


def _coefficient(arg: Param, target: Target) -> list[str]:
    most, signed = target.neuron.coefficient_bits.value, target.neuron.coefficient_signed.value
    if arg.lo < 0 and not signed:
        return [f"coefficient {arg} is negative, the target's have no sign"]
    needed = bits_of(arg.lo, arg.hi) - (0 if signed else 1)
    return [f"coefficient {arg} needs {needed} bits, the target has {most}"] if needed > most else []
