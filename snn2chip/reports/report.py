"""The report: accuracy, agreement, counts per layer and per sample, and the assumptions behind them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from snn2chip.api import Progress, ready_backend, stream
from snn2chip.errors import InputError
from snn2chip.ir.nodes import Synapse
from snn2chip.ir.program import Program
from snn2chip.reports.counts import Counts
from snn2chip.reports.detail import Detail, DetailCounter
from snn2chip.reports.glimpse import Glimpse, glimpse
from snn2chip.reports.neurobench import NeurobenchCounter
from snn2chip.reports.provenance import provenance

if TYPE_CHECKING:
    from snn2chip.checks.fidelity import Fidelity
    from snn2chip.reports.costs import Costs

VERSION = 2
NOT_WRITTEN = ("program", "glimpse", "per_neuron", "active_neurons", "arrivals")
"""Fields that are not in the JSON form."""

ASSUMPTIONS = (
    "Counted on the integer program, on the samples named here; figures are sums over them unless they say per sample.",
    "A spike is a payload other than 0; a graded spike is ONE synaptic event per synapse it reaches "
    "(payload_weighted_events counts it times its magnitude).",
    "Dense weights are stored and counted with their zeros, sparse weights without; taps on padding do not exist.",
    "neuron_updates: every neuron of the chip at every logical step of every sample; inputs are not neurons.",
    "Input payloads are made off the chip; the events they cause in the first layer are counted, the making is not.",
)


@attrs.frozen(kw_only=True)
class LayerRow:
    """Counts of one soma with the synapses that feed it."""

    soma: str
    layer: str
    neurons: int
    spikes: int
    payload_sum: int
    rate: float
    synaptic_events: int
    payload_weighted_events: int
    effective_operations: int
    dense_events: int
    neuron_updates: int
    saturations: int


@attrs.frozen(kw_only=True)
class Report:
    """What `snn2chip.report` returns; `as_dict` is the JSON form (docs/report-schema.json)."""

    name: str
    digest: str
    samples: int
    steps: int
    accuracy: dict[str, float | None]
    agreement: float | None
    totals: dict[str, int]
    layers: tuple[LayerRow, ...]
    fidelity: dict[str, Any] | None
    detail: Detail | None = None
    costs: Costs | None = None
    neurobench: dict[str, Any] | None = None
    provenance: dict[str, Any] = attrs.field(factory=dict)
    assumptions: tuple[str, ...] = ASSUMPTIONS
    program: Program = attrs.field(repr=False)
    glimpse: Glimpse | None = attrs.field(default=None, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        body = attrs.asdict(self, filter=lambda field, _: field.name not in NOT_WRITTEN)
        return {"format": "snn2chip-report", "version": VERSION, **body}

    def per_sample(self, field: str) -> float:
        """One of the totals per sample."""
        return self.totals[field] / self.samples

    def html(self) -> str:
        """The whole page as text, self-contained."""
        from snn2chip.reports.page import page

        return page(self)

    def _repr_html_(self) -> str:
        from snn2chip.reports.snippets import report_snippet

        return report_snippet(self)


def report(
    program: Program,
    inputs: Any,
    *,
    labels: Any = None,
    float_graph: Any = None,
    float_model: Any = None,
    time_axis: bool = False,
    device: str | None = None,
    progress: Progress | None = None,
    detail: bool = False,
    targets: Sequence[Any] = (),
    energy_models: Sequence[str] = (),
    neurobench: int | None = None,
    execution_rate: float | None = None,
) -> Report:
    """Run `inputs` through `program` and report counts; with `float_graph` also fidelity to the float network.

    `float_graph` is the module that was compiled, or its float graph. `labels [N]` give accuracies. `float_model` is a
    function from raw samples to the real model's logits; without it and without a module the graph stands for the
    model. Without a float graph "float" and "agreement" are None. `detail` adds what `snn2chip.reports.detail` counts;
    `targets` (names, .toml files, Target objects) and `energy_models` also energies and times; `neurobench=n` the
    figures of NeuroBench with calls of n samples. Raises InputError.
    """
    whole = [(inputs, labels)]
    found = measure(
        program,
        whole,
        time_axis=time_axis,
        device=device,
        progress=progress,
        detail=detail,
        targets=targets,
        energy_models=energy_models,
        neurobench=neurobench,
        execution_rate=execution_rate,
    )
    if float_graph is None:
        return found
    from snn2chip.checks.fidelity import fidelity

    measured = fidelity(program, float_graph, inputs, labels=labels, time_axis=time_axis, model=float_model)
    return with_fidelity(found, measured)


def with_fidelity(found: Report, measured: Fidelity) -> Report:
    """The report with what was measured against the float network."""
    accuracy = {"float": measured.float_accuracy, "integer": found.accuracy["integer"]}
    return attrs.evolve(found, accuracy=accuracy, agreement=measured.agreement, fidelity=measured.as_dict())


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
    rows, seen = [], set()
    for soma in program.somas:
        own = counts.sources[soma.name]
        fed = [e.src for e in program.into[soma.name] if isinstance(program[e.src], Synapse) and e.src not in seen]
        seen.update(fed)
        into = [counts.synapses[name] for name in fed]
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
