"""Most memory of a run of the exact engine, against the float forward and against the number of blocks."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.engine import FAST, equal_to_reference
from benchmarks.networks import converted, pixels
from benchmarks.questions import Question
from benchmarks.table import Bar, Figures
from snn2chip.api import run
from snn2chip.ir.files import write

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
    first = float_forward("resnet18", block, channels_last=False)
else:
    program = load(path)
    few = pixels(program, block).astype(np.uint8)
    x = np.concatenate([few] * (samples // block))
    work = lambda: run(program, x, record="outputs", block=block).outputs
    first = lambda: run(program, few, record="outputs", block=block).outputs
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
    batch, runs = (8, 1) if quick else (32, 5)
    program = converted("resnet18")
    own = 8  # samples of a block
    counts = (1, 10) if quick else (1, 10, 100)
    x = pixels(program, own)
    told = equal_to_reference(program, x[:1])
    expected = run(program, x, record="outputs").outputs
    asked = {
        f"float32 forward of {4 * batch} images": ("float", 4 * batch, own),
        f"exact engine, B={batch}, T=4, one block": ("engine", batch, batch),
    }
    blocks = {n: ("engine", n * own, own) for n in counts}
    asked |= {f"exact engine, {n} block{'s' * (n > 1)} of {own} samples": words for n, words in blocks.items()}
    found: dict[tuple[str, int, int], list[float]] = {words: [] for words in asked.values()}
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "resnet18.s2c", Path(folder) / "out.npy"
        write(path, program)
        for _ in range(runs):
            for kind, samples, block in found:
                found[kind, samples, block].append(_child_memory(kind, path, out, samples, block))
                if kind != "float":
                    got = np.load(out)[:own]
                    assert np.array_equal(got, expected[: len(got)]), f"{samples} samples"
    mb = {words: float(np.median(megabytes)) for words, megabytes in found.items()}
    whole = mb["float", 4 * batch, own]
    name = f"peak memory vs float32 forward, ResNet-18, B={batch}, T=4"
    bars = [Bar(name=name, value=mb["engine", batch, batch] / whole, limit=1.5)]
    for n in counts[:-1]:
        name = f"peak memory, {counts[-1]} blocks vs {n}, ResNet-18"
        bars.append(Bar(name=name, value=mb[blocks[counts[-1]]] / mb[blocks[n]], limit=1.1))
    return Figures(
        title="Peak memory, ResNet-18 (CIFAR)",
        columns=["run", "MB", "x float"],
        rows=[[name, mb[words], mb[words] / whole] for name, words in asked.items()],
        bars=bars,
        asserted=f"{told}; outputs of every run == those of one block here, {own} samples (the blocks hold them again)",
        repeated=f"{runs} processes each, in turns; median. MB: most resident memory of a run above a process that has "
        "loaded the network and run one block of it (a forward of 8 images), and given back what was freed",
        packages=FAST,
    )


def _child_memory(kind: str, path: Path, out: Path, samples: int, block: int) -> float:
    numbers = [str(n) for n in (samples, torch.get_num_threads(), block)]
    arguments = [sys.executable, "-W", "ignore", "-c", MEMORY, kind, str(path), str(out), *numbers]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return float(done.stdout)


QUESTIONS: dict[str, Question] = {"memory": memory}
