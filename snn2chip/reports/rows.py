"""A report as rows: one per layer (CSV), and the key figures of two reports side by side."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snn2chip.reports.result import Report
from snn2chip.reports.workload import synapses_into

COLUMNS = (
    *("soma", "layer", "shape", "neurons", "steps", "samples", "payload", "rate", "spikes", "payload_sum"),
    *("synaptic_events", "payload_weighted_events", "bit_events", "effective_operations", "dense_events"),
    *("neuron_updates", "active_updates", "silent_neurons", "window_words", "weights", "zero_weights", "saturations"),
    *("payloads_equal_to_float", "potential_error"),
)
"""Columns of the CSV; counts are sums over all samples."""


def layer_table(report: Report) -> list[dict[str, Any]]:
    """One row per soma, by `COLUMNS`; None where it was not measured."""
    fed, rows = synapses_into(report.program), []
    fidelity = {r["soma"]: r for r in (report.fidelity or {}).get("layers", ())}
    for layer in report.layers:
        row: dict[str, Any] = dict.fromkeys(COLUMNS)
        row.update({k: getattr(layer, k) for k in COLUMNS if hasattr(layer, k)})
        row.update(shape="x".join(map(str, report.program.shapes[layer.soma])), steps=report.steps)
        row["samples"] = report.samples
        if report.detail is not None:
            source = report.detail.source(layer.soma)
            synapses = [report.detail.synapse(name) for name in fed[layer.soma]]
            row.update({k: getattr(source, k) for k in ("payload", "active_updates", "silent_neurons", "window_words")})
            row["bit_events"] = sum(s.bit_events for s in synapses)
            row["weights"] = sum(s.stored for s in synapses)
            row["zero_weights"] = sum(s.zeros for s in synapses)
        if layer.soma in fidelity:
            row["payloads_equal_to_float"] = fidelity[layer.soma]["free_equal"]
            row["potential_error"] = fidelity[layer.soma]["free_potential"]
        rows.append(row)
    return rows


def write_csv(path: Path, report: Report) -> None:
    """Write one line per layer beside the target and rename it."""
    from snn2chip.ir.files import replacing

    with replacing(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(layer_table(report))


def key_figures(report: Report) -> dict[str, tuple[float | None, str]]:
    """What two programs are compared by: value and unit ("" for a plain number)."""
    n, p = report.samples, report.program
    synapses = p.synapses
    bits = {"ternary": 2}
    found: dict[str, tuple[float | None, str]] = {
        "float accuracy": (report.accuracy["float"], "%"),
        "integer accuracy": (report.accuracy["integer"], "%"),
        "agreement with the float network": (report.agreement, "%"),
        "steps T": (report.steps, ""),
        "neurons": (sum(s.size for s in p.somas), ""),
        "weights stored": (sum(int(s.values().size) for s in synapses), ""),
        "weight bits": (sum(int(s.values().size) * int(bits.get(str(s.bits), s.bits)) for s in synapses), "bit"),
    }
    for key, name in (
        ("spikes", "spikes"),
        ("input_spikes", "input spikes"),
        ("synaptic_events", "synaptic events"),
        ("payload_weighted_events", "events x payload"),
        ("effective_operations", "effective operations"),
        ("dense_events", "dense operations"),
        ("neuron_updates", "neuron updates"),
    ):
        found[f"{name} per sample"] = (report.totals[key] / n, "")
    if report.detail is not None:
        found["events x set bits per sample"] = (sum(s.bit_events for s in report.detail.synapses) / n, "")
        active = sum(s.active_updates or 0 for s in report.detail.sources)
        found["active updates per sample"] = (active / n, "")
        found["words that wait"] = (report.detail.delay_words + report.detail.window_words, "")
    if report.costs is not None:
        for target in report.costs.targets:
            found[f"{target.name}: cores"] = (target.cores, "")
            found[f"{target.name}: messages per sample"] = (target.traffic.messages, "")
            found[f"{target.name}: hops per sample"] = (target.traffic.hops_ew + target.traffic.hops_ns, "")
            for e in target.estimates:
                found[f"{target.name}: {e.scope} energy, {e.model}"] = (e.joules.value, "J")
            for t in target.timings:
                found[f"{target.name}: time per sample, {t.model}"] = (t.sample.value, "s")
        for e in report.costs.arithmetic:
            found[f"{e.network}, {e.model}"] = (e.joules.value, "J")
    return found


def side_by_side(a: Report, b: Report) -> list[Mapping[str, Any]]:
    """Key figures of both, with the ratio b / a where both are numbers."""
    left, right = key_figures(a), key_figures(b)
    rows: list[Mapping[str, Any]] = []
    for name in dict.fromkeys((*left, *right)):
        va, unit = left.get(name, (None, ""))
        vb, unit_b = right.get(name, (None, ""))
        ratio = vb / va if va and vb is not None else None
        rows.append({"figure": name, "unit": unit or unit_b, "a": va, "b": vb, "ratio": ratio})
    return rows


def comparison(a: Report, b: Report) -> dict[str, Any]:
    """The JSON form of a comparison."""
    return {
        "format": "snn2chip-comparison",
        "version": 1,
        "rows": [dict(row) for row in side_by_side(a, b)],
        "a": a.as_dict(),
        "b": b.as_dict(),
    }


def shown(value: float | None, unit: str) -> str:
    """A key figure as text."""
    from snn2chip.reports.units import quantity

    if value is None:
        return "-"
    if unit == "%":
        return f"{value:.2%}"
    if unit in ("J", "s"):
        return quantity(value, unit)
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"
