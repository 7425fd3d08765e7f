"""What a report counts, as sums that are taken block by block and shard by shard: whole numbers, in any order."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import attrs
import numpy as np

from snn2chip.api import Progress, ready_backend, stream
from snn2chip.data.labels import check_labels
from snn2chip.errors import InputError
from snn2chip.ir.program import Program
from snn2chip.reports.counts import Counts
from snn2chip.reports.detail import DetailCounter
from snn2chip.reports.glimpse import Glimpse, Look, glimpse
from snn2chip.reports.neurobench import NeurobenchCounter

DETAIL = ("spikes", "magnitudes", "bits", "histograms", "first", "active")
BENCH = ("samples", "acs", "macs", "nonzero", "elements", "updates")
"""Sums of the two counters."""


class Tally:
    """Counts of the samples added so far; `state` and `merge` carry them between processes.

    `detail`: also what `DetailCounter` counts; `neurobench`: samples per call of NeuroBench's figures, None without.
    """

    def __init__(
        self, program: Program, *, detail: bool = False, neurobench: int | None = None, device: str | None = None
    ) -> None:
        self.program, self.device = program, device
        self.detail = DetailCounter(program) if detail else None
        self.bench = NeurobenchCounter(program, batch=neurobench) if neurobench is not None else None
        self.counts: Counts | None = None
        self.glimpse: Glimpse | None = None
        self.hits, self.labelled = 0, True

    @property
    def samples(self) -> int:
        """How many samples were counted."""
        return 0 if self.counts is None else self.counts.samples

    @property
    def accuracy(self) -> float | None:
        """Share of right answers; None where a sample had no label."""
        return self.hits / self.samples if self.labelled else None

    def add(self, inputs: Any, labels: Any, *, time_axis: bool = False, progress: Progress | None = None) -> None:
        """Run and count a block of samples (with several samples per call of NeuroBench: whole calls)."""
        y = None if labels is None else np.asarray(labels)
        self.labelled = self.labelled and y is not None
        if y is not None and self.program.outputs:
            check_labels(y, prod(self.program.shapes[self.program.outputs[0].name]), name="labels")
        everything = self.detail is not None or self.bench is not None
        start = 0
        for trace in stream(
            self.program,
            inputs,
            device=self.device,
            record="all" if everything else "outputs",
            time_axis=time_axis,
            block=self._block(),
            progress=progress,
        ):
            if everything and self.glimpse is None:
                self.glimpse = glimpse(self.program, trace)
            for part in (self.detail, self.bench):
                if part is not None:
                    part.add(trace)
            self.counts = trace.counts if self.counts is None else self.counts + trace.counts
            if y is not None:
                part_y = y[start : start + trace.samples]
                self.hits += int((trace.pred[: len(part_y)] == part_y).sum())
            start += trace.samples
        if y is not None and len(y) != start:
            raise InputError(f"{len(y)} labels for {start} samples")

    def _block(self) -> int | None:
        if self.bench is None or self.bench.batch == 1:
            return None
        own = ready_backend("torch", self.program, device=self.device).block(self.program)
        return max(own // self.bench.batch, 1) * self.bench.batch

    def state(self) -> dict[str, Any]:
        """Everything counted, as plain values and arrays."""
        return {
            "counts": None if self.counts is None else attrs.asdict(self.counts),
            "hits": self.hits,
            "labelled": self.labelled,
            "glimpse": None if self.glimpse is None else attrs.asdict(self.glimpse),
            "detail": None
            if self.detail is None
            else {"samples": self.detail.samples, **{key: dict(getattr(self.detail, key)) for key in DETAIL}},
            "bench": None if self.bench is None else {key: getattr(self.bench, key) for key in BENCH},
        }

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add what another tally of the same program and options counted on later samples."""
        counts = counts_of(state["counts"])
        self.counts = counts if self.counts is None else self.counts + counts
        self.hits += state["hits"]
        self.labelled = self.labelled and state["labelled"]
        if self.glimpse is None and state["glimpse"] is not None:
            self.glimpse = Glimpse(looks=tuple(Look(**look) for look in state["glimpse"]["looks"]))
        if self.detail is not None:
            self.detail.samples += state["detail"]["samples"]
            for key in DETAIL:
                sums = getattr(self.detail, key)
                for name, more in state["detail"][key].items():
                    sums[name] = sums[name] + more
        if self.bench is not None:
            for key in BENCH:
                setattr(self.bench, key, getattr(self.bench, key) + state["bench"][key])


def counts_of(state: Mapping[str, Any]) -> Counts:
    """The counts of their plain form."""
    return Counts(**{**state, "on_host": tuple(state["on_host"])})
