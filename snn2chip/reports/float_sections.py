"""Sections of a page about the float side: quantization error, sensitivity to bits, GPU versus chip, divergence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from snn2chip.reports import float_figures
from snn2chip.reports.page import Part, Section, Table
from snn2chip.reports.result import Report
from snn2chip.reports.units import ranged
from snn2chip.reports.versus import CHIP, FLOAT, Versus, VersusRow

Rows = Sequence[dict[str, Any]]
MOST_COLUMNS = 16
"""Steps in a table."""


def error_section(report: Report) -> Section:
    """Integer against float, layer by layer, and what every layer's bits matter."""
    assert report.fidelity is not None
    layers = report.fidelity["layers"]
    rows = [
        (r["soma"], share(r["free_equal"]), share(r["free_spikes"]), share(r["forced_equal"]),
         f"{r['free_potential']:.2e}", f"{r['forced_potential']:.2e}", r["trained"] or "-")
        for r in layers
    ]  # fmt: skip
    head = ("soma", "payloads equal", "spikes alike", "payloads equal, own error only", "potential error",
            "potential error, own only", "integers of the training")  # fmt: skip
    parts = [
        Part(
            id="errors",
            caption="Root-mean-square difference to the float potentials; read-outs and relays relative to their own "
            "rms. Own error: fed by the float network's payloads.",
            figures=[float_figures.errors(layers)],
            tables=[Table(caption="fidelity per layer", head=head, rows=rows, text=(6,))],
        )
    ]
    if report.sensitivity:
        parts.append(_sensitivity_part(report))
    return Section(id="errors", title="Quantization error", parts=parts)


def _sensitivity_part(report: Report) -> Part:
    assert report.sensitivity is not None
    rows = [
        (r.layer, r.mode, "-" if r.accuracy is None else f"{r.accuracy:.2%}", share(r.agreement), share(1 - r.spikes),
         share(1 - r.lowest))
        for r in report.sensitivity
    ]  # fmt: skip
    head = ("layer", "weights", "accuracy", "same class", "payloads that change", "in the worst layer")
    return Part(
        id="sensitivity",
        title="Which layer needs its bits",
        caption="What changes when this layer's weights alone are quantized and all else stays in float: payloads of "
        "all neurons, and predicted classes. Weights that were trained in few bits stay as they are.",
        figures=[float_figures.sensitivity(report.sensitivity, key) for key in ("spikes", "agreement")],
        tables=[Table(caption="sensitivity per layer and width", head=head, rows=rows, text=(1,))],
    )


def versus_section(report: Report) -> Section:
    """Float model and integer program side by side, and how they part over depth and time."""
    parts = []
    if report.versus is not None:
        parts += _cost_parts(report.versus)
    if report.fidelity is not None:
        parts += _divergence_parts(report.fidelity["layers"])
    return Section(id="versus", title="GPU versus chip", parts=parts)


def _cost_parts(found: Versus) -> list[Part]:
    head = ("figure", "side", "by", "basis", "value")
    rows = [(r.figure, r.side, r.by, r.basis, r.text) for r in found.rows]
    cost = found.float_side
    sources = [
        (f"{e.model}: {f.event}", f"{f.count:,.4g}", f"{f.each['value']:g} {f.each['unit']}", f.each["source"],
         f.each["confidence"], e.formula, e.caveat, ranged(f.joules, "J"))
        for e in cost.energies for f in e.factors
    ]  # fmt: skip
    top = ("term", "count per sample", "each", "source", "confidence", "formula", "caveat", "energy")
    facts = [
        ("device", cost.where),
        ("type of numbers", cost.dtype),
        ("parameters", f"{cost.parameters:,}"),
        ("parameters and buffers", f"{cost.footprint:,} bytes"),
        ("multiplications per sample, as it runs", f"{cost.macs:,.0f} (torch.utils.flop_counter)"),
        *((f"seconds per sample, batch {t.batch}", f"{ranged(t.sample, 's')}, {t.repeats} runs") for t in cost.times),
    ]
    tables = [
        Table(caption="every figure of both sides", head=head, rows=rows, text=(1, 2, 3)),
        Table(caption="float model", head=("what", "value"), rows=facts, text=(1,)),
        Table(caption="energy of the float model, term by term", head=top, rows=sources, text=(3, 4, 5, 6)),
    ]
    chips = list(dict.fromkeys(r.side for r in found.of("latency") if r.side != FLOAT))
    wide = tuple(range(1, len(chips) + 2))
    sides = ("", f"float model ({cost.device})", *chips)
    summary = Table(caption="at a glance", head=sides, rows=_glance(found, chips), text=wide)
    energy, latency = found.of("energy per sample"), found.of("latency")
    return [
        Part(tables=[summary], items=found.notes),
        Part(
            id="versus-energy",
            title="Energy per sample",
            caption="Modelled; bars: range of the sources; only figures of one kind can be compared (see the table).",
            figures=[float_figures.sides(energy, "J")] if energy else [],
            tables=tables,
        ),
        Part(
            id="versus-latency",
            title="Latency of one sample",
            caption="Squares: measured here, batch 1, the middle half of the runs; circles: modelled.",
            figures=[float_figures.sides(latency, "s")] if latency else [],
            tables=[_time_table(found)],
        ),
    ]


def _time_table(found: Versus) -> Table:
    rows = [(r.side, r.by, r.basis, r.figure, ranged(r.value, "s"))
            for r in (*found.of("latency"), *found.of("time per sample"))]  # fmt: skip
    return Table(caption="times", head=("side", "by", "basis", "what", "time"), rows=rows, text=(1, 2, 3))


def _glance(found: Versus, chips: Sequence[str]) -> list[tuple[str, ...]]:
    """Accuracy and agreement, then the first figure of every side."""
    one = {(r.figure, r.side): r.text for r in reversed(found.rows) if r.unit in ("%", "B")}
    rows = [
        (figure, one.get((figure, FLOAT), "-"), *(one.get((figure, CHIP), "-") for _ in chips))
        for figure in ("accuracy", "parameters and states")
    ]
    rows += [
        (f"{figure} as the float model", "", *(one[figure, "both"] for _ in chips))
        for figure in ("same class", "spikes alike")
        if (figure, "both") in one
    ]
    for figure in ("energy per sample", "latency", "time per sample"):
        sides = ([r for r in found.of(figure) if r.side == side] for side in (FLOAT, *chips))
        rows.append((figure, *(_first(side) for side in sides)))
    return rows


def _first(rows: Sequence[VersusRow]) -> str:
    return f"{rows[0].text}: {rows[0].basis}, {rows[0].by}" if rows else "-"


def _divergence_parts(layers: Rows) -> list[Part]:
    steps = len(layers[0]["potential_by_step"]) if layers else 0
    top = [f"t={t}" for t in range(min(steps, MOST_COLUMNS))]

    def table(caption: str, key: str, text: Callable[[float], str]) -> Table:
        rows = [(r["soma"], *(text(v) for v in r[key][:MOST_COLUMNS])) for r in layers if r[key] is not None]
        return Table(caption=caption, head=("soma", *top), rows=rows)

    depth = [
        (r["soma"], share(1 - r["free_equal"]), share(1 - r["free_spikes"]), share(1 - r["forced_equal"]))
        for r in layers if r["free_equal"] is not None
    ]  # fmt: skip
    head = ("soma", "payloads, inherited too", "spikes, inherited too", "payloads, own error only")
    keys = ["equal_by_step", "spikes_by_step", "potential_by_step"]
    drawn = [k for k in keys if any(r[k] is not None for r in layers)]
    return [
        Part(
            id="divergence-depth",
            title="Divergence over depth",
            caption="Integer against float network, all steps and samples.",
            figures=[float_figures.over_depth(layers)] if depth else [],
            tables=[Table(caption="what differs, by layer", head=head, rows=depth)],
        ),
        Part(
            id="divergence-time",
            title="Divergence over time",
            caption="Step by step, inherited errors included.",
            figures=[float_figures.over_time(layers, key) for key in drawn],
            tables=[
                table("payloads that differ, by step", "equal_by_step", lambda v: f"{1 - v:.3%}"),
                table("spikes that differ, by step", "spikes_by_step", lambda v: f"{1 - v:.3%}"),
                table("rms error of the potential, by step", "potential_by_step", lambda v: f"{v:.2e}"),
            ],
        ),
    ]


def share(value: float | None) -> str:
    """A share as a percentage."""
    return "-" if value is None else f"{value:.3%}"
