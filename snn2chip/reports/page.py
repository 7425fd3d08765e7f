"""One self-contained HTML page: figures as inline SVG, a table under every figure, nothing loaded from anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from snn2chip.errors import BackendUnavailable
from snn2chip.reports.result import Report
from snn2chip.reports.rows import shown, side_by_side
from snn2chip.reports.units import quantity


@attrs.frozen(kw_only=True)
class Table:
    """A table; `text` columns are left-aligned, a table with `fold` starts closed."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    text: Sequence[int] = ()
    fold: bool = False


@attrs.frozen(kw_only=True)
class Part:
    """Figures with their tables."""

    id: str = ""
    title: str = ""
    caption: str = ""
    figures: Sequence[str] = ()
    tables: Sequence[Table] = ()
    items: Sequence[str] = ()


@attrs.frozen(kw_only=True)
class Section:
    """One heading of the page."""

    id: str
    title: str
    text: Sequence[str] = ()
    parts: Sequence[Part] = ()


@attrs.frozen(kw_only=True)
class Card:
    """One figure of the summary."""

    name: str
    value: str
    note: str = ""


def render(
    *, title: str, subtitle: str, cards: Sequence[Card], sections: Iterable[Section], notes: Sequence[str] = ()
) -> str:
    """The page as text. Raises BackendUnavailable when jinja2 or matplotlib is missing."""
    from jinja2 import Environment, PackageLoader

    place = Environment(loader=PackageLoader("snn2chip.reports"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = place.get_template("report.html.j2")
    filled = [s for s in sections if s.parts]
    return template.render(title=title, subtitle=subtitle, cards=cards, sections=filled, notes=notes)


def drawable() -> None:
    """Raise BackendUnavailable when what draws pages is missing."""
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise BackendUnavailable(
            f"pages need matplotlib and jinja2: pip install 'snn2chip[report]' ({error})"
        ) from error


def page(report: Report) -> str:
    """The report as a page. Raises BackendUnavailable when jinja2 or matplotlib is missing."""
    drawable()
    from snn2chip.reports.drawing import Sheet
    from snn2chip.reports.sections import all_sections

    Sheet.made = 0  # ids count figures of this page: equal reports are equal pages
    return render(
        title=f"snn2chip report: {report.name}",
        subtitle=f"{report.samples:,} samples, T = {report.steps}, program {report.digest[:16]}",
        cards=_cards(report),
        sections=all_sections(report),
        notes=report.notes,
    )


def _cards(report: Report) -> list[Card]:
    n = report.samples
    cards = []
    if (right := report.accuracy["integer"]) is not None:
        was = report.accuracy["float"]
        cards.append(Card(name="accuracy", value=f"{right:.2%}", note="" if was is None else f"float {was:.2%}"))
    if report.agreement is not None:
        cards.append(Card(name="same class as float", value=f"{report.agreement:.2%}"))
    cards.append(Card(name="neurons", value=f"{sum(r.neurons for r in report.layers):,}"))
    cards.append(Card(name="spikes per sample", value=f"{report.per_sample('spikes'):,.0f}"))
    dense = report.totals["dense_events"] or 1
    cards.append(
        Card(
            name="synaptic events per sample",
            value=f"{report.totals['synaptic_events'] / n:,.0f}",
            note=f"{report.totals['synaptic_events'] / dense:.1%} of dense",
        )
    )
    for target in () if report.costs is None else report.costs.targets:
        for estimate in target.estimates[:1]:
            j = estimate.joules
            note = f"{estimate.model}, {estimate.scope}, {estimate.status}"
            if j.lo != j.hi:
                note = f"{quantity(j.lo, 'J')} .. {quantity(j.hi, 'J')}; {note}"
            cards.append(Card(name=f"energy per sample, {target.name}", value=quantity(j.value, "J"), note=note))
    return cards


def comparison_page(a: Report, b: Report, names: Sequence[str]) -> str:
    """Two reports side by side as a page."""
    rows = [
        (
            r["figure"],
            shown(r["a"], r["unit"]),
            shown(r["b"], r["unit"]),
            "-" if r["ratio"] is None else f"{r['ratio']:.3g}",
        )
        for r in side_by_side(a, b)
    ]
    table = Table(caption="key figures", head=("figure", f"A: {names[0]}", f"B: {names[1]}", "B / A"), rows=rows)
    caveats = () if a.costs is None else a.costs.caveats
    from snn2chip.reports.sections import provenance_part

    return render(
        title=f"snn2chip: {names[0]} and {names[1]}",
        subtitle=f"{a.samples:,} and {b.samples:,} samples",
        cards=(),
        sections=[
            Section(id="figures", title="Side by side", parts=[Part(tables=[table])]),
            Section(id="caveats", title="How to read the energies", parts=[Part(items=caveats)] if caveats else []),
            Section(id="provenance", title="Provenance", parts=[provenance_part(a), provenance_part(b)]),
        ],
    )
