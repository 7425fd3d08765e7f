"""What a run of the exact engine costs by itself: arithmetic, memory, growth with size, recording."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
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
from snn2chip.ir.files import write
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


MEMORY = """
import sys, numpy as np, torch
from benchmarks.lowering.row import Memory
from benchmarks.networks import float_forward, pixels
from benchmarks.peak import give_back
from snn2chip.api import load, run
kind, path, out, samples, threads, block = *sys.argv[1:4], *map(int, sys.argv[4:])
torch.set_num_threads(threads)
if kind == "float":
    work = float_forward("resnet18", samples, channels_last=False)
    first = float_forward("resnet18", 1, channels_last=False)
else:
    program = load(path)
    few = pixels(program, block).astype(np.uint8)
    x = np.concatenate([few] * (samples // block))
    work = lambda: run(program, x, record="outputs", block=block).outputs
    first = lambda: run(program, x[:1], record="outputs").outputs
first()
give_back()
with Memory() as memory:
    got = work()
if kind == "engine":
    np.save(out, got)
print(memory.extra)
"""


def memory(*, quick: bool, repeats: int) -> Figures:
    """ResNet-18 (CIFAR), T=4: megabytes above those of a loaded network while it runs, each in a process of its own."""
    batch, runs = (8, 1) if quick else (32, 3)
    program = converted("resnet18")
    own = 8  # samples of a block
    many = [own * n for n in ((1, 10) if quick else (1, 10, 100))]
    x = pixels(program, own)
    told = equal_to_reference(program, x[:1])
    expected = run(program, x, record="outputs").outputs
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "resnet18.s2c", Path(folder) / "out.npy"
        write(path, program)
        asked = [("float", 4 * batch, own), ("engine", batch, batch), *(("engine", n, own) for n in many)]
        found: list[list[float]] = [[] for _ in asked]
        for _ in range(runs):
            for megabytes, (kind, samples, block) in zip(found, asked, strict=True):
                megabytes.append(_child_memory(kind, path, out, samples, block))
                if kind == "engine":
                    got = np.load(out)[:own]
                    assert np.array_equal(got, expected[: len(got)]), f"{samples} samples"
    float_mb, one_batch, *blocks = (float(np.median(megabytes)) for megabytes in found)
    names = [f"float32 forward of {4 * batch} images", f"exact engine, B={batch}, T=4, one block"]
    names += [f"exact engine, B={n}, T=4, {n // own} block{'s' * (n > own)} of {own}" for n in many]
    rows: list[list[Any]] = [
        [name, mb, mb / float_mb] for name, mb in zip(names, [float_mb, one_batch, *blocks], strict=True)
    ]
    bars = [
        Bar(name=f"peak memory vs float32 forward, ResNet-18, B={batch}, T=4", value=one_batch / float_mb, limit=1.5)
    ]
    for n, mb in zip(many[:-1], blocks[:-1], strict=True):
        name = f"peak memory, {many[-1] // own} blocks vs {n // own}, ResNet-18"
        bars.append(Bar(name=name, value=blocks[-1] / mb, limit=1.1))
    return Figures(
        title="Peak memory, ResNet-18 (CIFAR)",
        columns=["run", "MB", "x float"],
        rows=rows,
        bars=bars,
        asserted=f"{told}; outputs of every run == those of one block here, {own} samples (the blocks hold them again)",
        repeated=f"{runs} processes each, in turns; median. MB: most resident memory of a run above a process that has "
        "loaded the network and run one sample of it",
        packages=FAST,
    )


def _child_memory(kind: str, path: Path, out: Path, samples: int, block: int) -> float:
    numbers = [str(n) for n in (samples, torch.get_num_threads(), block)]
    arguments = [sys.executable, "-W", "ignore", "-c", MEMORY, kind, str(path), str(out), *numbers]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return float(done.stdout)


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
    "memory": memory,
    "growth": growth,
    "recording": recording,
}
