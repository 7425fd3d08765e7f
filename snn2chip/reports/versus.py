"""The float model on a GPU (or here on a CPU) beside the integer program on its chips: one table, figure by figure.

What is measured and what is modelled is said of every figure, and of every constant behind it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from snn2chip.reports.energy import Range
from snn2chip.reports.float_cost import FloatCost
from snn2chip.reports.neurobench import footprints
from snn2chip.reports.units import ranged

if TYPE_CHECKING:
    from snn2chip.reports.result import Report

FLOAT, CHIP = "float model", "integer program"


@attrs.frozen(kw_only=True)
class VersusRow:
    """One figure of one side: `by` names the model or measurement, `basis` its kind, status and confidence."""

    figure: str
    side: str
    by: str
    basis: str
    unit: str
    value: Range

    @property
    def text(self) -> str:
        """The value in its unit, with its range."""
        if self.unit == "%":
            return f"{self.value.value:.2%}"
        return f"{self.value.value:,.0f} bytes" if self.unit == "B" else ranged(self.value, self.unit)


@attrs.frozen(kw_only=True)
class Versus:
    """Float model and integer program; `notes` say how far the sides can be compared."""

    float_side: FloatCost
    rows: tuple[VersusRow, ...]
    notes: tuple[str, ...]

    def of(self, figure: str) -> list[VersusRow]:
        """Rows of one figure."""
        return [row for row in self.rows if row.figure == figure]


def versus(report: Report, cost: FloatCost) -> Versus:
    """The table of `report`, which holds costs and fidelity, and the cost of its float model."""
    rows = [*_answers(report), *_energies(report, cost), *_times(report, cost), *_memory(report, cost)]
    notes = [
        f"float model: {cost.dtype} on {cost.where}; seconds are measured on this machine as it was just now",
        "integer program: energies and times are modelled, never measured; see How to read this",
        "dynamic, total and arithmetic energies are different things: compare like with like",
    ]
    if cost.power is None:
        notes.append(f"no power of {cost.name} is known: its energy is arithmetic only; state it with --board-power W")
    if cost.device == "cpu":
        notes.append("the float side ran on the CPU, not on a GPU")
    return Versus(float_side=cost, rows=tuple(rows), notes=tuple(notes))


def _exact(value: float) -> Range:
    return Range(value=value, lo=value, hi=value)


def _answers(report: Report) -> Iterator[VersusRow]:
    for side, key in ((FLOAT, "float"), (CHIP, "integer")):
        if (found := report.accuracy[key]) is not None:
            yield VersusRow(figure="accuracy", side=side, by=f"{report.samples:,} samples", basis="counted", unit="%",
                            value=_exact(found))  # fmt: skip
    shares = {"same class": report.agreement}
    if report.fidelity is not None:
        shares["spikes alike"] = report.fidelity["spike_agreement"]
    for name, share in shares.items():
        if share is not None:
            yield VersusRow(figure=name, side="both", by=f"{report.samples:,} samples", basis="counted", unit="%",
                            value=_exact(share))  # fmt: skip


def _energies(report: Report, cost: FloatCost) -> Iterator[VersusRow]:
    figure = "energy per sample"
    for e in cost.energies:
        basis = f"{e.scope}, {e.status}, confidence {e.confidence}"
        yield VersusRow(figure=figure, side=FLOAT, by=e.model, basis=basis, unit="J", value=e.joules)
    for target in () if report.costs is None else report.costs.targets:
        for e in target.estimates:
            basis = f"{e.scope}, {e.status}, confidence {e.confidence}"
            yield VersusRow(figure=figure, side=target.name, by=e.model, basis=basis, unit="J", value=e.joules)
        for total in target.totals:
            if total.timing == target.totals[0].timing:
                by = f"{total.energy} + static over {total.timing}"
                basis = f"total, confidence of the power {total.power['confidence']}"
                yield VersusRow(figure=figure, side=target.name, by=by, basis=basis, unit="J", value=total.total)


def _times(report: Report, cost: FloatCost) -> Iterator[VersusRow]:
    for t in cost.times:
        by = f"batch {t.batch}, {t.repeats} runs"
        if t.batch == 1:
            yield VersusRow(figure="latency", side=FLOAT, by=by, basis="measured", unit="s", value=t.sample)
        yield VersusRow(figure="time per sample", side=FLOAT, by=by, basis="measured", unit="s", value=t.sample)
    for target in () if report.costs is None else report.costs.targets:
        for timing in target.timings:
            for figure, value in (("latency", timing.latency), ("time per sample", timing.sample)):
                yield VersusRow(figure=figure, side=target.name, by=timing.model, basis=f"modelled, {timing.status}",
                                unit="s", value=value)  # fmt: skip


def _memory(report: Report, cost: FloatCost) -> Iterator[VersusRow]:
    figure, own = "parameters and states", footprints(report.program)
    yield VersusRow(figure=figure, side=FLOAT, by=cost.dtype, basis="counted, parameters and buffers", unit="B",
                    value=_exact(cost.footprint))  # fmt: skip
    yield VersusRow(figure=figure, side=CHIP, by="true bits", basis="counted", unit="B",
                    value=_exact(own["true_bytes"]))  # fmt: skip
