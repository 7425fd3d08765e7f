"""Numbers with SI prefixes, for people."""

from __future__ import annotations

import math

from snn2chip.reports.energy import Range

PREFIXES = {-15: "f", -12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G"}


def quantity(value: float, unit: str) -> str:
    """`1.36e-3, "J"` as `1.36 mJ`."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g} {unit}"
    power = min(max(3 * math.floor(math.log10(abs(value)) / 3 + 1e-12), -15), 9)
    return f"{value / 10**power:.3g} {PREFIXES[power]}{unit}"


def ranged(found: Range, unit: str) -> str:
    """Value with its range, if it has one."""
    if found.lo == found.hi:
        return quantity(found.value, unit)
    return f"{quantity(found.value, unit)} ({quantity(found.lo, unit)} .. {quantity(found.hi, unit)})"
