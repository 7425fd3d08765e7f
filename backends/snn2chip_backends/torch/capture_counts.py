"""Counts of a captured run: sums per neuron in one array, added up by the tape, in the form of `reports.counts`."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import numpy as np

from snn2chip.ir.nodes import Host, Input, Product
from snn2chip.ir.program import Program
from snn2chip.ir.types import IntArray
from snn2chip.reports.counts import SYNAPSE_FIELDS, Counts, fan_outs, nonzero_fan_outs
from snn2chip_backends.torch import layout as at


@attrs.frozen
class Counted:
    """One source: its shape as counted, spikes and magnitudes per neuron, how often each stands for."""

    spikes: IntArray
    magnitudes: IntArray
    repeat: int
    turned: bool
    saturated: Callable[[], int]


class Counting:
    """What a run counts; `row` makes a new row of the tape."""

    def __init__(self, program: Program, batch: int) -> None:
        self.program, self.batch = program, batch
        sizes = [int(np.prod(n.shape)) for n in (*program.inputs, *program.somas)]
        self.sums = np.zeros(2 * sum(sizes), np.int64)
        self.used = 0
        self.sources: dict[str, Counted] = {}
        self.fields: list[tuple[dict[str, int], str, int, int]] = []
        self.rows: list[IntArray] = []
        self.kept: dict[tuple[int, int], tuple[int, IntArray | None]] = {}

    def source(
        self, name: str, size: int, *, binary: bool, repeat: int, turned: bool, saturated: Callable[[], int]
    ) -> tuple[int, int]:
        """Room for the counts of a source: addresses of spikes and of magnitudes (0: the same)."""
        spikes = self.sums[self.used : self.used + size]
        magnitudes = spikes if binary else self.sums[self.used + size : self.used + 2 * size]
        self.used += 2 * size
        self.sources[name] = Counted(spikes, magnitudes, repeat, turned, saturated)
        return spikes.ctypes.data, 0 if binary else magnitudes.ctypes.data

    def finish(self, row: Callable[[int], IntArray]) -> Callable[[], Counts]:
        """Append the rows that add up; what is returned makes the counts of the last run."""
        program, batch, steps = self.program, self.batch, self.program.steps
        on_host = tuple(n.name for n in program.nodes if isinstance(n, (Input, Host)))
        sources: dict[str, dict[str, int]] = {}
        for node in (*program.inputs, *program.somas):
            size, counted = int(np.prod(node.shape)), self.sources[node.name]
            updates = 0 if node.name in on_host else steps * batch * size
            made = sources[node.name] = {"neurons": size, "spikes": 0, "payload_sum": 0, "neuron_updates": updates}
            self._sum(row, made, "spikes", counted, counted.spikes)
            self._sum(row, made, "payload_sum", counted, counted.magnitudes)
        fan, busy, synapses = fan_outs(program), nonzero_fan_outs(program), {}
        for synapse in program.synapses:
            (edge,) = program.into[synapse.name]
            counted, stored, used = self.sources[edge.src], fan[synapse.name], busy[synapse.name]
            made = synapses[synapse.name] = dict.fromkeys(SYNAPSE_FIELDS, 0)
            made["dense_events"] = int(stored.sum()) * steps * batch
            self._sum(row, made, "synaptic_events", counted, counted.spikes, stored)
            self._sum(row, made, "payload_weighted_events", counted, counted.magnitudes, stored)
            self._sum(row, made, "effective_operations", counted, counted.spikes, used)
        products = {
            n.name: steps * batch * int(np.prod(program.shapes[n.name]))
            for n in program.nodes
            if isinstance(n, Product)
        }
        fields, rows = self.fields, self.rows
        saturated = {name: counted.saturated for name, counted in self.sources.items()}

        def counts() -> Counts:
            found = [int(d[at.RESULT]) for d in rows]
            for made, key, index, factor in fields:
                made[key] = found[index] * factor
            return Counts(
                samples=batch,
                steps=steps,
                sources={name: {**made, "saturations": saturated[name]()} for name, made in sources.items()},
                synapses={name: dict(made) for name, made in synapses.items()},
                products=dict(products),
                on_host=on_host,
            )

        return counts

    def _sum(
        self,
        row: Callable[[int], IntArray],
        made: dict[str, int],
        key: str,
        counted: Counted,
        terms: IntArray,
        fan: IntArray | None = None,
    ) -> None:
        """Let `made[key]` be the sum of the terms, each times its fan-out; equal sums are made once."""
        factor, own = counted.repeat, None
        if fan is not None and fan.size and (fan == fan.flat[0]).all():
            factor, fan = factor * int(fan.flat[0]), None
        if fan is not None:
            own = np.ascontiguousarray(np.moveaxis(fan, 0, -1) if counted.turned else fan, dtype=np.int64)
        same = (terms.ctypes.data, id(fan))
        if same not in self.kept:
            self.kept[same] = len(self.rows), own
            d = row(at.SUM)
            d[at.TERMS], d[at.SUM_LENGTH] = terms.ctypes.data, len(terms)
            d[at.FACTORS] = 0 if own is None else own.ctypes.data
            self.rows.append(d)
        self.fields.append((made, key, self.kept[same][0], factor))
