"""What a report is: accuracy, agreement, counts per layer and per sample, costs, and the assumptions behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from snn2chip.ir.program import Program
from snn2chip.reports.detail import Detail
from snn2chip.reports.glimpse import Glimpse

if TYPE_CHECKING:
    from snn2chip.checks.sensitivity import Sensitivity
    from snn2chip.reports.costs import Costs
    from snn2chip.reports.versus import Versus

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
    sensitivity: tuple[Sensitivity, ...] | None = None
    versus: Versus | None = None
    notes: tuple[str, ...] = ()
    provenance: dict[str, Any] = attrs.field(factory=dict)
    assumptions: tuple[str, ...] = ASSUMPTIONS
    program: Program = attrs.field(repr=False)
    glimpse: Glimpse | None = attrs.field(default=None, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        body = attrs.asdict(self, filter=lambda field, _: field.name not in NOT_WRITTEN)
        return {"format": "snn2chip-report", "version": VERSION, **body}

    def origin(self) -> dict[str, Any]:
        """Where the report comes from, without the moment: what files say that are the same for equal work."""
        return {key: value for key, value in self.provenance.items() if key != "made"}

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
