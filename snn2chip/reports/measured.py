"""Counting over blocks of samples: the part of a report that needs the integer program alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from snn2chip.api import Progress, ready_backend, stream
from snn2chip.errors import InputError
from snn2chip.ir.program import Program
from snn2chip.reports.counts import Counts
from snn2chip.reports.detail import Detail, DetailCounter
from snn2chip.reports.glimpse import glimpse
from snn2chip.reports.neurobench import NeurobenchCounter
from snn2chip.reports.provenance import provenance
from snn2chip.reports.result import LayerRow, Report
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
    wants_all = wants_detail or neurobench is not None
    counter = DetailCounter(program) if wants_detail else None
    bench = NeurobenchCounter(program, batch=neurobench) if neurobench is not None else None
    size = None
    if bench is not None and bench.batch > 1:
        own = ready_backend("torch", program, device=device).block(program)
        size = max(own // bench.batch, 1) * bench.batch
    counts, first, hits, labelled, done = None, None, 0, True, 0
    for inputs, labels in blocks:
        y = None if labels is None else np.asarray(labels)
        labelled = labelled and y is not None
        start = 0
        for trace in stream(
            program,
            inputs,
            device=device,
            record="all" if wants_all else "outputs",
            time_axis=time_axis,
            block=size,
            progress=_shifted(progress, done),
        ):
            if wants_all and first is None:
                first = glimpse(program, trace)
            for part in (counter, bench):
                if part is not None:
                    part.add(trace)
            counts = trace.counts if counts is None else counts + trace.counts
            if y is not None:
                part_y = y[start : start + trace.samples]
                hits += int((trace.pred[: len(part_y)] == part_y).sum())
            start += trace.samples
        if y is not None and len(y) != start:
            raise InputError(f"{len(y)} labels for {start} samples")
        done += start
    if counts is None:
        raise InputError("no samples given")
    found = counter.result() if counter is not None else None
    return Report(
        name=program.name,
        digest=program.digest(),
        samples=counts.samples,
        steps=program.steps,
        accuracy={"float": None, "integer": hits / counts.samples if labelled else None},
        agreement=None,
        totals=counts.totals,
        layers=layer_rows(program, counts),
        fidelity=None,
        detail=found,
        costs=_costs(program, found, targets, energy_models),
        neurobench=None if bench is None else bench.result(execution_rate=execution_rate),
        provenance=provenance(program),
        program=program,
        glimpse=first,
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
