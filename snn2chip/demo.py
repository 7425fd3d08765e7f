"""The main job on one screen: train, compile, run on every backend, compare, report, save.

Stages, each a function that takes what the stage before it made:

    train -> compile -> check -> report -> save

The network is the recipe `digits`: a binary-weight convolutional LM-HT network (L = 4 levels, T = 2 steps) with batch
norm on scikit-learn's digits (1347 train, 450 test samples), compiled by the same road as any checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from snn2chip.checks.compare import CheckResult, check
from snn2chip.checks.outside import write_trace
from snn2chip.checks.usable import usable_backends
from snn2chip.errors import EnvironmentFault
from snn2chip.ir.program import Program
from snn2chip.origin import origin, origin_of
from snn2chip.reports.report import Report, report

if TYPE_CHECKING:
    from snn2chip.ir.graph import LayerGraph

Say = Callable[[str], None]
RECIPE = "digits"
GOLDEN_SAMPLES = 8


@attrs.frozen(kw_only=True)
class Demo:
    """Result of the demo: program, comparison, report, backends left out and why, files, seconds per stage."""

    program: Program
    result: CheckResult
    report: Report
    skipped: Mapping[str, str]
    files: tuple[Path, ...]
    seconds: Mapping[str, float]

    @property
    def differing(self) -> int:
        """Test samples on which float and integer network predict different classes."""
        assert self.report.fidelity is not None
        return int(self.report.fidelity["differing"])


@attrs.define
class Clock:
    """Seconds per stage; says the name of a stage when it starts."""

    say: Say
    seconds: dict[str, float] = attrs.field(factory=dict)

    @contextmanager
    def stage(self, name: str, text: str) -> Iterator[None]:
        """Time the block under `name`."""
        self.say(text)
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def run_demo(out: Path, *, seed: int = 0, say: Say = lambda text: None, epochs: int | None = None) -> Demo:
    """Run all stages and write checkpoint, program, trace and report into `out`.

    Raises EnvironmentFault when `out` cannot be written or Lightning is missing; a difference between backends
    is in the result.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFault(f"{out}: cannot be made a folder ({error})") from error
    stem = out / RECIPE
    files = tuple(stem.with_suffix(ending) for ending in (".safetensors", ".s2c", ".npz", ".json"))
    clock = Clock(say)
    with clock.stage("train", f"train the recipe {RECIPE!r} on 1347 samples"):
        train(files[0], seed=seed, epochs=epochs)
    with clock.stage("compile", "trace, fold, quantize"):
        program, graph = compile_graph(files[0])
    x, y = load()
    names, skipped = usable_backends(program)
    with clock.stage("check", f"run {len(x)} test samples on {', '.join(names)} and compare every payload"):
        result = compare(program, x, names)
    with clock.stage("report", "count events, measure fidelity to the float network"):
        found = report(program, x, labels=y, float_graph=graph)
    with clock.stage("save", f"save into {out}"):
        save(files, program, x, result, found, golden_by="lava" if "lava" in names else "reference")
    return Demo(program=program, result=result, report=found, skipped=skipped, files=files, seconds=clock.seconds)


def train(path: Path, *, seed: int, epochs: int | None) -> None:
    """Train the recipe and write its checkpoint."""
    from snn2chip.train import train_recipe

    train_recipe(RECIPE, out=path, seed=seed, epochs=epochs)


def compile_graph(checkpoint: Path) -> tuple[Program, LayerGraph]:
    """The integer program, and the float network it is held against."""
    from snn2chip.checkpoint_compile import compile_checkpoint_graph

    return compile_checkpoint_graph(checkpoint)


def load() -> tuple[Any, Any]:
    """Raw test samples `[450, 1, 8, 8]` and labels."""
    from snn2chip.data import load_data

    return load_data(RECIPE, split="test")


def compare(program: Program, x: Any, backends: Sequence[str]) -> CheckResult:
    """Compare the backends on the whole test split."""
    return check(program, x, backends=backends)


def save(
    files: Sequence[Path], program: Program, x: Any, result: CheckResult, found: Report, *, golden_by: str
) -> None:
    """Write the program with golden vectors, the trace of the test split, and the report."""
    from snn2chip.cli.screen import write_json

    checkpoint, program_file, trace_file, report_file = files
    about = origin(checkpoint)
    program = attrs.evolve(program, meta={**program.meta, "origin": about})
    program.save(program_file, golden=GOLDEN_SAMPLES, inputs=x, backend=golden_by)
    write_trace(trace_file, next(iter(result.traces.values())), origin=origin_of(program, checkpoint))
    found = attrs.evolve(found, provenance={**found.provenance, "inputs": about["inputs"]})
    write_json(report_file, found.as_dict())
