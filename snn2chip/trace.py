"""What a backend returns: payloads, potentials, outputs and counts of one run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from snn2chip.ir.types import IntArray

IntTensor = NDArray[np.int32]


@attrs.define(kw_only=True)
class Trace:
    """Everything recorded of one run of one program on one backend.

    `payloads[soma]` and `potentials[soma]` are int32 `[T, B, *shape]` (potential after reset at the end of
    each logical step; empty with `record="outputs"`), `inputs[name]` the coded payloads, `outputs` int64
    `[B, classes]` of the first Output (what argmax reads), `all_outputs` every Output by name.
    `counts` sums over all samples. `potentials` may lack a soma that a backend cannot observe (`notes`).
    """

    backend: str
    steps: int
    samples: int
    outputs: IntArray
    all_outputs: Mapping[str, IntArray] = attrs.field(factory=dict)
    payloads: dict[str, IntTensor] = attrs.field(factory=dict)
    potentials: dict[str, IntTensor] = attrs.field(factory=dict)
    inputs: dict[str, IntTensor] = attrs.field(factory=dict)
    counts: Any = None
    notes: list[str] = attrs.field(factory=list)
    info: dict[str, Any] = attrs.field(factory=dict)

    @property
    def pred(self) -> IntArray:
        """Predicted class per sample: argmax of `outputs`, the lowest index on ties."""
        if self.outputs.shape[1] == 0:
            return np.zeros(0, dtype=np.int64)
        best: IntArray = np.argmax(self.outputs, axis=1)
        return best

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{name}</td><td>{p.shape}</td><td>{(p != 0).mean():.3f}</td></tr>"
            for name, p in self.payloads.items()
        )
        head = f"<b>Trace</b> {self.backend}, {self.samples} samples, T={self.steps}"
        return f"{head}<table><tr><th>soma</th><th>[T, B, ...]</th><th>firing</th></tr>{rows}</table>"


def gather_traces(parts: Iterable[Trace]) -> Trace:
    """Concatenate traces of consecutive blocks as they come, a block with one of its size.

    Many small results that are kept between the work on others would leave holes all over the heap.
    """
    kept: list[Trace] = []
    for part in parts:
        kept.append(part)
        while len(kept) > 1 and kept[-2].samples <= kept[-1].samples:
            kept[-2:] = [join_traces(kept[-2:])]
    return join_traces(kept)


def join_traces(parts: list[Trace]) -> Trace:
    """Concatenate traces of consecutive blocks of samples."""
    first = parts[0]
    if len(parts) == 1:
        return first

    def cat(field: str, axis: int) -> dict[str, Any]:
        names = getattr(first, field)
        return {n: np.concatenate([getattr(p, field)[n] for p in parts], axis=axis) for n in names}

    every = cat("all_outputs", 0)
    same = [n for n in every if all(p.all_outputs[n] is p.outputs for p in parts)]  # held once, as in the blocks
    counts = first.counts
    for part in parts[1:]:
        counts = counts + part.counts
    return attrs.evolve(
        first,
        samples=sum(p.samples for p in parts),
        outputs=every[same[0]] if same else np.concatenate([p.outputs for p in parts]),
        all_outputs=every,
        payloads=cat("payloads", 1),
        potentials=cat("potentials", 1),
        inputs=cat("inputs", 1),
        counts=counts,
        notes=list(dict.fromkeys(note for part in parts for note in part.notes)),
    )
