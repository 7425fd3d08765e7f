"""What the exact engine costs: against the float network, a NumPy loop, stock Lava, the reference, and itself."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from snn2chip_backends.torch import int8
from snn2chip_backends.torch.exact import exact_arithmetic
from snn2chip_backends.torch.fused import compiled_pass
from snn2chip_backends.torch.pooled import unpooled
from torch import Tensor

from benchmarks.counting import counting_cost
from benchmarks.networks import conv_net, converted, float_forward, mlp, pixels
from benchmarks.numpy_loop import NumpyLoop
from benchmarks.questions import Question
from benchmarks.table import Bar, Figures, Outputs, Row, Table, measure, slope
from snn2chip.api import coded_inputs, run, stream
from snn2chip.ir.files import write
from snn2chip.ir.nodes import Synapse
from snn2chip.ir.program import Program
from snn2chip.registry import Backend, get_backend
from snn2chip.reports.detail import DetailCounter

NETS = {"vgg11": ("VGG-11", 1.15), "small-vgg": ("small CNN", 1.30), "resnet20": ("ResNet-20", 1.30)}
"""Nets of the zoo, their names, and how much slower than the float network the engine may be."""


def against_float(name: str, *, quick: bool, repeats: int) -> Table:
    """The exact engine on B samples of T steps against the float network on T*B images, layouts side by side."""
    title, limit = NETS[name]
    batch, steps = (8, 4) if quick else (32, 4)
    program, torch_backend = converted(name, steps=steps), get_backend("torch")
    x = pixels(program, batch)
    coded = coded_inputs(program, x)
    _equal_to_reference(program, x[:1])
    forward = partial(float_forward, name, steps * batch)
    rows = [
        Row(name="float32, NCHW", samples=batch, run=forward(channels_last=False), compared=False),
        Row(name="float32, channels last", samples=batch, run=forward(channels_last=True), compared=False),
        Row(name="exact engine, raw samples in", samples=batch, run=lambda: run(program, x, record="outputs").outputs),
        Row(
            name="exact engine", samples=batch, run=lambda: torch_backend.run(program, coded, record="outputs").outputs
        ),
    ]
    notes = {**_arithmetic(), **_activity(program, torch_backend, x)}
    table = measure(f"{title}: engine on B={batch}, T={steps}, float on {steps * batch} images", rows, repeats=repeats)
    table.notes.update(notes)
    best = max(table["float32, NCHW"].rate, table["float32, channels last"].rate)
    value = best / table["exact engine, raw samples in"].rate
    return table.with_bars(Bar(name=f"exact engine vs float32 forward, {title}, seconds", value=value, limit=limit))


def one_graded_step(*, quick: bool, repeats: int) -> Table:
    """The net in one graded step of 4 levels against one forward of the float network."""
    batch = 32 if quick else 128
    program = converted("vgg11", steps=1, levels=4)
    x = pixels(program, batch)
    _equal_to_reference(program, x[:1])
    rows = [
        Row(
            name="float32, NCHW", samples=batch, run=float_forward("vgg11", batch, channels_last=False), compared=False
        ),
        Row(
            name="float32, channels last",
            samples=batch,
            run=float_forward("vgg11", batch, channels_last=True),
            compared=False,
        ),
        Row(name="exact engine, one step", samples=batch, run=lambda: run(program, x, record="outputs").outputs),
    ]
    table = measure(f"VGG-11 in one graded step, B={batch}", rows, repeats=repeats, notes=_arithmetic())
    value = max(row.rate for row in table.rows[:2]) / table.rows[2].rate
    return table.with_bars(Bar(name="one graded step vs one float32 forward, VGG-11, seconds", value=value, limit=1.15))


def arithmetic(*, quick: bool, repeats: int) -> Figures:
    """Multiply-adds per second inside the synapses of a run, against the measured rate of sgemm (2048 cubed)."""
    size = 512 if quick else 2048
    a = torch.randn(size, size)
    sgemm = 2 * size**3 / _median(lambda: a @ a, repeats)
    rows, bars = [["sgemm", size, 1.0, sgemm / 1e9, 1.0]], []
    for name, (title, _) in NETS.items():
        program = converted(name)
        done, seconds = _synapse_rate(program, pixels(program, 8 if quick else 32), repeats)
        rows.append([title, "int8" if int8.products_of_bytes() else "float32", 1e3 * seconds, done / seconds / 1e9])
        rows[-1].append(done / seconds / sgemm)
        bars.append(
            Bar(name=f"synapse arithmetic vs sgemm, {title}", value=done / seconds / sgemm, limit=0.6, at_least=True)
        )
    columns = ["synapses of", "products", "ms", "Gop/s", "x sgemm"]
    rows[0][1], rows[0][2] = "float32", 2e3 * size**3 / sgemm
    return Figures(title="Synapse arithmetic, B=32, T=4", columns=columns, rows=rows, notes=_arithmetic(), bars=bars)


def _synapse_rate(program: Program, x: Any, repeats: int) -> tuple[float, float]:
    """Operations (two per multiply-add that is carried out) and median seconds in all synapses of one run."""
    plan, spent, done = get_backend("torch").plan(program), [0.0], [0.0]  # type: ignore[attr-defined]
    made = dict(plan.currents)

    def timed(node: Synapse, make: Callable[..., Tensor]) -> Callable[..., Tensor]:
        shape = program.shapes[program.into[node.name][0].src]
        small = unpooled(node, shape) if node.kind == "conv2d" else None
        size = (node if small is None else small[1]).stored.size

        def current(payload: Tensor) -> Tensor:
            start = time.perf_counter()
            out = make(payload)
            spent[0] += time.perf_counter() - start
            if node.kind in ("conv2d", "linear"):
                positions = out[0, 0, 0].numel() if node.kind == "conv2d" else 1
                done[0] += 2.0 * size * positions * out.shape[0] * out.shape[1]
            return out

        return current

    try:
        plan.currents.update({n.name: timed(n, made[n.name]) for n in program.synapses})
        seconds = []
        for _ in range(repeats + 1):
            spent[0] = done[0] = 0.0
            run(program, x, record="outputs")
            seconds.append(spent[0])
    finally:
        plan.currents.update(made)
    return done[0], float(np.median(seconds[1:]))


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
    table = measure("MLP 784-256-256-10, T=4, B=256", rows, repeats=repeats, notes=notes)
    value = table["torch engine"].ratio
    return table.with_bars(Bar(name="exact engine vs NumPy loop, MLP, samples/s", value=value, limit=2, at_least=True))


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
    """MLP 784-256-256-10, T=4, 10,000 samples: the counts of every run, and those of a report."""
    program = mlp()
    x = pixels(program, 1_000 if quick else 10_000)

    def detailed() -> Outputs:
        counter, outputs = DetailCounter(program), []
        for trace in stream(program, x):
            counter.add(trace)
            outputs.append(trace.outputs)
        counter.result()
        return np.concatenate(outputs)

    rows = [
        Row(name="with counts", samples=len(x), run=lambda: run(program, x, record="outputs").outputs),
        Row(name="with detailed counts", samples=len(x), run=detailed),
    ]
    return measure(f"Counting {len(x):,} samples, MLP 784-256-256-10, T=4", rows, repeats=repeats)


def recording(*, quick: bool, repeats: int) -> Table:
    """Conv net 3-64-64, T=4: outputs only against everything recorded."""
    program = conv_net()
    x = pixels(program, 16 if quick else 64)
    rows = [
        Row(name=f"record={kind}", samples=len(x), run=lambda kind=kind: run(program, x, record=kind).outputs)  # type: ignore[misc]
        for kind in ("all", "outputs")
    ]
    table = measure(f"Recording, conv net 3-64-64, T=4, B={len(x)}", rows, repeats=repeats)
    value = table.slowdown("record=outputs", "record=all")
    return table.with_bars(Bar(name="record=outputs vs record=all, conv net, seconds", value=value, limit=1.0))


def lava_conv(*, quick: bool, repeats: int) -> Table:
    """Conv net 3-64-64 (second stride 2), 32x32, T=4: the engine on 64 samples and on one against stock Lava."""
    return _against_lava("conv net 3-64-64", conv_net(), stock="always", bars=(450, 150), quick=quick, repeats=repeats)


def lava_mlp(*, quick: bool, repeats: int) -> Table:
    """MLP 784-512-10, T=4: the engine on 64 samples and on one against stock Lava."""
    program = mlp((784, 512, 10))
    return _against_lava("MLP 784-512-10", program, stock=True, bars=(300, 20), quick=quick, repeats=repeats)


def _against_lava(
    title: str, program: Program, *, stock: bool | str, bars: tuple[float, float], quick: bool, repeats: int
) -> Table:
    from benchmarks.emitted import bench

    x, few = pixels(program, 64), 1 if quick or stock == "always" else 4

    def engine(samples: int) -> Callable[[], Outputs]:
        """Coded samples, as Lava's seconds begin behind its coding."""
        backend, coded = get_backend("torch"), coded_inputs(program, x[:samples])
        return lambda: backend.run(program, coded, record="outputs").outputs

    def one_by_one() -> Outputs:
        return np.concatenate([alone() for alone in singles])

    backend = get_backend("torch")
    ones = [coded_inputs(program, x[i : i + 1]) for i in range(16)]
    singles = [lambda c=c: backend.run(program, c, record="outputs").outputs for c in ones]  # type: ignore[misc]
    with bench() as made:
        rows = [
            made.row("stock Lava, synchronous", program, x[:few], stock=stock),
            Row(name="exact engine, B=1", samples=len(singles), run=one_by_one),
            Row(name="exact engine, B=64", samples=64, run=engine(64)),
        ]
        table = measure(f"Stock Lava and the exact engine, {title}, T={program.steps}", rows, repeats=repeats)
        table.notes.update(made.starts())
    many, one = bars
    return table.with_bars(
        Bar(
            name=f"exact engine vs stock Lava, {title}, B=64, sample-steps/s",
            value=table["exact engine, B=64"].ratio,
            limit=many,
            at_least=True,
        ),
        Bar(
            name=f"exact engine vs stock Lava, {title}, one sample alone",
            value=table["exact engine, B=1"].ratio,
            limit=one,
            at_least=True,
        ),
    )


def growth(*, quick: bool, repeats: int) -> Figures:
    """Seconds against T, batch, width and depth from 2 to 32, and the slope of their logarithms."""
    sizes = [2, 8, 32] if quick else [2, 4, 8, 16, 32]

    def seconds(program: Program, batch: int) -> float:
        x = coded_inputs(program, pixels(program, batch))
        backend = get_backend("torch")
        return _median(lambda: backend.run(program, x, record="outputs"), repeats)

    found = {
        "T (B=32)": [seconds(conv_net(steps=n), 32) for n in sizes],
        "batch (T=4)": [seconds(conv_net(), n) for n in sizes],
        "width / 16 (MLP of two hidden layers, B=256, T=4)": [
            seconds(mlp((784, 16 * n, 16 * n, 10)), 256) for n in sizes
        ],
        "depth (MLP of width 256, B=256, T=4)": [seconds(mlp((784, *[256] * n, 10)), 256) for n in sizes],
    }
    rows: list[list[Any]] = [[name, *(1e3 * s for s in times), slope(sizes, times)] for name, times in found.items()]
    bars = [
        Bar(name=f"slope of cost against {name}, conv net", value=slope(sizes, found[name]), limit=1.05)
        for name in ("T (B=32)", "batch (T=4)")
    ]
    columns = ["ms against", *map(str, sizes), "slope"]
    return Figures(title="Growth of cost, conv net 3-64-64 and MLPs", columns=columns, rows=rows, bars=bars)


MEMORY = """
import sys, numpy as np, torch
from benchmarks.lowering.row import Memory
from benchmarks.networks import float_forward, pixels
from snn2chip.api import load, run
kind, path, samples, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
torch.set_num_threads(threads)
if kind == "float":
    work = float_forward("resnet18", samples, channels_last=False)
    first = float_forward("resnet18", 1, channels_last=False)
else:
    program = load(path)
    x = pixels(program, samples).astype(np.uint8)
    work, first = (lambda: run(program, x, record="outputs")), (lambda: run(program, x[:1], record="outputs"))
first()
with Memory() as memory:
    work()
print(memory.extra)
"""


def memory(*, quick: bool, repeats: int) -> Figures:
    """ResNet-18 (CIFAR), T=4: megabytes above those of a loaded network while it runs, each in a process of its own."""
    batch = 8 if quick else 32
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "resnet18.s2c"
        write(path, converted("resnet18"))
        sizes = [("float", 4 * batch), ("engine", batch), ("engine", 4 * batch), ("engine", 8 * batch)]
        found = [_child_memory(kind, path, n) for kind, n in sizes]
    names = [f"float32 forward of {4 * batch} images", *(f"exact engine, B={n}, T=4" for _, n in sizes[1:])]
    rows: list[list[Any]] = [[name, mb, mb / found[0]] for name, mb in zip(names, found, strict=True)]
    bars = [
        Bar(name="peak memory vs float32 forward, ResNet-18, B=32, T=4", value=found[1] / found[0], limit=1.5),
        Bar(name="peak memory, 8 times the samples vs 4 times, ResNet-18", value=found[3] / found[2], limit=1.1),
    ]
    return Figures(title="Peak memory, ResNet-18 (CIFAR)", columns=["run", "MB", "x float"], rows=rows, bars=bars)


def _child_memory(kind: str, path: Path, samples: int) -> float:
    arguments = [sys.executable, "-c", MEMORY, kind, str(path), str(samples), str(torch.get_num_threads())]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return float(done.stdout)


def _median(work: Callable[[], object], repeats: int) -> float:
    """Median seconds after one warm-up."""
    work()
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return float(np.median(found))


def _equal_to_reference(program: Program, x: Any) -> None:
    """Every payload and potential of these samples, before anything is timed."""
    expected, got = (run(program, x, backend=name) for name in ("reference", "torch"))
    for soma in program.somas:
        assert np.array_equal(expected.payloads[soma.name], got.payloads[soma.name]), soma.name
        assert np.array_equal(expected.potentials[soma.name], got.potentials[soma.name]), soma.name
    assert np.array_equal(expected.outputs, got.outputs)


def _arithmetic() -> dict[str, object]:
    """Which products and passes the engine has here."""
    with exact_arithmetic(torch.device("cpu")):
        products = "bytes with 32-bit sums (oneDNN)" if int8.products_of_bytes() else "float32"
    return {"products": products, "soma pass": "compiled" if compiled_pass() else "PyTorch"}


def _activity(program: object, backend: Backend, x: object) -> dict[str, object]:
    counts = run(program, x, backend=backend, record="outputs").counts  # type: ignore[arg-type]
    share = {
        name: round(row["spikes"] / row["neuron_updates"], 3)
        for name, row in counts.sources.items()
        if row["neuron_updates"]
    }
    return {"neurons that fire per step": share}


QUESTIONS: dict[str, Question] = {
    **{f"float-{name}": partial(against_float, name) for name in NETS},
    "float-one-step": one_graded_step,
    "arithmetic": arithmetic,
    "numpy": torch_against_numpy_loop,
    "lava-conv": lava_conv,
    "lava-mlp": lava_mlp,
    "memory": memory,
    "growth": growth,
    "recording": recording,
    "reference": torch_against_reference,
    "counting": counting,
    "counting-cost": counting_cost,
}
