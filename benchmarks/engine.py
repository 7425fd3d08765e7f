"""What the exact engine costs, question by question."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
from snn2chip_backends.torch import records
from torch import Tensor, int64
from torch import zeros as torch_zeros

from benchmarks.networks import conv_net, mlp, pixels
from benchmarks.numpy_loop import NumpyLoop
from benchmarks.questions import Question
from benchmarks.table import Outputs, Row, Table, measure
from snn2chip.api import coded_inputs, run, stream
from snn2chip.registry import Backend, get_backend
from snn2chip.reports.detail import DetailCounter


def torch_against_numpy_loop(*, quick: bool, repeats: int) -> Table:
    """MLP 784-256-256-10, T=4, B=256: the exact engine (which also counts every event) vs a bare NumPy loop."""
    program, torch = mlp(), get_backend("torch")
    x = pixels(program, 256)
    coded = coded_inputs(program, x)
    loop, reusing = NumpyLoop(program, reuse_first=False), NumpyLoop(program, reuse_first=True)

    def engine() -> Outputs:
        return torch.run(program, coded, record="outputs").outputs

    rows = [
        Row(name="NumPy loop", samples=len(x), run=lambda: loop(x)),
        Row(name="NumPy loop, first layer once", samples=len(x), run=lambda: reusing(x)),
        Row(name="torch engine", samples=len(x), run=engine),
        Row(name="torch, raw samples in", samples=len(x), run=lambda: run(program, x, record="outputs").outputs),
    ]
    notes = _activity(program, torch, x)
    return measure("MLP 784-256-256-10, T=4", rows, repeats=repeats, notes=notes)


def torch_against_reference(*, quick: bool, repeats: int) -> Table:
    """Conv net 3->64->64 (stride 2), 32x32, T=4: torch vs the reference, and torch with its own block size."""
    program, torch, reference = conv_net(), get_backend("torch"), get_backend("reference")
    few, many = (1, 16) if quick else (2, 64)
    x = pixels(program, many)

    def row(name: str, backend: Backend, samples: int, record: str = "outputs") -> Row:
        part = x[:samples]
        return Row(name=name, samples=samples, run=lambda: run(program, part, backend=backend, record=record).outputs)

    rows = [
        row("reference", reference, few),
        row(f"torch, B={few}", torch, few),
        row(f"torch, B={many}", torch, many),
        row(f"torch, B={many}, everything recorded", torch, many, "all"),
    ]
    return measure("Conv net 3-64-64, T=4", rows, repeats=repeats, notes=_activity(program, torch, x))


def counting(*, quick: bool, repeats: int) -> Table:
    """MLP 784-256-256-10, T=4, 10,000 samples: what the counts of every run cost, and those of a report."""
    program = mlp()
    x = pixels(program, 1_000 if quick else 10_000)

    def plain() -> Outputs:
        return run(program, x, record="outputs").outputs

    def bare() -> Outputs:
        with patch.object(records, "_sums", _no_sums):
            return plain()

    def detailed() -> Outputs:
        counter, outputs = DetailCounter(program), []
        for trace in stream(program, x):
            counter.add(trace)
            outputs.append(trace.outputs)
        counter.result()
        return np.concatenate(outputs)

    rows = [
        Row(name="without counts", samples=len(x), run=bare),
        Row(name="with counts", samples=len(x), run=plain),
        Row(name="with detailed counts", samples=len(x), run=detailed),
    ]
    return measure(f"Counting {len(x):,} samples, MLP 784-256-256-10, T=4", rows, repeats=repeats)


def _no_sums(payload: Tensor, steps: int, total: int, kind: object) -> tuple[Tensor, Tensor]:
    nothing = torch_zeros(payload.shape[2:], dtype=int64)
    return nothing, nothing


def _activity(program: object, backend: Backend, x: object) -> dict[str, object]:
    counts = run(program, x, backend=backend, record="outputs").counts  # type: ignore[arg-type]
    share = {
        name: round(row["spikes"] / row["neuron_updates"], 3)
        for name, row in counts.sources.items()
        if row["neuron_updates"]
    }
    return {"neurons that fire per step": share}


QUESTIONS: dict[str, Question] = {
    "numpy": torch_against_numpy_loop,
    "reference": torch_against_reference,
    "counting": counting,
}
