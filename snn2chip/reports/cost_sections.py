"""Sections of a report's page about energy, time and cores."""

from __future__ import annotations

from snn2chip.reports import cost_figures
from snn2chip.reports.costs import Costs, TargetCosts
from snn2chip.reports.energy import Estimate
from snn2chip.reports.page import Part, Section, Table
from snn2chip.reports.units import quantity, ranged


def energy_section(costs: Costs) -> Section:
    """Energies side by side, factors, totals, verdicts, caveats."""
    chips = [(target.name, e) for target in costs.targets for e in target.estimates]
    off = [("off chip", e) for e in costs.arithmetic]
    head = ("model", "network", "is", "status", "confidence", "energy", "formula", "caveat")
    parts = []
    for name, title, rows in (("energy-chips", "On the chips", chips), ("energy-off", "Off the chip", off)):
        if not rows:
            continue
        labels = [f"{where}: {e.model}" if where != "off chip" else f"{e.model}: {e.network}" for where, e in rows]
        parts.append(
            Part(
                id=name,
                title=title,
                caption="Per sample, modelled; the line is the range of the sources. Never add different kinds up.",
                figures=[cost_figures.energy([e for _, e in rows], labels)],
                tables=[
                    Table(caption="energies", head=head, rows=[_row(w, e) for w, e in rows], text=(1, 2, 3, 4, 6, 7)),
                    Table(caption="factors", head=FACTORS, rows=_factors(rows), text=(1, 5, 6, 7)),
                ],
            )
        )
    rows = [
        (t.name, x.energy, x.timing, *(ranged(r, "J") for r in (x.dynamic, x.static, x.total)), x.power["source"],
         x.power["confidence"])
        for t in costs.targets for x in t.totals
    ]  # fmt: skip
    if rows:
        top = ("target", "energy model", "timing model", "dynamic", "static", "total", "power from", "confidence")
        table = Table(caption="dynamic + static = total, every pair of models", head=top, rows=rows, text=(1, 2, 6, 7))
        parts.append(Part(title="With static power", tables=[table]))
    if costs.verdicts:
        said = [(v.basis, f"{v.ratio:,.2f}", v.verdict, v.note) for v in costs.verdicts]
        table = Table(caption="verdicts", head=("basis", "SNN / ANN", "verdict", "note"), rows=said, text=(2, 3))
        parts.append(
            Part(
                id="verdicts",
                title="Against the ANN",
                caption="Spiking network over ANN; red: the spiking network is dearer, green: cheaper, grey: open.",
                figures=[cost_figures.ratios(costs)],
                tables=[table],
            )
        )
    parts.append(Part(title="How to read this", items=costs.caveats))
    used = {k.strip() for e in [*(e for _, e in chips), *costs.arithmetic] for f in e.factors
            for k in str(f.each["source"]).split(",")}  # fmt: skip
    named = [(key, costs.sources.get(key, "")) for key in sorted(used)]
    parts.append(Part(tables=[Table(caption="sources", head=("key", "source"), rows=named, text=(1,), fold=True)]))
    return Section(id="energy", title="Energy", parts=parts)


FACTORS = ("model", "event", "count per sample", "each (pJ)", "range (pJ)", "source", "confidence", "note", "energy")


def _row(where: str, e: Estimate) -> tuple[str, ...]:
    return (
        f"{where}: {e.model}", e.network, e.scope, e.status, e.confidence, ranged(e.joules, "J"), e.formula, e.caveat,
    )  # fmt: skip


def _factors(rows: list[tuple[str, Estimate]]) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for where, e in rows:
        for f in e.factors:
            lo, hi = f.each.get("lo", f.each["value"]), f.each.get("hi", f.each["value"])
            found.append((
                f"{where}: {e.model}", f.event, f"{f.count:,.1f}", f"{f.each['value']:g}",
                "-" if lo == hi else f"{lo:g} .. {hi:g}", str(f.each["source"]), str(f.each["confidence"]),
                str(f.each.get("note", "")), ranged(f.joules, "J"),
            ))  # fmt: skip
    return found


def time_section(costs: Costs) -> Section:
    """Times by model, with the terms of the busiest core."""
    rows, terms, how = [], [], []
    for target in costs.targets:
        for t in target.timings:
            rows.append((
                f"{target.name}: {t.model}", t.kind, t.status, t.busiest or "-", ranged(t.step, "s"),
                ranged(t.sample, "s"), quantity(t.latency.value, "s"),
            ))  # fmt: skip
            how.append((f"{target.name}: {t.model}", t.title, t.formula, t.caveat))
            for term in t.terms:
                terms.append((
                    f"{target.name}: {t.model}", term.event, f"{term.count:,.2f}", f"{term.each['value']:g}",
                    term.each["source"], term.each["confidence"], ranged(term.seconds, "s"),
                ))  # fmt: skip
    head = ("model", "kind", "status", "busiest core", "step", "sample", "latency")
    factor_head = ("model", "term", "count per step", "each (ns)", "source", "confidence", "time")
    tables = [
        Table(caption="time by model", head=head, rows=rows, text=(1, 2, 3)),
        Table(caption="formulas", head=("model", "title", "formula", "caveat"), rows=how, text=(1, 2, 3), fold=True),
        Table(caption="terms of the busiest core", head=factor_head, rows=terms, text=(1, 4, 5), fold=True),
    ]
    return Section(
        id="time",
        title="Time",
        text=["From the slowest core and the barrier, means over steps and samples."],
        parts=[Part(tables=tables)],
    )


def core_section(costs: Costs) -> Section:
    """Cores with the limit that binds them."""
    parts = []
    for target in costs.targets:
        if target.refused:
            title = f"{target.title}: cannot run this program as it is; the figures are those of its counts"
            reasons = [(i, line) for i, line in enumerate(target.refused, 1)]
            why = Table(
                caption=f"{len(reasons)} reasons",
                head=("", "what, and what would help"),
                rows=reasons,
                text=(1,),
                fold=True,
            )
            parts.append(Part(title=title, tables=[why]))
        if not target.core_map:
            parts.append(Part(title=target.title, items=[f"{target.cores:,} cores: {target.floor}"]))
            continue
        chips = sorted({row["chip"] for row in target.core_map})
        rows = [
            (row["core"], row["chip"], f"{row['x']},{row['y']}", row["population"], f"{row['neurons']:,}",
             row["binding"], f"{row['utilisation']:.1%}")
            for row in target.core_map
        ]  # fmt: skip
        head = ("core", "chip", "tile", "population", "neurons", "binding limit", "used")
        parts.append(
            Part(
                id=f"cores-{target.name}",
                title=f"{target.title}: {target.cores:,} cores on {target.chips} chip{'s' if target.chips > 1 else ''}",
                caption=f"{target.floor}. {target.traffic.note}.",
                figures=[cost_figures.core_map(target.core_map, chip) for chip in chips[:4]],
                tables=[
                    Table(caption="cores", head=head, rows=rows, text=(3, 5)),
                    Table(caption="traffic per sample", head=("what", "count"), rows=_traffic(target)),
                ],
            )
        )
    return Section(id="cores", title="Cores", parts=parts)


def _traffic(target: TargetCosts) -> list[tuple[str, str]]:
    found = target.traffic
    rows = (
        ("messages", found.messages),
        ("deliveries on a tile", found.deliveries),
        ("hops east-west", found.hops_ew),
        ("hops north-south", found.hops_ns),
        ("messages on the busiest link", found.busiest_link),
    )
    return [(name, f"{count:,.1f}") for name, count in rows]
