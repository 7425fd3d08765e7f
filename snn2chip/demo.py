"""The main job on one screen: train, lower, run on every backend, compare, count, save.

Stages, each a function that takes what the stage before it made:

    data -> train -> lower -> check -> save

The network is an MLP with QCFS activations on scikit-learn's digits (1347 train, 450 test samples), once with
ternary weights in one graded step, once with 8-bit weights in four steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from snn2chip.checks.compare import CheckResult, check
from snn2chip.checks.outside import write_trace
from snn2chip.checks.usable import usable_backends
from snn2chip.errors import EnvironmentFault
from snn2chip.ir.program import Program
from snn2chip.reports.counts import Counts

Say = Callable[[str], None]
GOLDEN_SAMPLES = 8


@attrs.frozen(kw_only=True)
class Recipe:
    """One network of the demo: weight kind, steps of a sample and levels per step."""

    weights: str
    steps: int
    levels: int

    @property
    def name(self) -> str:
        """Name of its files."""
        return f"digits-{self.weights}"


RECIPES = (Recipe(weights="ternary", steps=1, levels=8), Recipe(weights="int8", steps=4, levels=2))


@attrs.define(kw_only=True)
class Run:
    """What the demo knows about one network."""

    recipe: Recipe
    model: Any
    float_accuracy: float
    program: Program | None = None
    integer_accuracy: float = 0.0
    agreement: float = 0.0
    result: CheckResult | None = None
    counts: Counts | None = None
    files: list[Path] = attrs.field(factory=list)


@attrs.define(kw_only=True)
class Demo:
    """Result of the demo: one Run per network, backends left out and why, seconds per stage."""

    runs: list[Run]
    skipped: Mapping[str, str]
    seconds: dict[str, float]

    @property
    def equal(self) -> bool:
        """Whether all backends agree on all networks."""
        return all(_result(run).equal for run in self.runs)


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


def run_demo(out: Path, *, seed: int = 0, say: Say = lambda text: None, epochs: int = 40) -> Demo:
    """Run all stages and write programs, traces and checkpoints into `out`.

    Raises EnvironmentFault when `out` cannot be written; a difference between backends is in the result.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFault(f"{out}: cannot be made a folder ({error})") from error
    clock = Clock(say)
    with clock.stage("data", "load digits: 1347 train, 450 test samples"):
        data = load()
    with clock.stage("train", f"train {len(RECIPES)} networks"):
        runs = [train(recipe, data, seed=seed, epochs=epochs) for recipe in RECIPES]
    with clock.stage("lower", "lower to integers"):
        for run in runs:
            lower(run)
    names, skipped = usable_backends(_program(runs[0]))
    with clock.stage("check", f"run on {', '.join(names)} and compare"):
        for run in runs:
            compare(run, data, names)
    with clock.stage("save", f"save into {out}"):
        for run in runs:
            save(run, data, out, golden_by="lava" if "lava" in names else "reference")
    return Demo(runs=runs, skipped=skipped, seconds=clock.seconds)


def load() -> dict[str, Any]:
    """Raw digits: x_train, y_train, x_test, y_test; pixels 0..16 as `[N, 64]`."""
    from snn2chip.data import load_data

    found: dict[str, Any] = {}
    for split in ("train", "test"):
        x, y = load_data("digits", split=split)
        found |= {f"x_{split}": x.reshape(len(x), -1), f"y_{split}": y}
    return found


def train(recipe: Recipe, data: Mapping[str, Any], *, seed: int, epochs: int) -> Run:
    """Train one network from `seed`."""
    import torch

    from snn2chip.convert import qcfs_mlp

    torch.manual_seed(seed)
    model = qcfs_mlp.QCFSMLP(weights=recipe.weights)
    qcfs_mlp.train(model, data["x_train"], data["y_train"], seed=seed, epochs=epochs)
    return Run(recipe=recipe, model=model, float_accuracy=qcfs_mlp.accuracy(model, data["x_test"], data["y_test"]))


def lower(run: Run) -> None:
    """Make the integer program."""
    from snn2chip.convert import qcfs_mlp

    run.program = qcfs_mlp.lower(run.model, steps=run.recipe.steps, levels=run.recipe.levels)


def compare(run: Run, data: Mapping[str, Any], backends: Sequence[str]) -> None:
    """Compare the backends on the whole test split; take accuracy and counts from it."""
    import torch

    program, x, y = _program(run), data["x_test"], data["y_test"]
    run.result = check(program, x, backends=backends)
    trace = run.result.traces[backends[0]]
    with torch.no_grad():
        float_pred = run.model(torch.as_tensor(np.asarray(x, np.float32))).argmax(1).numpy()
    run.integer_accuracy = float((trace.pred == y).mean())
    run.agreement = float((trace.pred == float_pred).mean())
    run.counts = trace.counts


def save(run: Run, data: Mapping[str, Any], out: Path, *, golden_by: str) -> None:
    """Write the program with golden vectors, the trace of the test split, and the float model."""
    from snn2chip.checkpoint import CheckpointHeader, InputSpec, save_checkpoint

    stem = out / run.recipe.name
    program, trace = _program(run), next(iter(_result(run).traces.values()))
    run.files = [stem.with_suffix(ending) for ending in (".s2c", ".npz", ".safetensors")]
    program.save(run.files[0], golden=GOLDEN_SAMPLES, inputs=data["x_test"], backend=golden_by)
    write_trace(run.files[1], trace)
    header = CheckpointHeader(
        model=f"snn2chip.convert.qcfs_mlp:{run.recipe.weights}",
        args={},
        method="qcfs",
        T=1,
        L=run.model.levels,
        input=InputSpec(shape=(64,)),
        classes=[str(n) for n in range(10)],
        metrics={"test_accuracy": run.float_accuracy},
    )
    save_checkpoint(run.files[2], run.model, header)


def _program(run: Run) -> Program:
    assert run.program is not None
    return run.program


def _result(run: Run) -> CheckResult:
    assert run.result is not None
    return run.result
