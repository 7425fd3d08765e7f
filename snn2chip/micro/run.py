"""The interpreter of neuron programs, on int64 arrays: a listing means what it computes here."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from snn2chip.ir.types import IntArray
from snn2chip.micro.step import Arg, Listing, Step, compute

Watch = Callable[[Step, IntArray], None]
"""Called with every step that was run and its result."""


def run_listing(listing: Listing, currents: IntArray, *, watch: Watch | None = None) -> tuple[IntArray, IntArray]:
    """Payloads and potentials `[T, B, *shape]` of the program fed with summed (unmixed) currents of that shape."""
    soma = listing.soma
    full = currents.shape[1:]
    registers = {name: np.broadcast_to(start.at(soma, 0), full) for name, start in listing.state.items()}
    for t, a in enumerate(currents if listing.arrive else ()):
        _run(listing, listing.arrive, {**registers, "a": a}, t, registers, watch)
    payloads, potentials = [], []
    for t, a in enumerate(currents):
        found = {**registers, "a": a}
        _run(listing, listing.step, found, t, registers, watch)
        payloads.append(np.broadcast_to(registers.pop("payload"), full))
        potentials.append(np.broadcast_to(registers["v"], full))
    return np.stack(payloads), np.stack(potentials)


def _run(
    listing: Listing,
    lines: tuple[Step, ...],
    found: dict[str, IntArray],
    t: int,
    kept: dict[str, IntArray],
    watch: Watch | None,
) -> None:
    """Run `lines` on the registers `found`; state registers and the payload are left in `kept`."""

    def value(arg: Arg) -> IntArray:
        if isinstance(arg, str):
            return found[f"bank{t}" if arg == "bank[t]" else arg]
        return arg.at(listing.soma, t)

    for line in lines:
        found[line.out] = compute(line.op, [value(arg) for arg in line.args], listing.soma)
        if watch is not None:
            watch(line, found[line.out])
        if line.out in listing.state or line.out == "payload":
            kept[line.out] = found[line.out]
