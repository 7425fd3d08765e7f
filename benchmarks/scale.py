"""What ImageNet-1k costs on many machines: measured CPU seconds of one core, and arithmetic with stated assumptions.

python -m benchmarks scale             the table of docs/scale.md from the figures of benchmarks/scale.json
python -m benchmarks scale --measure   measure them again first (ResNet-34 at 224 x 224, T = 4, about two minutes)

seconds = start + ceil(shards/workers) * (images per shard) * c / share of a core's speed      workers busy
          or bytes / bandwidth of the file share, where that is longer                         files
          + shards * (seconds to take in a result)                                             one process adds up
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import attrs

from snn2chip.shards.plan import MOST, MOST_LARGE, default_size
from snn2chip.writing import write_text

HERE = Path(__file__).parent
FIGURES = HERE / "scale.json"
PAGE = HERE.parent / "docs" / "scale.md"
BEGIN, END = "<!-- scale: begin -->", "<!-- scale: end -->"
NODES = (1, 8, 64)
IMAGES = 50_000
FEW = 4


@attrs.frozen(kw_only=True)
class Assumed:
    """What is not measured here: cores of a node, how fast a core is when all are busy, the file share."""

    cores: int = 64
    speed: float = 0.6
    bandwidth: float = 1e9
    picture: int = 3 * 224 * 224


@attrs.frozen(kw_only=True)
class Cost:
    """One table row: seconds by the wall clock, and hours of CPU."""

    nodes: int
    workers: int
    shard: int
    shards: int
    seconds: float
    cpu_hours: float


def cost(
    nodes: int, *, image: float, start: float, take: float, assumed: Assumed, most: int = MOST, images: int = IMAGES
) -> Cost:
    """The estimate: `image`, `start`, `take` are CPU seconds per image, per worker's start, per result taken in."""
    workers = nodes * assumed.cores
    shard = default_size(images, workers, most=most)
    shards = math.ceil(images / shard)
    busy = math.ceil(shards / workers) * shard * image / assumed.speed
    files = images * assumed.picture / assumed.bandwidth
    seconds = start / assumed.speed + max(busy, files) + shards * take
    hours = (images * image + workers * start + shards * take) / 3600
    return Cost(nodes=nodes, workers=workers, shard=shard, shards=shards, seconds=seconds, cpu_hours=hours)


def measure() -> dict[str, Any]:
    """CPU seconds of this process on one thread: start, an image of `run`, an image of `report`, a result."""
    import torch

    from benchmarks.lowering.nets import NETS, NORMALISE, _made, images
    from benchmarks.machine import describe_machine, limited_threads
    from snn2chip.api import load, run
    from snn2chip.compiler import compile as compile_module
    from snn2chip.registry import get_backend
    from snn2chip.reports.tally import Tally
    from snn2chip.shards.running import trace_state
    from snn2chip.shards.trees import pack, unpack

    started = time.process_time()  # Python, torch and this package
    with limited_threads(1), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        size = NETS["resnet34"]
        model, given = _made(size, activation="lmht", L=2, T=4)
        raw = images("train", 4, side=size.side)[0]
        program = compile_module(model, given[:1], calibration=raw, normalise=NORMALISE)
        path = Path(folder) / "net.s2c"
        program.save(path)
        x = images("test", FEW, side=size.side)[0]
        engine = get_backend("torch")
        cpu = time.process_time()
        loaded = load(path)
        run(loaded, x[:1], backend=engine, record="outputs")
        first = time.process_time() - cpu
        cpu = time.process_time()
        trace = run(loaded, x, backend=engine, record="outputs")
        each = (time.process_time() - cpu) / FEW
        tally = Tally(loaded, detail=True)
        tally.add(x[:1], None)
        cpu = time.process_time()
        tally.add(x, None)
        counted = (time.process_time() - cpu) / FEW
        found = {}
        for name, tree in (("run", trace_state(trace)), ("report", tally.state())):
            data = pack(tree)
            cpu = time.process_time()
            unpack(data)
            found[name] = {"bytes": len(data), "take": time.process_time() - cpu}
        return {
            "net": "ResNet-34 at 224 x 224, LM-HT L = 2, T = 4, 8-bit weights, random and calibrated",
            "machine": describe_machine(1),
            "images": FEW,
            "start": started + max(first - each, 0.0),
            "run": {"image": each, **found["run"]},
            "report": {"image": counted, **found["report"]},
            "events": sum(row["synaptic_events"] for row in trace.counts.synapses.values()) // FEW,
            "file": path.stat().st_size,
        }


def table(figures: dict[str, Any], assumed: Assumed) -> str:
    """The Markdown between the marks of docs/scale.md."""
    machine = figures["machine"]
    lines = [
        f"Measured on one thread of {machine['cpu']} ({machine['instructions']}), load {machine['load']} on "
        f"{machine['cores']} cores: {figures['net']}; {figures['images']} images, {figures['events'] / 1e9:.2f} G "
        "synaptic events each.",
        "",
        "| CPU seconds | `run` | `report` |",
        "| --- | ---: | ---: |",
        f"| per image | {figures['run']['image']:.2f} | {figures['report']['image']:.2f} |",
        f"| to take in a shard's result | {figures['run']['take']:.3f} | {figures['report']['take']:.3f} |",
        f"| start of a worker | {figures['start']:.1f} | {figures['start']:.1f} |",
        f"| bytes of a shard's result | {figures['run']['bytes']:,} | {figures['report']['bytes']:,} |",
        "",
        f"Assumed: {assumed.cores} cores a node, one worker on each, at {assumed.speed:g} of that speed when all are "
        f"busy; a file share of {assumed.bandwidth / 1e9:g} GB/s for {IMAGES:,} pictures of {assumed.picture:,} bytes.",
        "",
        "| nodes | workers | `run`: images a shard | minutes | CPU hours | `report`: images a shard | minutes "
        "| CPU hours |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for nodes in NODES:
        row, more = (
            cost(
                nodes,
                image=figures[verb]["image"],
                start=figures["start"],
                take=figures[verb]["take"],
                assumed=assumed,
                most=most,
            )
            for verb, most in (("run", MOST), ("report", MOST_LARGE))
        )
        lines.append(
            f"| {nodes} | {row.workers:,} | {row.shard} | {row.seconds / 60:.1f} | {row.cpu_hours:.1f} "
            f"| {more.shard} | {more.seconds / 60:.1f} | {more.cpu_hours:.1f} |"
        )
    return "\n".join(lines)


def write(*, again: bool, assumed: Assumed | None = None) -> str:
    """Measure if asked to, and put the table into docs/scale.md; gives the table."""
    if again:
        write_text(FIGURES, json.dumps(measure(), indent=2) + "\n")
    made = table(json.loads(FIGURES.read_text()), assumed or Assumed())
    text = PAGE.read_text()
    before, rest = text.split(BEGIN)
    write_text(PAGE, f"{before}{BEGIN}\n{made}\n{END}{rest.split(END)[1]}")
    return made
