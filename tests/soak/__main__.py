"""Long runs in one interpreter whose memory, processes, descriptors and files must not grow.

    python tests/soak samples --samples 1000000     one `snn2chip run` over so many samples, read block by block
    python tests/soak lava --runs 200               Lava runs one after the other
    python tests/soak mixed --minutes 20            compile, run, check, report, train, emit, export in random order

Prints a line per round and one JSON line at the end; 1 if something grew. Memory is compared between the second and
the last quarter of the rounds, as the median of each: what is loaded or compiled once has happened by then.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import shutil
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from statistics import median
from typing import Any

import attrs

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / name) for name in (".", "backends", "models", "tests/kills")]  # also of a copy
from world import JOBS, plain, prepare  # noqa: E402

OUTPUT_BYTES = 8 * 10
"""Of a sample's result: an int64 for each of ten classes."""


@attrs.frozen(kw_only=True)
class Held:
    """What the interpreter holds: private memory in MB, open descriptors, threads, children, files nobody uses."""

    memory: float
    descriptors: int
    threads: int
    children: int
    shared: int
    temporary: int


def held() -> Held:
    """Look at /proc, /dev/shm and the folder of temporary files."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    private = int(status["RssAnon"].split()[0]) + int(status["RssShmem"].split()[0])
    with WATCH.looking:
        descriptors = len(os.listdir("/proc/self/fd"))
    return Held(
        memory=private / 1024,
        descriptors=descriptors,
        threads=threading.active_count(),
        children=len(list(descendants())),
        shared=len(WATCH.orphans()),
        temporary=len(os.listdir(tempfile.gettempdir())),
    )


def descendants() -> Iterator[int]:
    """Process ids below this one, ended ones that nobody has waited for too."""
    parent = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parent[int(entry)] = int(Path("/proc", entry, "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
    wanted = {os.getpid()}
    while more := {pid for pid, above in parent.items() if above in wanted and pid not in wanted}:
        wanted |= more
    yield from wanted - {os.getpid()}


class Watch(threading.Thread):
    """Notes the shared memory of Python that processes below this one map, so that what others leave is not ours."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.ours: set[str] = set()
        self._before: set[str] = set()
        self.looking = threading.Lock()
        self.start()

    def run(self) -> None:
        """Look twenty times a second: a Lava run lives for tenths of seconds."""
        while True:
            with self.looking:  # files that this thread has open are nobody's leak
                self.ours |= {name for pid in descendants() for name in mapped(pid)}
            time.sleep(0.05)

    def orphans(self) -> set[str]:
        """Ours that no process has mapped any more, at this look and at the one before: none is about to go."""
        files = {path.name for path in Path("/dev/shm").glob("psm_*")} & self.ours
        now = files - {name for pid in descendants() for name in mapped(pid)}
        self._before, lasting = now, now & self._before
        return lasting


def mapped(pid: int) -> set[str]:
    """Names of Python's shared memory that a process has mapped; none of a process that has ended."""
    try:
        return set(re.findall(r"/dev/shm/(psm_\w+)", Path("/proc", str(pid), "maps").read_text()))
    except OSError:
        return set()


WATCH = Watch()


def verdict(kind: str, rounds: list[Held], *, memory: float, about: dict[str, Any]) -> int:
    """Print what grew by how much between the second and the last quarter; 1 if memory by more than `memory` MB."""
    quarter = max(1, len(rounds) // 4)
    early, late = rounds[quarter : 2 * quarter] or rounds[:1], rounds[-quarter:]
    grew = {}
    for name in attrs.fields_dict(Held):
        before, after = (median(getattr(r, name) for r in part) for part in (early, late))
        grew[name] = round(after - before, 2)
    bad = [name for name, by in grew.items() if by > (memory if name == "memory" else 0)]
    print(json.dumps({"soak": kind, **about, "rounds": len(rounds), "last": attrs.asdict(rounds[-1]), "grew": grew}))
    if bad:
        print(f"grew: {', '.join(bad)}")
    return 1 if bad else 0


def samples(world: Path, *, total: int) -> int:
    """One run over `total` samples of 64 numbers; memory is looked at behind every block.

    What a run returns is its result and no growth: after n samples, 8 bytes * 10 classes * n less is held.
    """
    import numpy as np

    import snn2chip.api as api
    from snn2chip.cli import app

    x = np.lib.format.open_memmap(world / "x.npy", mode="w+", dtype=np.uint8, shape=(total, 64))
    rng = np.random.default_rng(0)
    for start in range(0, total, 50_000):
        x[start : start + 50_000] = rng.integers(0, 17, x[start : start + 50_000].shape, np.uint8)
    x.flush()
    del x
    with zipfile.ZipFile(world / "many.npz", "w") as archive:
        archive.write(world / "x.npy", "x.npy")
    (world / "x.npy").unlink()
    rounds, seen = list[Held](), list[int]()
    plain_run = api.run

    def watched(*args: Any, **named: Any) -> Any:
        done = plain_run(*args, **named)
        seen.append(done.samples)
        now = held()
        rounds.append(attrs.evolve(now, memory=now.memory - OUTPUT_BYTES * sum(seen) / 2**20))
        return done

    api.run = watched  # type: ignore[assignment]
    began, cpu = time.monotonic(), time.process_time()
    app(["run", str(world / "m.s2c"), "--input", str(world / "many.npz")], standalone_mode=False)
    seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    assert sum(seen) == total
    outputs = OUTPUT_BYTES * total / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    about = {"samples": total, "seconds": round(seconds, 1), "cpu": round(cpu, 1), "peak_MB": round(peak, 1)}
    return verdict("samples", rounds, memory=8, about={**about, "outputs_MB": round(outputs, 1)})


def lava(world: Path, *, runs: int) -> int:
    """Small Lava runs, their answers held against the reference."""
    import numpy as np

    from snn2chip import load, run
    from snn2chip.registry import get_backend

    program = load(world / "m.s2c")
    x = np.random.default_rng(0).integers(0, 17, (2, 64))
    want = run(program, x, backend="reference").outputs
    rounds = []
    for number in range(runs):
        layout = ("stock", "layer", "fused")[number % 3]
        got = run(program, x, backend=get_backend("lava", layout=layout))
        assert np.array_equal(got.outputs, want), layout
        rounds.append(held())
        if number % 10 == 0:
            print(number, attrs.asdict(rounds[-1]), flush=True)
    return verdict("lava", rounds, memory=8, about={"runs": runs, "mapped": len(WATCH.ours)})


def mixed(world: Path, *, seconds: float, seed: int, with_lava: bool) -> int:
    """Verbs in random order; each verb always gives the same bytes."""
    import torch

    from snn2chip.cli import app

    torch.set_num_threads(1)
    draw, first, rounds, done = random.Random(seed), dict[str, Any](), [], dict[str, int]()
    extra: dict[str, Callable[[], tuple[str, ...]]] = {}
    if with_lava:
        extra["lava"] = lambda: ("check", "m.s2c", "--samples", "2", "--backends", "reference,lava")
    os.chdir(world)
    sys.argv = ["snn2chip"]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        name = draw.choice([*JOBS, *extra])
        argv = extra[name]() if name in extra else JOBS[name].argv
        (world / "out").mkdir(exist_ok=True)
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            app(list(argv), standalone_mode=False)
        if name in JOBS:
            made = {n: plain(world / "out" / n) for n in (*JOBS[name].files, *JOBS[name].folders)}
            assert first.setdefault(name, made) == made, f"{name} gave other bytes than before"
        done[name] = done.get(name, 0) + 1
        rounds.append(held())
        if len(rounds) % 20 == 1:
            print(len(rounds), name, attrs.asdict(rounds[-1]), flush=True)
    return verdict("mixed", rounds, memory=40, about={"minutes": round(seconds / 60, 1), "verbs": done})


def main(arguments: list[str] | None = None) -> int:
    """Run one of the three."""
    parser = argparse.ArgumentParser(prog="python tests/soak", description=__doc__)
    parser.add_argument("kind", choices=("samples", "lava", "mixed"))
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    from snn2chip.checks.usable import why_missing

    world = Path(tempfile.mkdtemp(prefix="snn2chip-soak-"))
    try:
        (world / "tmp").mkdir()
        tempfile.tempdir = str(world / "tmp")
        os.environ["TMPDIR"] = tempfile.tempdir
        prepare(world)
        if given.kind == "samples":
            return samples(world, total=given.samples)
        if given.kind == "lava":
            return lava(world, runs=given.runs)
        return mixed(world, seconds=60 * given.minutes, seed=given.seed, with_lava=why_missing("lava") is None)
    finally:
        shutil.rmtree(world, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
