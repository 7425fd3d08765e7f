"""Every output of a program against the float model's: predictions, accuracy, and how far the values are off."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from snn2chip.checks.fidelity_result import OutputFidelity
from snn2chip.data.labels import check_labels
from snn2chip.errors import InputError
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import read_steps
from snn2chip.ir.program import Program

Values = dict[str, Any]
"""Float values `[n, size]` by the name of the program's output."""


def float_outputs(program: Program, graph: LayerGraph, returned: Any) -> Values:
    """What a float model returned, by output: one tensor `[n, ...]` (all steps `[T, n, ...]`), or several of them.

    `returned`: an array, a tuple or dict of them, or one array of all heads in a row. Raises InputError for others.
    """
    output = graph.output
    names = [out.name for out in program.outputs]
    parts = list(returned.values()) if isinstance(returned, Mapping) else returned
    if not isinstance(parts, (tuple, list)):
        sizes = [math.prod(graph.shapes[src]) for src in graph.inputs[output.name]]
        whole = np.asarray(parts)
        parts = np.split(whole, np.cumsum(sizes)[:-1], axis=-1) if output.heads else [whole]
    if len(parts) != len(names):
        raise InputError(f"the float model gives {len(parts)} tensors, the program {len(names)}: {', '.join(names)}")
    ranks = [len(graph.shapes[src]) for src in graph.inputs[output.name]]
    ways = [output.how(i) for i in range(len(parts))]
    arrays = [_read(np.asarray(part), how, rank) for part, how, rank in zip(parts, ways, ranks, strict=True)]
    return dict(zip(names, arrays, strict=True))


def _read(x: Any, how: str, rank: int) -> Any:
    """One value per feature and sample; of a model that returns all steps, what the program reads of them."""
    import torch

    if x.ndim != rank + 2:
        return x
    return read_steps(torch.as_tensor(x), "sum" if how == "steps" else how).numpy()


@attrs.define
class OutputSums:
    """Takes blocks of samples of one output."""

    name: str
    read: str
    samples: int = 0
    differing: int = 0
    float_hits: int = 0
    integer_hits: int = 0
    labelled: bool = False
    error: float = 0.0
    power: float = 0.0

    def add(self, want: Any, got: Any, unit: Any, labels: Any) -> None:
        """Float values and integers `[n, size]`, the value of one integer, labels `[n]` or None."""
        if want.shape[0] != got.shape[0] or math.prod(want.shape[1:]) != got.shape[1]:
            raise InputError(f"{self.name}: the float model gives {list(want.shape)}, the program {list(got.shape)}")
        want = want.reshape(got.shape)
        chosen, taken = want.argmax(1), got.argmax(1)
        self.samples += len(want)
        self.differing += int((chosen != taken).sum())
        self.error += float(np.square(got * unit - want).sum())
        self.power += float(np.square(want, dtype=np.float64).sum())
        if labels is not None:
            self.labelled = True
            self.float_hits += int((chosen == labels).sum())
            self.integer_hits += int((taken == labels).sum())

    def join(self, other: OutputSums) -> None:
        """Add the sums of the samples that come next."""
        for name in ("samples", "differing", "float_hits", "integer_hits", "error", "power"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.labelled = self.labelled or other.labelled

    def result(self) -> OutputFidelity:
        """The averages."""
        n = self.samples
        return OutputFidelity(
            output=self.name,
            read=self.read,
            agreement=1.0 - self.differing / n,
            float_accuracy=self.float_hits / n if self.labelled else None,
            integer_accuracy=self.integer_hits / n if self.labelled else None,
            error=math.sqrt(self.error / self.power) if self.power > 0 else None,
        )


def output_units(program: Program, graph: LayerGraph) -> dict[str, Any]:
    """Float value of one integer of every output, `[size]` or one number: its unit, over T where a mean is read."""
    units: dict[str, Any] = {}
    for i, out in enumerate(program.outputs):
        (edge,) = program.into[out.name]
        kind = "potential" if out.read == "potential" else "payload"
        one = np.ones(1) if out.read == "count" else np.asarray(program.meta["units"][kind][edge.src])
        shape = program.shapes[out.name]
        if one.size > 1:
            one = np.broadcast_to(one.reshape(one.shape + (1,) * (len(shape) - 1)), shape).reshape(-1)
        counted = graph.output.over or program.steps
        units[out.name] = one / (counted if graph.output.how(i) == "mean" else 1)
    return units


def labels_by_output(program: Program, labels: Any, samples: int) -> dict[str, Any]:
    """Labels `[N]` of the outputs that have some, an array being that of the first; InputError if they do not fit."""
    names = [out.name for out in program.outputs]
    if labels is None:
        return {}
    found = dict(labels) if isinstance(labels, Mapping) else {names[0]: labels}
    if unknown := [str(name) for name in found if name not in names]:
        raise InputError(f"labels of {', '.join(unknown)}: the outputs are {', '.join(names)}")
    arrays = {name: np.asarray(values) for name, values in found.items()}
    for name, y in arrays.items():
        if len(y) != samples:
            of = f" of {name}" if len(names) > 1 else ""
            raise InputError(f"{len(y)} labels{of} for {samples} samples")
        check_labels(y, math.prod(program.shapes[name]), name=f"labels of {name}" if len(names) > 1 else "labels")
    return arrays


def results(sums: Sequence[OutputSums]) -> tuple[OutputFidelity, ...]:
    """The averages of all outputs."""
    return tuple(part.result() for part in sums)
