"""Neuron programs as text for an engineer: one line per step with its width and range."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from snn2chip.errors import InputError
from snn2chip.ir.nodes import describe
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.ir.validate import source_range
from snn2chip.mapping.target import Target
from snn2chip.micro.lower import lower_soma
from snn2chip.micro.step import Listing, Step
from snn2chip.micro.widths import Widths, bits_of, width_breaches, widths


def unmixed_range(program: Program, soma: Soma) -> tuple[int, int]:
    """Static bounds of the summed current of `soma` at one step, before a window mixes it."""
    found = [source_range(program, edge.src) for edge in program.into[soma.name]]
    return sum(lo for lo, _ in found), sum(hi for _, hi in found)


def micro_text(program: Program, target: Target, *, only: str | None = None) -> str:
    """The neuron programs of all somas, or of the one named; raises InputError that lists the somas."""
    return "\n".join(line for soma in _named(program, only) for line in (*soma_lines(program, soma, target), ""))


def _named(program: Program, only: str | None) -> list[Soma]:
    somas = [soma for soma in program.somas if only in (None, soma.name)]
    if only is not None and not somas:
        raise InputError(f"there is no soma {only!r}; there are {', '.join(s.name for s in program.somas)}")
    return somas


def micro_rows(program: Program, target: Target, *, only: str | None = None) -> list[dict[str, Any]]:
    """The same as plain values that fit JSON."""
    rows = []
    for soma in _named(program, only):
        listing = lower_soma(soma, program.steps, target)
        found = widths(listing, unmixed_range(program, soma))
        rows.append(
            {
                "soma": soma.name,
                "layer": soma.layer,
                "target": target.name,
                "operations": listing.operations(),
                "registers": {n: list(found.registers[n]) for n in ("a", *listing.state, "payload")},
                "arrive": list(_plain(listing.arrive, found.arrive)),
                "step": list(_plain(listing.step, found.step)),
                "breaches": [b.text for b in width_breaches(listing, found, target)],
            }
        )
    return rows


def _plain(lines: tuple[Step, ...], ends: tuple[tuple[int, int], ...]) -> Iterator[dict[str, Any]]:
    for line, (lo, hi) in zip(lines, ends, strict=True):
        args = [str(arg) for arg in line.args]
        yield {"op": line.op, "out": line.out, "args": args, "bits": bits_of(lo, hi), "range": [lo, hi]}


def soma_lines(program: Program, soma: Soma, target: Target) -> Iterator[str]:
    """Head, registers, steps and width breaches of one soma."""
    listing = lower_soma(soma, program.steps, target)
    found = widths(listing, unmixed_range(program, soma))
    neuron = target.neuron
    each = f"state {_bits(neuron.state_bits.value)}, coefficient {_bits(neuron.coefficient_bits.value)}"
    shape = " x ".join(map(str, soma.shape))
    yield f"{describe(soma)}: {shape} neurons, fire {soma.fire}, reset {soma.reset}"
    yield f"  {target.title}: {each}, product {_bits(neuron.product_bits.value)}, compare {neuron.compare.value}"
    for name in ("a", *listing.state):
        lo, hi = found.registers[name]
        what = "current in" if name == "a" else f"state, starts at {listing.state[name]}"
        yield f"  {name:<10} {bits_of(lo, hi):>3} bits  {lo}..{hi}  {what}"
    if listing.arrive:
        yield "  when the currents of step t have arrived:"
        yield from _table(listing.arrive, found.arrive, 1)
    yield "  at step t:"
    yield from _table(listing.step, found.step, len(listing.arrive) + 1)
    yield "  " + _summary(listing, found)
    yield from (f"  ! {breach}" for breach in width_breaches(listing, found, target))


def _bits(value: float) -> str:
    return "unlimited" if math.isinf(value) else f"{value} bits"


def _table(lines: tuple[Step, ...], ends: tuple[tuple[int, int], ...], first: int) -> Iterator[str]:
    for i, (line, (lo, hi)) in enumerate(zip(lines, ends, strict=True), start=first):
        args = ", ".join(map(str, line.args))
        text = f"  {i:>4}  {line.out:<8} <- {line.op:<6} {args:<34} {bits_of(lo, hi):>3} bits  {lo}..{hi}"
        yield f"{text}  ; {line.note}" if line.note else text


def _summary(listing: Listing, found: Widths) -> str:
    kinds = ", ".join(f"{n} {kind}" for kind, n in listing.operations().items())
    return f"{len(listing.arrive) + len(listing.step)} steps ({kinds}); widest result {found.product} bits"
