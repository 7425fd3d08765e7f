"""Emitted Lava packages in their layouts, side by side; seconds are those of Lava's run, without its start-up."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np
from snn2chip_backends.lava import LavaBackend, emit
from snn2chip_backends.lava.guard import child_environment, end_session

from benchmarks.lava_child import MARK
from benchmarks.machine import limited_threads
from benchmarks.networks import mlp, pixels
from benchmarks.numpy_loop import NumpyLoop
from benchmarks.peak import SessionPeak
from benchmarks.questions import Question
from benchmarks.table import Bar, Outputs, Row, Table, measure
from snn2chip.api import coded_inputs
from snn2chip.errors import BackendUnavailable
from snn2chip.ir.nodes import Input, Output, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.registry import get_backend

CHILD = Path(__file__).parent / "lava_child.py"
LIMIT_S = 300.0
LAVA = ("lava-nc", "scipy")


class Child:
    """A process that runs one Lava network as often as it is told to; `told` is what its last run said."""

    def __init__(self, folder: Path, *arguments: object, cut: int | None = None) -> None:
        self.file, self.cut = folder / "outputs.npy", cut
        self.told: dict[str, Any] = {}
        self.said = folder / "errors.txt"
        with self.said.open("w") as errors:
            self.process = self._start(folder, arguments, errors)

    def _start(self, folder: Path, arguments: tuple[object, ...], errors: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(CHILD), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=folder,
            env=child_environment(),
            start_new_session=True,
        )

    def __call__(self) -> Outputs:
        """One run; the first `cut` outputs."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        watch = threading.Timer(LIMIT_S, self.close)
        watch.start()
        try:
            self.process.stdin.write(f"{self.file}\n")
            self.process.stdin.flush()
            line = next((text for text in self.process.stdout if text.startswith(MARK)), None)
        finally:
            watch.cancel()
        if line is None:
            said = self.said.read_text()[-2000:]
            raise RuntimeError(f"the Lava network in {self.file.parent} ended or took over {LIMIT_S:.0f} s: {said}")
        self.told = json.loads(line.removeprefix(MARK))
        outputs: Outputs = np.load(self.file, allow_pickle=False)
        return outputs[: self.cut]

    def clock(self) -> float:
        """Seconds of the last run without its start-up."""
        return float(self.told["seconds"])

    def peak(self) -> float:
        """Most megabytes that one more run takes in all its processes."""
        with SessionPeak(self.process.pid) as memory:
            self()
        return memory.extra

    def close(self) -> None:
        """End it with everything it started."""
        end_session(self.process.pid)
        self.process.wait()


class Bench:
    """Emits a program in layouts and makes rows of them; ends all children at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.children: dict[str, Child] = {}

    def child(self, name: str, *arguments: object, cut: int | None = None) -> Child:
        """Start one child in a folder of its own."""
        home = self.folder / f"child{len(self.children)}"
        home.mkdir()
        self.children[name] = Child(home, *arguments, cut=cut)
        return self.children[name]

    def row(
        self,
        name: str,
        program: Program,
        x: Any,
        *,
        layout: str = "stock",
        stock: bool | str = True,
        mode: str = "sync",
        batch: int = 1,
        steps: bool = False,
        cut: int | None = None,
    ) -> Row:
        """A row that runs the emitted program on `x`; it counts samples, or Lava steps with `steps=True`.

        Rows that count steps must be `cut` to the samples that all of them have.
        """
        package = emit(program, self.folder / f"package{len(self.children)}", layout=layout, stock=stock)
        file = self.folder / f"samples{len(self.children)}.npz"
        np.savez(file, **{program.inputs[0].name: x})
        child = self.child(name, "package", package, file, mode, batch, cut=cut)
        count = program.steps * -(-len(x) // batch) if steps else len(x)
        return Row(name=name, samples=count, run=child, clock=child.clock, peak=child.peak)

    def starts(self) -> dict[str, Any]:
        """Start-up of every row's last run: what the seconds above leave out."""
        return {"start-up": ", ".join(f"{name} {c.told['start_s']:.2f} s" for name, c in self.children.items())}


@contextmanager
def bench() -> Iterator[Bench]:
    """A place for packages and children; raises BackendUnavailable without lava-nc."""
    reason = LavaBackend().missing()
    if reason is not None:
        raise BackendUnavailable(f"emitted networks cannot be measured: {reason}")
    with tempfile.TemporaryDirectory(prefix="snn2chip-bench-") as folder:
        made = Bench(Path(folder))
        try:
            yield made
        finally:
            for child in made.children.values():
                child.close()


def batches(*, quick: bool, repeats: int) -> Table:
    """MLP 784-256-256-10, T=4: a batch of 256 in the own layouts, stock Lava, and a plain NumPy loop on one thread.

    The own layouts, too, compute the first layer's current once per sample, because its frame stays.
    """
    program = mlp()
    many, few, size = (512, 8, 256) if quick else (4096, 16, 256)
    x = pixels(program, many)
    part = x[: min(many, 1024)]

    def loop(reuse: bool) -> Callable[[], Outputs]:
        made = NumpyLoop(program, reuse_first=reuse)

        def run() -> Outputs:
            return np.concatenate([made(part[i : i + size]) for i in range(0, len(part), size)])

        return run

    with bench() as made, limited_threads(1):
        rows = [
            made.row("stock, one sample, sync", program, x[:few]),
            made.row(f"layer, B={size}, sync", program, x, layout="layer", batch=size),
            made.row(f"layer, B={size}, async", program, x, layout="layer", mode="async", batch=size),
            made.row(f"fused, B={size}, sync", program, x, layout="fused", batch=size),
            made.row(f"fused, B={size}, async", program, x, layout="fused", mode="async", batch=size),
            Row(name=f"NumPy loop, B={size}, one thread", samples=len(part), run=loop(False)),
            Row(name="the same, first layer once", samples=len(part), run=loop(True)),
        ]
        table = measure("Emitted Lava, MLP 784-256-256-10, T=4: samples/s", rows, repeats=repeats, packages=LAVA)
        table.notes.update(made.starts())
    best = max((row for row in table.rows[1:5]), key=lambda row: row.rate)
    plain, once = table.rows[5:]
    table.notes["best layout vs the NumPy loop"] = f"{best.rate / plain.rate:.2f}"
    name = "emitted Lava, batch of 256: best layout vs"
    return table.with_bars(
        Bar(name=f"{name} stock, per sample", value=best.ratio, limit=100, at_least=True),
        Bar(name=f"{name} a NumPy loop of the same arithmetic", value=best.rate / once.rate, limit=0.6, at_least=True),
    )


def one_by_one(*, quick: bool, repeats: int) -> Table:
    """MLP 784-256-256-10, T=4, one sample at a time: Lava steps per second."""
    program = mlp()
    x = pixels(program, 32 if quick else 128)
    few = x[: len(x) // 4]
    with bench() as made:
        rows = [
            made.row("stock, sync", program, few, steps=True, cut=len(few)),
            made.row("stock, async", program, x, mode="async", steps=True, cut=len(few)),
            made.row("layer, sync", program, few, layout="layer", steps=True, cut=len(few)),
            made.row("layer, async", program, x, layout="layer", mode="async", steps=True, cut=len(few)),
            made.row("fused, sync", program, few, layout="fused", steps=True, cut=len(few)),
            made.row("fused, async", program, x, layout="fused", mode="async", steps=True, cut=len(few)),
        ]
        table = measure(
            "Emitted Lava, MLP 784-256-256-10, one sample at a time: steps/s", rows, repeats=repeats, packages=LAVA
        )
        table.notes.update(made.starts())
    best = max(table["layer, async"].ratio, table["fused, async"].ratio)
    name = "emitted Lava, one sample: asynchronous own layout vs stock synchronous, steps/s"
    return table.with_bars(Bar(name=name, value=best, limit=6, at_least=True))


def one_conv() -> Program:
    """One 3x3 convolution 64 -> 64 on 16x16 spikes, behind it a layer that counts."""
    weight = np.random.default_rng(3).integers(-127, 128, (64, 64, 3, 3))
    return Program(
        nodes=[
            Input("input", (64, 16, 16), 0, 1),
            Synapse("conv", "conv2d", weight, padding=1),
            Soma("soma", (64, 16, 16), theta=2_000, levels=1),
            Output("out", "count"),
        ],
        edges=[("input", "conv"), ("conv", "soma"), ("soma", "out")],
        steps=4,
        meta={"name": "conv"},
    )


def convolution(*, quick: bool, repeats: int) -> Table:
    """Conv 64 -> 64, 3x3 at 16x16: Lava's own process against ours, per step of one sample."""
    program = one_conv()
    x = (np.random.default_rng(4).random((16 if quick else 64, 64, 16, 16)) < 0.2).astype(np.int64)
    with bench() as made:
        rows = [
            made.row("Lava's Conv, sync", program, x[:1], stock="always", steps=True, cut=1),
            made.row("Lava's Conv, async", program, x[:1], stock="always", mode="async", steps=True, cut=1),
            made.row("own synapse process, async", program, x, stock=False, mode="async", steps=True, cut=1),
            made.row("layer, sync", program, x, layout="layer", steps=True, cut=1),
            made.row("layer, async", program, x, layout="layer", mode="async", steps=True, cut=1),
        ]
        table = measure("Emitted Lava, Conv 64-64 3x3 @16x16, T=4: steps/s", rows, repeats=repeats, packages=LAVA)
        table.notes.update(made.starts())
    value = 1 / table.slowdown("layer, async", "Lava's Conv, async")
    name = "own Lava conv process vs Lava's Conv, 64-64 3x3 @16x16, per step (both asynchronous)"
    return table.with_bars(Bar(name=name, value=value, limit=50, at_least=True))


def netx(*, quick: bool, repeats: int) -> Table:
    """lava-dl's NetX on its public tiny.net (two convolutions of CUBA neurons) against the same network emitted."""
    from snn2chip.frontends.netx import import_netx

    try:
        shipped = Path(str(distribution("lava-dl").locate_file("tests/lava/lib/dl/netx")))
    except PackageNotFoundError as error:
        raise BackendUnavailable("NetX cannot be measured: lava-dl is not installed") from error
    steps = 16 if quick else 64
    program = import_netx(shipped / "tiny.net", steps=steps)
    bias = np.load(shipped / "gts/tinynet/input_bias.npy").astype(int).transpose(2, 1, 0)
    with bench() as made:
        np.save(made.folder / "bias.npy", bias)
        lag = len(program.somas) - 1
        child = made.child("NetX", "netx", shipped / "tiny.net", made.folder / "bias.npy", steps, lag)
        one, several = bias[None], np.stack([bias] * 8)
        rows = [
            Row(name="NetX", samples=steps, run=child, clock=child.clock, peak=child.peak),
            made.row("stock, sync", program, one, steps=True, cut=1),
            made.row("layer, sync", program, several, layout="layer", steps=True, cut=1),
            made.row("layer, async", program, several, layout="layer", mode="async", steps=True, cut=1),
            made.row("fused, async", program, several, layout="fused", mode="async", steps=True, cut=1),
            _engine("exact engine, B=1", program, one),
            _engine("exact engine, B=64", program, np.stack([bias] * 64)),
        ]
        head = f"lava-dl's NetX, emitted Lava and the exact engine, tiny.net, T={steps}: steps/s"
        table = measure(head, rows, repeats=repeats, packages=("numba", "lava-nc", "lava-dl", "scipy"))
        table.notes.update(made.starts())
    return table


def _engine(name: str, program: Program, x: Any) -> Row:
    """The exact engine on coded samples, as Lava's seconds begin behind its coding; it counts steps, too."""
    backend, coded = get_backend("torch"), coded_inputs(program, x)

    def run() -> Outputs:
        return backend.run(program, coded, record="outputs").outputs[:1]

    return Row(name=name, samples=program.steps * len(x), run=run)


QUESTIONS: dict[str, Question] = {
    "emitted-batch": batches,
    "emitted-one": one_by_one,
    "emitted-conv": convolution,
    "emitted-netx": netx,
}
