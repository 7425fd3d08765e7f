"""Reports as terminal tables (rich)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from snn2chip.reports.report import Report

if TYPE_CHECKING:
    from rich.table import Table


def counts_table(report: Report) -> Table:
    """Counts per layer and per sample."""
    from rich.table import Table

    table = Table(title=f"{report.name}: counts per sample, {report.samples} samples, T={report.steps}")
    table.add_column("soma")
    for head in ("neurons", "firing", "spikes", "payload", "syn. events", "x payload", "of dense", "updates", "sat"):
        table.add_column(head, justify="right")
    n = report.samples
    for row in report.layers:
        share = row.synaptic_events / row.dense_events if row.dense_events else 0.0
        table.add_row(
            row.soma,
            f"{row.neurons:,}",
            f"{row.rate:.1%}",
            f"{row.spikes / n:,.1f}",
            f"{row.payload_sum / n:,.1f}",
            f"{row.synaptic_events / n:,.0f}",
            f"{row.payload_weighted_events / n:,.0f}",
            f"{share:.1%}",
            f"{row.neuron_updates / n:,.0f}",
            f"{row.saturations:,}",
        )
    t = report.totals
    table.add_section()
    table.add_row(
        "total",
        f"{sum(r.neurons for r in report.layers):,}",
        "",
        f"{t['spikes'] / n:,.1f}",
        f"{t['payload_sum'] / n:,.1f}",
        f"{t['synaptic_events'] / n:,.0f}",
        f"{t['payload_weighted_events'] / n:,.0f}",
        "",
        f"{t['neuron_updates'] / n:,.0f}",
        f"{t['saturations']:,}",
    )
    return table


def fidelity_table(fidelity: dict[str, Any]) -> Table:
    """Float fidelity per layer: fed by integer layers (free) and by the float network (forced)."""
    from rich.table import Table

    table = Table(title=f"float fidelity, {fidelity['samples']} samples: {fidelity['agreement']:.2%} same class")
    table.add_column("soma")
    for head in ("firing", "payloads equal", "own error only", "potential error", "own error only"):
        table.add_column(head, justify="right")
    for row in fidelity["layers"]:
        table.add_row(
            row["soma"],
            "-" if row["rate"] is None else f"{row['rate']:.1%}",
            "-" if row["free_equal"] is None else f"{row['free_equal']:.3%}",
            "-" if row["forced_equal"] is None else f"{row['forced_equal']:.3%}",
            f"{row['free_potential']:.2e}",
            f"{row['forced_potential']:.2e}",
        )
    return table
