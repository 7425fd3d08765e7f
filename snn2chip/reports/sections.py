"""Sections of a report's page: what is drawn, and the table under every drawing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from snn2chip.ir.nodes import Synapse, describe
from snn2chip.reports import figures
from snn2chip.reports.cost_sections import core_section, energy_section, time_section
from snn2chip.reports.float_sections import error_section, versus_section
from snn2chip.reports.page import Part, Section, Table
from snn2chip.reports.result import Report
from snn2chip.reports.rows import layer_table


def all_sections(report: Report) -> Iterator[Section]:
    """Every section, in the order of the page."""
    yield network_section(report)
    yield activity_section(report)
    if report.fidelity is not None:
        yield versus_section(report)
        yield error_section(report)
    if report.costs is not None:
        yield energy_section(report.costs)
        yield time_section(report.costs)
        yield core_section(report.costs)
    yield layer_section(report)
    yield Section(id="assumptions", title="What the figures assume", parts=[Part(items=report.assumptions)])
    yield Section(id="provenance", title="Provenance", parts=[provenance_part(report)])


def network_section(report: Report) -> Section:
    """The graph, and its nodes as a table."""
    program = report.program
    rows = []
    for node in program.order:
        shape = "x".join(map(str, program.shapes[node.name])) if node.name in program.shapes else ""
        what = f"{node.kind}, {node.bits} bits" if isinstance(node, Synapse) else getattr(node, "fire", "")
        rows.append(
            (describe(node), type(node).__name__, shape, what, ", ".join(e.src for e in program.into[node.name]))
        )
    table = Table(caption="nodes", head=("node", "kind", "shape", "what", "from"), rows=rows, text=(1, 2, 3, 4))
    part = Part(
        id="network",
        caption="Boxes are populations (blue: fires, orange: read-out, green: input), arrows synapses.",
        figures=[figures.network(program)],
        tables=[table],
    )
    return Section(id="network", title="Network", parts=[part])


def activity_section(report: Report) -> Section:
    """Rasters, potentials, rates, payloads, firing per step."""
    parts = []
    if report.glimpse is not None:
        looks = [look for look in report.glimpse.looks if np.any(look.payloads)]
        rows = [
            (x.node, x.neurons, len(x.shown), int((x.payloads != 0).sum()), int(np.abs(x.payloads).max(initial=0)))
            for x in report.glimpse.looks
        ]
        head = ("population", "neurons", "shown", "spikes shown", "largest payload")
        parts.append(
            Part(
                id="rasters",
                title="Spikes of the first sample",
                caption="A mark per payload other than 0; the stronger, the larger; red: negative.",
                figures=[figures.raster(look) for look in looks],
                tables=[Table(caption="spikes of the first sample", head=head, rows=rows)],
            )
        )
        traced = [look for look in report.glimpse.looks if look.potentials is not None and look.traced]
        values = [
            (look.node, neuron, *(int(v) for v in look.potentials[:16, i]))
            for look in traced
            for i, neuron in enumerate(look.traced)
        ]
        steps = min(report.steps, 16)
        parts.append(
            Part(
                id="membranes",
                title="Potentials of the busiest neurons",
                caption="After the reset of each step, integers; dashed: threshold.",
                figures=[figures.membrane(look) for look in traced],
                tables=[
                    Table(
                        caption="potentials",
                        head=("population", "neuron", *(f"t={t}" for t in range(steps))),
                        rows=values,
                    )
                ],
            )
        )
    if report.detail is not None:
        parts += _detail_parts(report)
    return Section(id="activity", title="Activity", parts=parts)


def _detail_parts(report: Report) -> list[Part]:
    detail = report.detail
    assert detail is not None
    rows = [r for r in detail.sources if r.payload != "none"]
    shares = [(r.node, *(f"{1 - s:.2%}" for s in r.sparsity_per_step[:16])) for r in rows]
    steps = min(report.steps, 16)
    bins = len(rows[0].rate_histogram) if rows else 1
    rate_rows = [(r.node, r.silent_neurons, *r.rate_histogram) for r in rows]
    rate_head = ("population", "silent", *(f"{i / bins:.2f}" for i in range(bins)))
    payload_rows = [
        (r.node, str(lo) if lo == hi else f"{lo}..{hi}", n) for r in rows for lo, hi, n in r.payload_histogram if n
    ]
    first_rows = [(r.node, r.never_spiked, *r.first_spikes[:16]) for r in rows]
    first_head = ("population", "never", *(f"t={t}" for t in range(steps)))
    return [
        Part(
            id="firing",
            title="Neurons that fire, per step",
            figures=[figures.firing(detail)],
            tables=[
                Table(caption="firing per step", head=("population", *(f"t={t}" for t in range(steps))), rows=shares),
                Table(caption="first spikes (neurons x samples)", head=first_head, rows=first_rows),
            ],
        ),
        Part(
            id="rates",
            title="Firing rates",
            figures=[figures.rates(r, detail.steps) for r in rows],
            tables=[Table(caption="neurons by firing rate (lower edge)", head=rate_head, rows=rate_rows)],
        ),
        Part(
            id="payloads",
            title="Payloads",
            figures=[figures.payloads(r) for r in rows if r.spikes],
            tables=[Table(caption="payloads, 0 included", head=("population", "payload", "count"), rows=payload_rows)],
        ),
    ]


def layer_section(report: Report) -> Section:
    """Counts per layer and sample."""
    n = report.samples

    def per(value: float | None) -> str:
        return "-" if value is None else f"{value / n:,.1f}"

    keys = ("spikes", "payload_sum", "synaptic_events", "payload_weighted_events", "bit_events", "effective_operations",
            "dense_events", "neuron_updates", "active_updates")  # fmt: skip
    rows = [
        (r["soma"], r["shape"], f"{r['neurons']:,}", f"{r['rate']:.2%}", *(per(r[k]) for k in keys))
        for r in layer_table(report)
    ]
    head = ("soma", "shape", "neurons", "firing", "spikes", "payload sum", "synaptic events", "x payload", "x set bits",
            "effective", "dense", "updates", "active updates")  # fmt: skip
    parts = [Part(tables=[Table(caption="counts per sample", head=head, rows=rows)])]
    if report.detail is not None:
        words = f"Words that wait: {report.detail.delay_words:,} in delays, {report.detail.window_words:,} in windows."
        parts.append(Part(items=[words]))
    return Section(id="layers", title="Counts per layer", parts=parts)


def provenance_part(report: Report) -> Part:
    """Versions, hashes, command, seed."""
    found = report.provenance
    rows = [(k, v) for k, v in found.items() if k not in ("versions", "notes", "inputs") and v is not None]
    rows += [(f"SHA-256 of {name}", v) for name, v in found.get("inputs", {}).items()]
    rows += [(f"{name} version", v) for name, v in found.get("versions", {}).items()]
    rows += [(f"note: {name}", v) for name, v in found.get("notes", {}).items()]
    table = Table(caption=f"provenance of {report.name}", head=("what", "value"), rows=rows, text=(1,))
    return Part(tables=[table])
