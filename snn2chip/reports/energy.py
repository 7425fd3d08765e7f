"""Energy per sample by every model of a target, with factors, ranges and sources; modelled, never measured.

    E_dyn   = sum over events  count * energy            dynamic only
    E_static = P_static * chips * T_sample                all allocated chips, used or not
    E_total  = E_dyn + E_static                          host and embedded processors are not in it

A model whose figures already hold static power (`scope = "total"`) has no dynamic part of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from snn2chip.mapping.fact import Fact
from snn2chip.mapping.target import Model, Target
from snn2chip.reports.workload import Workload

PICO = 1e-12


@attrs.frozen(kw_only=True)
class Range:
    """A figure with the smallest and largest that its sources support."""

    value: float
    lo: float
    hi: float

    def __add__(self, other: Range) -> Range:
        return Range(value=self.value + other.value, lo=self.lo + other.lo, hi=self.hi + other.hi)

    def times(self, factor: float) -> Range:
        """Multiplied by a number without uncertainty."""
        return Range(value=self.value * factor, lo=self.lo * factor, hi=self.hi * factor)

    @property
    def width(self) -> float:
        """hi / lo."""
        return self.hi / self.lo if self.lo else float("inf")


ZERO = Range(value=0.0, lo=0.0, hi=0.0)


@attrs.frozen(kw_only=True)
class Factor:
    """One term of a formula: `count` events of `each` (pJ, ns or W), with the source of the constant."""

    event: str
    count: float
    each: Mapping[str, Any]
    joules: Range


@attrs.frozen(kw_only=True)
class Estimate:
    """Energy of one sample by one model. Exactly one of `dynamic`, `total` or `arithmetic` is given by `scope`."""

    model: str
    title: str
    network: str
    scope: str
    status: str
    formula: str
    caveat: str
    confidence: str
    factors: tuple[Factor, ...]
    joules: Range


@attrs.frozen(kw_only=True)
class Total:
    """Dynamic, static and total energy of one energy and one timing model."""

    energy: str
    timing: str
    formula: str
    dynamic: Range
    static: Range
    total: Range
    power: Mapping[str, Any]


def spread(fact: Fact) -> Range:
    """A fact as a range."""
    lo, hi = fact.range
    return Range(value=float(fact.value), lo=float(lo), hi=float(hi))


def factor(event: str, count: float, fact: Fact) -> Factor:
    """`count` events of an energy in pJ, in joules."""
    return Factor(event=event, count=count, each=fact.plain(), joules=spread(fact).times(count * PICO))


def estimate(model: Model, counts: Mapping[str, float], *, network: str, formula: str = "") -> Estimate:
    """Sum over the events that the model prices; events with a count of 0 stay in, with 0 J."""
    factors = tuple(factor(name, counts[name], fact) for name, fact in model.events.items() if name in counts)
    return Estimate(
        model=model.name,
        title=model.title,
        network=network,
        scope=model.scope,
        status=model.status,
        formula=formula or model.formula,
        caveat=model.caveat,
        confidence=", ".join(sorted({c.strip() for f in factors for c in str(f.each["confidence"]).split(",")})),
        factors=factors,
        joules=sum((f.joules for f in factors), ZERO),
    )


def chip_estimates(target: Target, load: Workload, only: tuple[str, ...] = ()) -> list[Estimate]:
    """Every event model of a chip (those named in `only`, if any)."""
    models = [m for m in target.energies.values() if m.kind == "events" and (not only or m.name in only)]
    return [estimate(m, load.events(), network="spiking network on the chip") for m in models]


def totals(target: Target, found: list[Estimate], seconds: Mapping[str, Range], chips: int) -> list[Total]:
    """Dynamic + static for every pair of a dynamic energy model and a timing model; empty without a static power."""
    power = target.power.get("static_per_chip")
    if power is None:
        return []
    watts = spread(power).times(chips)
    rows = []
    for energy in found:
        if energy.scope != "dynamic":
            continue
        for timing, time in seconds.items():
            static = Range(value=watts.value * time.value, lo=watts.lo * time.lo, hi=watts.hi * time.hi)
            rows.append(
                Total(
                    energy=energy.model,
                    timing=timing,
                    formula=f"E_total = E_dyn + static_per_chip * {chips} chips * T_sample",
                    dynamic=energy.joules,
                    static=static,
                    total=energy.joules + static,
                    power=power.plain(),
                )
            )
    return rows
