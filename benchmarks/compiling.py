"""What compiling, loading and saving cost against the size of a network: slopes of their logarithms, and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.engine import equal_to_reference
from benchmarks.peak import extra_megabytes
from benchmarks.questions import Question
from benchmarks.table import Bar, Figures, slope
from snn2chip.ir.files import write
from snn2chip.ir.nodes import Input, Output, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.nn import IF, Repeat, Seq, TimeMean


class Block(nn.Module):
    """A 3x3 convolution with its norm, an identity around it, and a neuron."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Seq(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        self.act = IF(steps=2)

    def forward(self, x: Tensor) -> Tensor:
        """Return the spikes of the sum."""
        return self.act(self.conv(x) + x)


def chain(depth: int, *, width: int = 64) -> nn.Module:
    """`depth` linear layers, each with a norm and a neuron."""
    layers = [
        m for _ in range(depth) for m in (nn.Linear(width, width, bias=False), nn.BatchNorm1d(width), IF(steps=2))
    ]
    return Seq(Repeat(2), *layers, nn.Linear(width, 10), TimeMean())


def residual(depth: int, *, channels: int = 16) -> nn.Module:
    """A stem and `depth` blocks with identities around them, pooled and read out."""
    blocks = [Block(channels) for _ in range(depth)]
    stem, head = nn.Conv2d(2, channels, 3, padding=1), (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))
    return Seq(Repeat(2), stem, IF(steps=2), *blocks, *head, TimeMean())


def compiled(model: nn.Module, raw: Tensor) -> tuple[Program, float]:
    """A model whose norms have just seen the samples as a program, and the CPU seconds that compiling took."""
    from snn2chip.compiler import compile_graph

    model.train()
    for m in model.modules():
        if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)):
            m.momentum = 1.0
            nn.init.constant_(m.bias, 0.6)
    with torch.no_grad():
        model(raw)
    model.eval()
    start = time.process_time()
    program = compile_graph(model, raw[:1], calibration=raw.numpy(), input_range=(0, 1))[0]
    return program, time.process_time() - start


def depth(*, quick: bool, repeats: int) -> Figures:
    """CPU seconds and memory of one compile against the number of layers."""
    torch.manual_seed(0)
    sizes = [10, 20, 40] if quick else [25, 50, 100, 200]
    runs = 1 if quick else repeats
    nets: dict[str, tuple[Callable[[int], nn.Module], tuple[int, ...]]] = {
        "chain of linear layers": (chain, (64,)),
        "residual blocks": (residual, (2, 8, 8)),
    }
    rows: list[list[Any]] = []
    bars = []
    for name, (net, shape) in nets.items():
        raw = torch.rand(8, *shape)
        equal_to_reference(compiled(net(4), raw)[0], raw[:2].numpy())
        models = [net(n) for n in sizes]
        extra = [extra_megabytes(partial(compiled, model, raw)) for model in models]
        found = [[compiled(model, raw)[1] for model in models] for _ in range(runs)]
        seconds = [float(np.median(column)) for column in zip(*found, strict=True)]
        rows.append([f"{name}, CPU s", *seconds, slope(sizes, seconds)])
        rows.append([f"{name}, +MB", *extra, slope(sizes, extra)])
        bars.append(Bar(name=f"slope of compile seconds against depth, {name}", value=slope(sizes, seconds), limit=1.2))
    return Figures(
        title="Compiling against depth",
        columns=["layers", *map(str, sizes), "slope"],
        rows=rows,
        bars=bars,
        asserted="of the net of 4 layers, payloads, potentials and outputs on torch == the reference's, 2 samples",
        repeated=f"once to warm up (memory is that run's), then {runs} rounds in which depths take turns; median CPU "
        "seconds",
        packages=("numba", "scipy"),
    )


CHILD = """
import json, sys, threading, time
from snn2chip.ir import files
import snn2chip.ir.validate, snn2chip.ir.order, networkx, safetensors.numpy
kind, path, out = sys.argv[1:]
def anonymous():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) / 1024
def watch():
    while not done:
        most[0] = max(most[0], anonymous())
        time.sleep(0.0005)
program = files.read(path)[0] if kind == "save" else None
start, most, done = anonymous(), [0.0], []
watcher = threading.Thread(target=watch)
watcher.start()
wall = time.perf_counter()
if kind == "load":
    program = files.read(path)[0]
else:
    files.write(out, program)
wall = time.perf_counter() - wall
done.append(1)
watcher.join()
print(json.dumps([wall, max(most[0], anonymous()) - start, anonymous() - start]))
"""


def dense(width: int) -> Program:
    """Three dense layers of 8-bit weights, `4 * width^2` of them."""
    rng, sizes = np.random.default_rng(0), (width, 2 * width, width)
    nodes: list[Any] = [Input("input", width, 0, 255)]
    edges, before = [], "input"
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        weight = rng.integers(-127, 128, size=(fan_out, fan_in), dtype=np.int8)
        nodes += [
            Synapse(f"w{i}", "linear", weight),
            Soma(f"soma{i}", fan_out, fire="none" if i else "levels", theta=900),
        ]
        edges += [(before, f"w{i}"), (f"w{i}", f"soma{i}")]
        before = f"soma{i}"
    return Program(nodes=[*nodes, Output("out")], edges=[*edges, (before, "out")], steps=4)


def files(*, quick: bool, repeats: int) -> Figures:
    """Seconds and memory of loading and saving programs of 1 to 67 million weights, each in a process of its own."""
    widths = [512, 1024] if quick else [512, 1024, 2048, 4096]
    rows: list[list[Any]] = []
    bars, runs = [], 1 if quick else repeats
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "a.s2c", Path(folder) / "b.s2c"
        for width in widths:
            write(path, dense(width))
            for kind in ("load", "save"):
                told = [_child(kind, path, out) for _ in range(runs)]
                wall, most, held = (float(np.median([run[i] for run in told])) for i in range(3))
                mb = path.stat().st_size / 2**20
                rows.append([f"{kind}, {4 * width**2:,} weights", mb, 1e3 * wall, most, held])
            assert path.read_bytes() == out.read_bytes()
    for row in rows[-2:]:
        name = f"memory beside the weights, {row[0]}, x file"
        bars.append(Bar(name=name, value=row[3] / row[1], limit=0.5))
    columns = ["files of 8-bit weights", "file MB", "ms", "extra MB at most", "extra MB held"]
    notes = {"extra": "anonymous memory above what the process had; pages of the mapped file belong to the file"}
    return Figures(
        title="Loading and saving",
        columns=columns,
        rows=rows,
        notes=notes,
        bars=bars,
        asserted="bytes of the file that was loaded and saved == those of the file it came from, every size",
        repeated=f"{runs} processes each, one after the other (not in turns; the file lies in the page cache); median",
        packages=("safetensors",),
    )


def _child(kind: str, path: Path, out: Path) -> list[float]:
    words = [sys.executable, "-W", "ignore", "-c", CHILD, kind, str(path), str(out)]
    done = subprocess.run(words, env={**os.environ}, check=True, capture_output=True, text=True)
    found: list[float] = json.loads(done.stdout)
    return found


QUESTIONS: dict[str, Question] = {"compile-depth": depth, "files": files}
