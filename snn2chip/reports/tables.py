"""Reports as terminal tables (rich)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from snn2chip.reports.result import Report
from snn2chip.reports.units import quantity, ranged

if TYPE_CHECKING:
    from rich.table import Table

    from snn2chip.reports.costs import Costs
    from snn2chip.reports.versus import Versus


def counts_table(report: Report) -> Table:
    """Counts per layer and per sample."""
    from rich.table import Table

    table = Table(title=f"{report.name}: counts per sample, {report.samples} samples, T={report.steps}")
    table.add_column("soma")
    bits = _bit_events(report)
    heads = ["neurons", "firing", "spikes", "payload", "syn. events", "x payload"]
    for head in (*heads, *(["x set bits"] if bits else []), "of dense", "updates", "sat"):
        table.add_column(head, justify="right")
    n = report.samples

    def row(name: str, cells: dict[str, Any]) -> list[str]:
        extra = [f"{bits[name] / n:,.0f}"] if bits else []
        return [
            name,
            f"{cells['neurons']:,}",
            cells["rate"],
            f"{cells['spikes'] / n:,.1f}",
            f"{cells['payload_sum'] / n:,.1f}",
            f"{cells['synaptic_events'] / n:,.0f}",
            f"{cells['payload_weighted_events'] / n:,.0f}",
            *extra,
            cells["share"],
            f"{cells['neuron_updates'] / n:,.0f}",
            f"{cells['saturations']:,}",
        ]

    for layer in report.layers:
        share = layer.synaptic_events / layer.dense_events if layer.dense_events else 0.0
        cells = attrs.asdict(layer)
        table.add_row(*row(layer.soma, {**cells, "rate": f"{layer.rate:.1%}", "share": f"{share:.1%}"}))
    table.add_section()
    neurons = sum(r.neurons for r in report.layers)
    table.add_row(*row("total", {**report.totals, "neurons": neurons, "rate": "", "share": ""}))
    return table


def _bit_events(report: Report) -> dict[str, int]:
    """Events times set bits per soma and in total; empty without detailed counts."""
    if report.detail is None:
        return {}
    from snn2chip.reports.workload import synapses_into

    fed = synapses_into(report.program)
    rows = {soma: sum(report.detail.synapse(s).bit_events for s in names) for soma, names in fed.items()}
    return {**rows, "total": sum(rows.values())}


def fidelity_table(fidelity: dict[str, Any]) -> Table:
    """Float fidelity per layer: fed by integer layers (free) and by the float network (forced)."""
    from rich.table import Table

    table = Table(title=f"float fidelity, {fidelity['samples']} samples: {fidelity['agreement']:.2%} same class")
    table.add_column("soma")
    for head in ("firing", "payloads equal", "own error only", "spikes alike", "potential error", "own error only"):
        table.add_column(head, justify="right")
    trained = any(row["trained"] for row in fidelity["layers"])
    if trained:
        table.add_column("integers of the training")
    for row in fidelity["layers"]:
        table.add_row(
            row["soma"],
            "-" if row["rate"] is None else f"{row['rate']:.1%}",
            "-" if row["free_equal"] is None else f"{row['free_equal']:.3%}",
            "-" if row["forced_equal"] is None else f"{row['forced_equal']:.3%}",
            "-" if row["free_spikes"] is None else f"{row['free_spikes']:.3%}",
            f"{row['free_potential']:.2e}",
            f"{row['forced_potential']:.2e}",
            *([row["trained"] or "-"] if trained else []),
        )
    return table


def outputs_table(fidelity: dict[str, Any]) -> Table:
    """Float fidelity per output: predictions, accuracies and the error of the values."""
    from rich.table import Table

    table = Table(title="outputs against the float model")
    for head in ("output", "read"):
        table.add_column(head)
    for head in ("same class", "float accuracy", "integer accuracy", "value error"):
        table.add_column(head, justify="right")
    for row in fidelity["outputs"]:
        accuracies = [row["float_accuracy"], row["integer_accuracy"]]
        table.add_row(
            row["output"],
            row["read"],
            f"{row['agreement']:.2%}",
            *("-" if value is None else f"{value:.4f}" for value in accuracies),
            "-" if row["error"] is None else f"{row['error']:.2e}",
        )
    return table


def versus_table(versus: Versus) -> Table:
    """Float model and chips, figure by figure."""
    from rich.table import Table

    table = Table(title=f"float model ({versus.float_side.where}) against the chips")
    for head in ("figure", "side", "by", "basis"):
        table.add_column(head)
    table.add_column("value", justify="right")
    last = ""
    for row in versus.rows:
        if last and row.figure != last:
            table.add_section()
        last = row.figure
        table.add_row(row.figure, row.side, row.by, row.basis, row.text)
    return table


def cost_tables(costs: Costs) -> list[Table]:
    """Energy by model, time by model, totals with static power, and the verdicts."""
    from rich.table import Table

    energy = Table(title="energy per sample, modelled (J); dynamic, total and arithmetic are never added up")
    for head in ("where", "network", "model", "kind", "status", "confidence"):
        energy.add_column(head)
    energy.add_column("energy", justify="right")
    for target in costs.targets:
        for row in target.estimates:
            cells = (target.name, "SNN", row.model, row.scope, row.status, row.confidence)
            energy.add_row(*cells, ranged(row.joules, "J"))
        energy.add_section()
    for row in costs.arithmetic:
        cells = ("off chip", row.network, row.model, row.scope, row.status, row.confidence)
        energy.add_row(*cells, ranged(row.joules, "J"))

    power = Table(title="dynamic + static = total per sample (one timing model each; all pairs in the JSON)")
    for head in ("target", "energy", "timing"):
        power.add_column(head)
    for head in ("dynamic", "static", "total"):
        power.add_column(head, justify="right")
    for target in costs.targets:
        if not target.totals:
            continue
        first = target.totals[0].timing
        for total in target.totals:
            if total.timing == first:
                found = [ranged(r, "J") for r in (total.dynamic, total.static, total.total)]
                power.add_row(target.name, total.energy, total.timing, *found)

    time = Table(title="time, modelled: slowest core and barrier")
    for head in ("target", "cores", "chips", "model", "status", "busiest"):
        time.add_column(head)
    for head in ("step", "sample", "latency"):
        time.add_column(head, justify="right")
    for target in costs.targets:
        for t in target.timings:
            where = (target.name, str(target.cores), str(target.chips), t.model, t.status, t.busiest or "-")
            time.add_row(*where, ranged(t.step, "s"), quantity(t.sample.value, "s"), quantity(t.latency.value, "s"))

    verdict = Table(title="spiking network against the ANN")
    verdict.add_column("basis")
    verdict.add_column("SNN / ANN", justify="right")
    verdict.add_column("verdict")
    for v in costs.verdicts:
        if "one pass on" in v.basis and not v.basis.endswith("alu-45nm"):
            continue  # the accelerators' floors are in the JSON and on the page
        verdict.add_row(v.basis, f"{v.ratio:,.2f}", v.verdict)
    return [energy, power, time, verdict]
