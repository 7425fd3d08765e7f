"""What `compile` costs: seconds and memory of ResNets of four widths and of ResNet-34 at 224 x 224, LM-HT L2 T2.

Each is measured in a process of its own, on one thread, after a small network has loaded every library. Extra memory
is the largest resident size above that before; heap blocks of 1 MB or more go back to the system at once, so that it
follows what is held and not what the allocator keeps.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from snn2chip.ir.files import write_text

WIDTHS = (16, 32, 64, 128)
SIZES: dict[str, dict[str, Any]] = {
    **{
        f"ResNet-18, {width}..{8 * width} channels": {
            "model": "resnet18",
            "args": {"channels": [width, 2 * width, 4 * width, 8 * width], "stem_channels": width},
        }
        for width in WIDTHS
    },
    "ResNet-34 at 224 x 224": {"model": "resnet34", "args": {"stem": "imagenet"}, "side": 224, "images": 8},
}
BARS: tuple[tuple[str, float, float | None], ...] = (
    ("ResNet-18, 64..512 channels", 15, 4),
    ("ResNet-34 at 224 x 224", 60, None),
)
PAGE = Path(__file__).parent / "compile_cost.md"
HEAD = """# What compiling costs

Written by `python -m benchmarks compile-cost`; do not edit. `compile` traces, folds, calibrates, quantises, proves
ranges and checks for saturation. CPU seconds of one thread; wall-clock seconds depend on what else the machine does.
Extra memory: the largest resident size above that before, as a multiple of the model's own float32 weights.

| net | weights | images | CPU s | wall s | extra MB | x float32 | save s | file MB |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
"""


def measure(name: str) -> dict[str, Any]:
    """Measure one size in this process."""
    import tempfile

    import torch
    from snn2chip_models import build

    from benchmarks.lowering.nets import NORMALISE, images, model_input
    from benchmarks.lowering.row import Memory, warm
    from snn2chip.compiler import compile as compile_module

    torch.set_num_threads(1)
    torch.manual_seed(0)
    case = SIZES[name]
    model = build(case["model"], activation="lmht", L=2, T=2, **case["args"]).eval()
    raw = images("train", case.get("images", 16), side=case.get("side", 32))[0]
    sample = model_input(raw[:1])
    warm()
    model(sample)
    cpu, wall = time.process_time(), time.perf_counter()
    with Memory() as memory:
        program = compile_module(model, sample, calibration=raw, normalise=NORMALISE)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.s2c"
        program.save(path)
        size = path.stat().st_size
    return {
        "name": name,
        "weights": sum(p.numel() for p in model.parameters()),
        "images": len(raw),
        "cpu": cpu,
        "wall": wall,
        "extra": memory.extra,
        "save": time.perf_counter() - start,
        "file": size,
    }


def run() -> None:
    """Measure all sizes and write the page."""
    small = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
    code = "import json, sys; from benchmarks.compile_cost import measure; print(json.dumps(measure(sys.argv[1])))"
    rows = []
    for name in SIZES:
        words = [sys.executable, "-W", "ignore", "-c", code, name]
        done = subprocess.run(words, env={**os.environ, **small}, check=True, capture_output=True, text=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(rows[-1], flush=True)
    write_text(PAGE, page(rows))


def page(rows: list[dict[str, Any]]) -> str:
    """Return the page as Markdown; the slope is that of the widths of one net."""
    lines = []
    for row in rows:
        floats = row["weights"] * 4 / 2**20
        lines.append(
            f"| {row['name']} | {row['weights']:,} | {row['images']} | {row['cpu']:.1f} | {row['wall']:.1f} | "
            f"{row['extra']:.0f} | {row['extra'] / floats:.1f} | {row['save']:.2f} | {row['file'] / 1e6:.2f} |"
        )
    widths = rows[: len(WIDTHS)]
    x = np.log([row["weights"] for row in widths])
    slopes = {what: np.polyfit(x, np.log([row[what] for row in widths]), 1)[0] for what in ("cpu", "extra", "file")}
    steep = [np.log(widths[-1][what] / widths[-2][what]) / (x[-1] - x[-2]) for what in ("cpu", "extra")]
    text = (
        f"Log-log slopes over {len(WIDTHS)} widths, against the number of weights: CPU seconds {slopes['cpu']:.2f}, "
        f"extra memory {slopes['extra']:.2f}, file {slopes['file']:.2f}; between the two largest {steep[0]:.2f} and "
        f"{steep[1]:.2f}. Below 1 because a part of the cost (tracing, activations) grows slower than the weights."
    )
    return HEAD + "\n".join(lines) + "\n\n" + text + "\n\n" + bars({row["name"]: row for row in rows})


def bars(rows: dict[str, dict[str, Any]]) -> str:
    """What the two nets of papers may cost, and what they do; seconds are wall-clock, so of a quiet machine."""
    lines = ["| bar | allowed | measured |", "| --- | ---: | ---: |"]
    for name, seconds, factor in BARS:
        row = rows[name]
        lines.append(f"| {name}: seconds | {seconds} | {row['wall']:.1f} |")
        if factor is not None:
            extra = row["extra"] * 2**20 / (4 * row["weights"])
            lines.append(f"| {name}: extra memory, x float32 | {factor} | {extra:.1f} |")
    return "\n".join(lines) + "\n"
