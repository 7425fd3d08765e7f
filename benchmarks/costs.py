"""What a run of the exact engine costs by itself: arithmetic, growth with size, recording."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from snn2chip_backends.torch import TorchBackend, captured, int8
from snn2chip_backends.torch.engine import evaluate, put_inputs
from snn2chip_backends.torch.exact import exact_arithmetic
from snn2chip_backends.torch.pooled import unpooled
from snn2chip_backends.torch.records import Records
from snn2chip_backends.torch.sample import SomaRun, Wants
from torch import Tensor

from benchmarks.engine import FAST, NETS, arithmetic_here, equal_to_reference
from benchmarks.networks import conv_net, converted, mlp, pixels
from benchmarks.questions import Question
from benchmarks.table import Bar, Figures, Outputs, Row, Table, measure, slope, take_turns
from snn2chip.api import coded_inputs, run
from snn2chip.ir.nodes import Synapse
from snn2chip.ir.program import Program
from snn2chip.registry import get_backend
from snn2chip.trace import Trace


class SynapseClock:
    """Runs a program and adds up operations (two per multiply-add that is carried out) and seconds in its synapses.

    In the ordinary way: a captured run calls its synapses once more when it is made, and would keep the clock.
    """

    def __init__(self, program: Program, x: Any) -> None:
        self.program, self.x = program, x
        self.plan = get_backend("torch").plan(program)  # type: ignore[attr-defined]
        self.seconds: list[float] = []
        self.spent = self.done = 0.0

    def __call__(self) -> Outputs:
        """One run; outputs."""
        made, room = dict(self.plan.currents), captured.WORK
        self.spent = self.done = 0.0
        try:
            captured.WORK = 0
            self.plan.currents.update({n.name: self._timed(n, made[n.name]) for n in self.program.synapses})
            outputs = run(self.program, self.x, record="outputs").outputs
        finally:
            self.plan.currents.update(made)
            captured.WORK = room
        self.seconds.append(self.spent)
        return outputs

    def _timed(self, node: Synapse, make: Callable[..., Tensor]) -> Callable[..., Tensor]:
        shape = self.program.shapes[self.program.into[node.name][0].src]
        small = unpooled(node, shape) if node.kind == "conv2d" else None
        size = (node if small is None else small[1]).stored.size

        def current(payload: Tensor) -> Tensor:
            start = time.perf_counter()
            out = make(payload)
            self.spent += time.perf_counter() - start
            if node.kind in ("conv2d", "linear"):
                positions = out[0, 0, 0].numel() if node.kind == "conv2d" else 1
                self.done += 2.0 * size * positions * out.shape[0] * out.shape[1]
            return out

        return current


def arithmetic(*, quick: bool, repeats: int) -> Figures:
    """Multiply-adds per second inside the synapses of a run, against the measured rate of sgemm (2048 cubed)."""
    size, batch = (512, 8) if quick else (2048, 32)
    a = torch.randn(size, size)
    clocks, told = {}, ""
    for name in NETS:
        program = converted(name)
        x = pixels(program, batch)
        told = equal_to_reference(program, x[:1])
        clocks[name] = SynapseClock(program, x)
        assert np.array_equal(clocks[name](), run(program, x, record="outputs").outputs), name
    seconds, *_ = take_turns([lambda: a @ a, *clocks.values()], repeats=repeats)
    sgemm = 2 * size**3 / seconds
    rows: list[list[Any]] = [["sgemm", "float32", 1e3 * seconds, sgemm / 1e9, 1.0]]
    bars = []
    for name, clock in clocks.items():
        title, spent = NETS[name][0], float(np.median(clock.seconds[-repeats:]))
        assert spent > 0, f"{name}: no synapse was timed"
        rate = clock.done / spent
        rows.append([title, "int8" if int8.products_of_bytes() else "float32", 1e3 * spent, rate / 1e9, rate / sgemm])
        bars.append(Bar(name=f"synapse arithmetic vs sgemm, {title}", value=rate / sgemm, limit=0.6, at_least=True))
    return Figures(
        title=f"Synapse arithmetic, B={batch}, T=4",
        columns=["synapses of", "products", "ms", "Gop/s", "x sgemm"],
        rows=rows,
        notes=arithmetic_here(),
        bars=bars,
        asserted=f"of each net {told}; outputs of runs with clocks inside == those of runs without, {batch} samples",
        repeated=f"once to warm up, then {repeats} rounds in which sgemm and the nets take turns; median",
        packages=FAST,
    )


def growth(*, quick: bool, repeats: int) -> Figures:
    """Seconds against T, batch, width and depth from 2 to 32, and the slope of their logarithms."""
    sizes = [2, 8, 32] if quick else [2, 4, 8, 16, 32]
    conv = conv_net()
    asked: dict[str, list[tuple[Program, int]]] = {
        "T (B=32)": [(conv_net(steps=n), 32) for n in sizes],
        "batch (T=4)": [(conv, n) for n in sizes],
        "width / 16 (MLP of two hidden layers, B=256, T=4)": [(mlp((784, 16 * n, 16 * n, 10)), 256) for n in sizes],
        "depth (MLP of width 256, B=256, T=4)": [(mlp((784, *[256] * n, 10)), 256) for n in sizes],
    }
    rows: list[list[Any]] = []
    slopes: dict[str, float] = {}
    for name, programs in asked.items():
        seconds = take_turns([_work(program, batch) for program, batch in programs], repeats=repeats)
        slopes[name] = slope(sizes, seconds)
        rows.append([name, *(1e3 * s for s in seconds), slopes[name]])
    names = ("T (B=32)", "batch (T=4)")
    return Figures(
        title="Growth of cost, conv net 3-64-64 and MLPs",
        columns=["ms against", *map(str, sizes), "slope"],
        rows=rows,
        bars=[Bar(name=f"slope of cost against {n}, conv net", value=slopes[n], limit=1.05) for n in names],
        asserted="of every program and batch, the first sample's outputs == the reference's",
        repeated=f"per line once to compare, once to warm up, then {repeats} rounds in which sizes take turns; median",
        packages=FAST,
    )


def _work(program: Program, batch: int) -> Callable[[], Outputs]:
    """One run of a batch, compared with the reference."""
    x, backend = pixels(program, batch), get_backend("torch")
    coded = coded_inputs(program, x)

    def work() -> Outputs:
        return backend.run(program, coded, record="outputs").outputs

    assert np.array_equal(work()[:1], run(program, x[:1], backend="reference", record="outputs").outputs)
    return work


class BareRecords(Records):
    """Takes outputs and counts and knows no recording: nothing here asks whether anything else is wanted."""

    def wants(self, name: str) -> Wants:
        """Of a soma only what outputs read."""
        return Wants(False, *super().wants(name)[1:])

    def source(self, name: str, payload: Tensor, run: SomaRun | None = None) -> None:
        """Counts only."""
        self.everything = False
        super().source(name, payload, run)


class BareBackend(TorchBackend):
    """The engine's evaluation with `BareRecords`, layer by layer."""

    def run(self, program: Program, inputs: Any, *, record: str = "outputs") -> Trace:
        """Run one block; payloads and potentials are never kept."""
        plan = self.plan(program)
        with exact_arithmetic(self.device):
            payloads = put_inputs(program, plan, inputs, self.device)
            batch = next(iter(payloads.values())).shape[1]
            records = BareRecords(program, plan.payloads, batch, everything=False)
            evaluate(program, plan, payloads, records)
            return records.trace("bare")


def recording(*, quick: bool, repeats: int) -> Table:
    """Conv net 3-64-64, T=4: a run for outputs against one that cannot record, and against one that records all."""
    program, bare = conv_net(), BareBackend()
    x = pixels(program, 16 if quick else 64)

    def check() -> str:
        trace = run(program, x[:2], record="outputs")
        assert not trace.payloads
        assert not trace.potentials
        assert not trace.inputs
        kept = run(program, x[:2], record="all")
        assert len(kept.payloads) == len(kept.potentials) == len(program.somas)
        return "a run for outputs returns no payload, potential or input, one for all returns those of every soma"

    rows = [
        Row(name="cannot record", samples=len(x), run=lambda: run(program, x, backend=bare, record="outputs").outputs),
        Row(name="record=outputs", samples=len(x), run=lambda: run(program, x, record="outputs").outputs),
        Row(name="record=all", samples=len(x), run=lambda: run(program, x, record="all").outputs),
    ]
    head = f"Recording, conv net 3-64-64, T=4, B={len(x)}"
    table = measure(head, rows, repeats=2 * repeats, check=check, packages=FAST)
    name = "record=outputs vs a run that cannot record, conv net, seconds"
    table.notes["cannot record"] = (
        "the same plan, layer by layer, into records without a place for payloads and potentials; it makes outputs and "
        "counts. The bar leaves 5 % for the clock"
    )
    return table.with_bars(Bar(name=name, value=table.slowdown("record=outputs", "cannot record"), limit=1.05))


QUESTIONS: dict[str, Question] = {
    "arithmetic": arithmetic,
    "growth": growth,
    "recording": recording,
}
