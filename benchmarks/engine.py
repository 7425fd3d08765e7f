"""What the exact engine costs: against the float network, a NumPy loop, stock Lava, the reference, and itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from snn2chip_backends.torch import int8
from snn2chip_backends.torch.exact import exact_arithmetic
from snn2chip_backends.torch.fused import compiled_pass

from benchmarks.counting import counting_cost
from benchmarks.networks import conv_net, converted, float_forward, mlp, pixels, summing
from benchmarks.numpy_loop import NumpyLoop
from benchmarks.questions import Question
from benchmarks.table import Bar, Outputs, Row, Table, measure
from snn2chip.api import coded_inputs, run, stream
from snn2chip.errors import UnsupportedError
from snn2chip.ir.program import Program
from snn2chip.registry import Backend, get_backend
from snn2chip.reports.detail import DetailCounter
from snn2chip.transforms import transform

FAST = ("numba",)
FLOAT = {"float rows": "a ReLU net of the same layers with weights of its own; its outputs mean nothing to compare"}
NETS = {"vgg11": ("VGG-11", 1.15), "small-vgg": ("small CNN", 1.30), "resnet20": ("ResNet-20", 1.30)}
"""Nets of the zoo, their names, and how much slower than the float network the engine may be."""


def against_float(name: str, *, quick: bool, repeats: int) -> Table:
    """The exact engine on B samples of T steps against the float network on T*B images, layouts side by side."""
    title, limit = NETS[name]
    batch, steps = (8, 4) if quick else (32, 4)
    program, torch_backend = converted(name, steps=steps), get_backend("torch")
    x = pixels(program, batch)
    coded = coded_inputs(program, x)
    rows = [
        *_float_rows(name, steps * batch, samples=batch),
        Row(name="exact engine, raw samples in", samples=batch, run=lambda: run(program, x, record="outputs").outputs),
        Row(
            name="exact engine", samples=batch, run=lambda: torch_backend.run(program, coded, record="outputs").outputs
        ),
    ]
    head = f"{title}: engine on B={batch}, T={steps}, float on {steps * batch} images"
    table = measure(head, rows, repeats=repeats, check=lambda: equal_to_reference(program, x[:1]), packages=FAST)
    table.notes.update({**arithmetic_here(), **_activity(program, torch_backend, x), **FLOAT})
    value = max(row.rate for row in table.rows[:2]) / table["exact engine, raw samples in"].rate
    return table.with_bars(Bar(name=f"exact engine vs float32 forward, {title}, seconds", value=value, limit=limit))


def _float_rows(name: str, images: int, *, samples: int) -> list[Row]:
    forward = partial(float_forward, name, images)
    return [
        Row(name="float32, NCHW", samples=samples, run=forward(channels_last=False), compared=False),
        Row(name="float32, channels last", samples=samples, run=forward(channels_last=True), compared=False),
    ]


def fused(name: str, steps: int, levels: int, *, quick: bool, repeats: int) -> Table:
    """A net of T steps after `fuse-time` (one graded step) against one forward of the float network."""
    title, batch = NETS[name][0], 32 if quick else 128
    program = summing(name, steps=steps, levels=levels)
    one = transform(program, "fuse-time")
    x = pixels(program, batch)
    rows = [
        *_float_rows(name, batch, samples=batch),
        Row(name="after fuse-time, T=1", samples=batch, run=lambda: run(one, x, record="outputs").outputs),
        Row(name=f"before, T={steps}", samples=batch, run=lambda: run(program, x, record="outputs").outputs),
    ]

    def check() -> str:
        return f"{equal_to_reference(one, x[:1])}; {same_sums(program, one, x[:4])}"

    head = f"{title} after fuse-time: LM-HT, {levels} level{'s' * (levels > 1)} x {steps} steps as one step, B={batch}"
    table = measure(head, rows, repeats=repeats, check=check, packages=FAST)
    table.notes.update({**arithmetic_here(), **FLOAT, "the nets above": refusal(converted(name))})
    if name == "vgg11" and not quick:
        table.notes["the same with 1 level and T=4"] = refusal(summing(name, steps=4, levels=1))
    value = max(row.rate for row in table.rows[:2]) / table["after fuse-time, T=1"].rate
    bar = f"after fuse-time (one graded step) vs one float32 forward, {title}, seconds"
    return table.with_bars(Bar(name=bar, value=value, limit=1.15))


def same_sums(program: Program, one: Program, x: Any) -> str:
    """Assert what `fuse-time` keeps: outputs, and each soma's payloads added up over the steps."""
    before, after = run(program, x), run(one, x)
    assert one.steps == 1 < program.steps
    assert np.array_equal(before.outputs, after.outputs)
    for soma in program.somas:
        if soma.fire != "none":
            assert np.array_equal(before.payloads[soma.name].sum(0), after.payloads[soma.name][0]), soma.name
    return f"payloads of all somas added up over the {program.steps} steps == those of the one step, {len(x)} samples"


def refusal(program: Program) -> str:
    """What `fuse-time` says of a program."""
    try:
        transform(program, "fuse-time")
    except UnsupportedError as error:
        lines = [line.strip(" -") for line in str(error).splitlines()]
        return f"fuse-time refuses it: {lines[0]} {lines[1]}" if len(lines) > 1 else f"fuse-time refuses it: {lines[0]}"
    return "fuse-time takes it"


def one_graded_step(*, quick: bool, repeats: int) -> Table:
    """A source converted for one graded step of 4 levels (no fuse-time) against one forward of the float network."""
    batch = 32 if quick else 128
    program = converted("vgg11", steps=1, levels=4)
    x = pixels(program, batch)
    rows = [
        *_float_rows("vgg11", batch, samples=batch),
        Row(name="exact engine, one step", samples=batch, run=lambda: run(program, x, record="outputs").outputs),
    ]
    head = f"VGG-11 converted for one graded step (no fuse-time), B={batch}"
    table = measure(head, rows, repeats=repeats, check=lambda: equal_to_reference(program, x[:1]), packages=FAST)
    table.notes.update({**arithmetic_here(), **FLOAT})
    value = max(row.rate for row in table.rows[:2]) / table.rows[2].rate
    name = "converted for one graded step vs one float32 forward, VGG-11, seconds"
    return table.with_bars(Bar(name=name, value=value, limit=1.15))


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
    table = measure("MLP 784-256-256-10, T=4, B=256", rows, repeats=repeats, packages=FAST)
    table.notes.update(_activity(program, torch, x))
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
    table = measure("Conv net 3-64-64, T=4", rows, repeats=repeats, packages=FAST)
    table.notes.update(_activity(program, torch, x))
    return table


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
    return measure(f"Counting {len(x):,} samples, MLP 784-256-256-10, T=4", rows, repeats=repeats, packages=FAST)


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
        head = f"Stock Lava and the exact engine, {title}, T={program.steps}"
        table = measure(head, rows, repeats=repeats, packages=("numba", "lava-nc"))
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


def equal_to_reference(program: Program, x: Any) -> str:
    """Assert every payload and potential of these samples, before anything is timed."""
    expected, got = (run(program, x, backend=name) for name in ("reference", "torch"))
    for soma in program.somas:
        assert np.array_equal(expected.payloads[soma.name], got.payloads[soma.name]), soma.name
        assert np.array_equal(expected.potentials[soma.name], got.potentials[soma.name]), soma.name
    assert np.array_equal(expected.outputs, got.outputs)
    return f"all payloads, potentials and outputs == the reference's, {len(x)} sample{'s' * (len(x) > 1)}"


def arithmetic_here() -> dict[str, object]:
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
    "fused-vgg11": partial(fused, "vgg11", 2, 2),
    "fused-resnet20": partial(fused, "resnet20", 4, 1),
    "float-one-step": one_graded_step,
    "numpy": torch_against_numpy_loop,
    "lava-conv": lava_conv,
    "lava-mlp": lava_mlp,
    "reference": torch_against_reference,
    "counting": counting,
    "counting-cost": counting_cost,
}
THREADED = tuple(name for name in QUESTIONS if name not in ("reference", "counting", "counting-cost"))
"""Questions that are asked on two threads as well."""
