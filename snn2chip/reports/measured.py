"""Counting over blocks of samples: the part of a report that needs the integer program alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from snn2chip.api import Progress
from snn2chip.errors import InputError
from snn2chip.ir.program import Program
from snn2chip.reports.counts import Counts
from snn2chip.reports.detail import Detail
from snn2chip.reports.provenance import provenance
from snn2chip.reports.result import LayerRow, Report
from snn2chip.reports.tally import Tally
from snn2chip.reports.workload import synapses_into

if TYPE_CHECKING:
    from snn2chip.reports.costs import Costs


def measure(
    program: Program,
    blocks: Iterable[tuple[Any, Any]],
    *,
    time_axis: bool = False,
    device: str | None = None,
    progress: Progress | None = None,
    detail: bool = False,
    targets: Sequence[Any] = (),
    energy_models: Sequence[str] = (),
    neurobench: int | None = None,
    execution_rate: float | None = None,
) -> Report:
    """Count over `blocks` of (inputs, labels or None), in memory that does not grow with their number.

    The arguments are those of `report`. Raises InputError.
    """
    wants_detail = detail or bool(targets) or bool(energy_models)
    tally = Tally(program, detail=wants_detail, neurobench=neurobench, device=device)
    for inputs, labels in blocks:
        tally.add(inputs, labels, time_axis=time_axis, progress=_shifted(progress, tally.samples))
    return report_of(tally, targets=targets, energy_models=energy_models, execution_rate=execution_rate)


def report_of(
    tally: Tally,
    *,
    targets: Sequence[Any] = (),
    energy_models: Sequence[str] = (),
    execution_rate: float | None = None,
) -> Report:
    """The report of what was counted. Raises InputError for no samples."""
    program, counts = tally.program, tally.counts
    if counts is None:
        raise InputError("no samples given")
    found = tally.detail.result() if tally.detail is not None else None
    return Report(
        name=program.name,
        digest=program.digest(),
        samples=counts.samples,
        steps=program.steps,
        accuracy={"float": None, "integer": tally.accuracy},
        agreement=None,
        totals=counts.totals,
        layers=layer_rows(program, counts),
        fidelity=None,
        detail=found,
        costs=_costs(program, found, targets, energy_models),
        neurobench=None if tally.bench is None else tally.bench.result(execution_rate=execution_rate),
        provenance=provenance(program),
        program=program,
        glimpse=tally.glimpse,
    )


def _shifted(progress: Progress | None, done: int) -> Progress | None:
    """Progress that counts on from `done` samples."""
    return None if progress is None else lambda n, total: progress(done + n, done + total)


def _costs(program: Program, found: Detail | None, targets: Sequence[Any], models: Sequence[str]) -> Costs | None:
    if found is None or not (targets or models):
        return None
    from snn2chip.reports.costs import BOTH, costs

    return costs(program, found, targets=targets or BOTH, models=models)


def layer_rows(program: Program, counts: Counts) -> tuple[LayerRow, ...]:
    """One row per soma; a synapse that feeds several somas is counted once, at the first."""
    rows, fed = [], synapses_into(program)
    for soma in program.somas:
        own = counts.sources[soma.name]
        into = [counts.synapses[name] for name in fed[soma.name]]
        rows.append(
            LayerRow(
                soma=soma.name,
                layer=soma.layer,
                neurons=own["neurons"],
                spikes=own["spikes"],
                payload_sum=own["payload_sum"],
                rate=own["spikes"] / max(own["neuron_updates"], 1),
                synaptic_events=sum(row["synaptic_events"] for row in into),
                payload_weighted_events=sum(row["payload_weighted_events"] for row in into),
                effective_operations=sum(row["effective_operations"] for row in into),
                dense_events=sum(row["dense_events"] for row in into),
                neuron_updates=own["neuron_updates"],
                saturations=own["saturations"],
            )
        )
    return tuple(rows)
