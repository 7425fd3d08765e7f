"""The report: accuracy, agreement, counts per layer and per sample, and the assumptions behind them."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from snn2chip.api import Progress, run
from snn2chip.errors import InputError
from snn2chip.ir.nodes import Synapse
from snn2chip.ir.program import Program
from snn2chip.reports.counts import Counts

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
    dense_events: int
    neuron_updates: int
    saturations: int


@attrs.frozen(kw_only=True)
class Report:
    """What `snn2chip.report` returns; `as_dict` is the JSON form."""

    name: str
    digest: str
    samples: int
    steps: int
    accuracy: dict[str, float | None]
    agreement: float | None
    totals: dict[str, int]
    layers: tuple[LayerRow, ...]
    fidelity: dict[str, Any] | None
    assumptions: tuple[str, ...] = ASSUMPTIONS

    def as_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {"format": "snn2chip-report", "version": 1, **attrs.asdict(self)}

    def per_sample(self, field: str) -> float:
        """One of the totals per sample."""
        return self.totals[field] / self.samples


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
) -> Report:
    """Run `inputs` through `program` and report counts; with `float_graph` also fidelity to the float network.

    `float_graph` is the module that was compiled, or its float graph. `labels [N]` give accuracies. `float_model` is a
    function from raw samples to the real model's logits; without it and without a module the graph stands for the
    model. Without a float graph "float" and "agreement" are None. Raises InputError.
    """
    trace = run(
        program, inputs, backend="torch", device=device, record="outputs", time_axis=time_axis, progress=progress
    )
    y = None if labels is None else np.asarray(labels)
    if y is not None and len(y) != trace.samples:
        raise InputError(f"{len(y)} labels for {trace.samples} samples")
    integer = None if y is None else float((trace.pred == y).mean())
    measured = None
    if float_graph is not None:
        from snn2chip.checks.fidelity import fidelity

        measured = fidelity(program, float_graph, inputs, labels=labels, time_axis=time_axis, model=float_model)
    return Report(
        name=program.name,
        digest=program.digest(),
        samples=trace.samples,
        steps=program.steps,
        accuracy={"float": None if measured is None else measured.float_accuracy, "integer": integer},
        agreement=None if measured is None else measured.agreement,
        totals=trace.counts.totals,
        layers=layer_rows(program, trace.counts),
        fidelity=None if measured is None else measured.as_dict(),
    )


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
                dense_events=sum(row["dense_events"] for row in into),
                neuron_updates=own["neuron_updates"],
                saturations=own["saturations"],
            )
        )
    return tuple(rows)
