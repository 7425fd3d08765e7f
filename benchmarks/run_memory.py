"""Most memory of a run of the exact engine, against the float forward and against the number of blocks."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

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


LEAN = {"MALLOC_MMAP_THRESHOLD_": str(2**17)}
"""Of glibc: each array of 128 KiB or more in pages of its own; left alone this number grows, and the heap with it."""


def memory(*, quick: bool, repeats: int) -> Figures:
    """ResNet-18 (CIFAR), T=4: megabytes above those of a loaded network while it runs, each in a process of its own."""
    batch, runs = (8, 1) if quick else (32, 3)
    program = converted("resnet18")
    own = 8  # samples of a block
    many = [own * n for n in ((1, 2, 10) if quick else (1, 2, 10, 100))]
    x = pixels(program, own)
    told = equal_to_reference(program, x[:1])
    expected = run(program, x, record="outputs").outputs
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "resnet18.s2c", Path(folder) / "out.npy"
        write(path, program)
        asked = [("float", 4 * batch, own), ("engine", batch, batch), *(("engine", n, own) for n in many)]
        asked += [("lean", many[-1], own)]
        found: list[list[float]] = [[] for _ in asked]
        for _ in range(runs):
            for megabytes, (kind, samples, block) in zip(found, asked, strict=True):
                megabytes.append(_child_memory(kind, path, out, samples, block))
                if kind != "float":
                    got = np.load(out)[:own]
                    assert np.array_equal(got, expected[: len(got)]), f"{samples} samples"
    all_mb = [float(np.median(megabytes)) for megabytes in found]
    float_mb, one_batch, *blocks, _ = all_mb
    names = [f"float32 forward of {4 * batch} images", f"exact engine, B={batch}, T=4, one block"]
    names += [f"exact engine, B={n}, T=4, {n // own} block{'s' * (n > own)} of {own}" for n in many]
    names += [f"{names[-1]}, {' '.join(f'{k}={v}' for k, v in LEAN.items())}"]
    rows: list[list[Any]] = [[name, mb, mb / float_mb] for name, mb in zip(names, all_mb, strict=True)]
    bars = [
        Bar(name=f"peak memory vs float32 forward, ResNet-18, B={batch}, T=4", value=one_batch / float_mb, limit=1.5)
    ]
    for n, mb in zip(many[1:-1], blocks[1:-1], strict=True):
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
        notes={
            "the second block": "finds a heap that the first one has cut up, and what glibc keeps of it: once, and no "
            "more with any number of blocks. With the last row's setting every array goes back as it is freed: as "
            "little as one block, and about 1.7 times the seconds"
        },
    )


def _child_memory(kind: str, path: Path, out: Path, samples: int, block: int) -> float:
    """Megabytes of one run in a process of its own; `lean`: the engine with a heap that keeps nothing."""
    own = {**os.environ, **(LEAN if kind == "lean" else {})}
    numbers = [str(n) for n in (samples, torch.get_num_threads(), block)]
    arguments = [sys.executable, "-W", "ignore", "-c", MEMORY, kind, str(path), str(out), *numbers]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=600, check=False, env=own)
    assert done.returncode == 0, done.stderr[-2000:]
    return float(done.stdout)


QUESTIONS: dict[str, Question] = {"memory": memory}
