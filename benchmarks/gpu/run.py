"""`python -m benchmarks gpu`: the GPU rows, one slice at a time; the same command again goes on where this one ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from benchmarks.gpu.fast import FAST
from benchmarks.gpu.slices import Bench, SliceOver
from benchmarks.machine import describe_machine
from benchmarks.methods.result import Result, identity, read, write
from benchmarks.methods.rows import at_least, at_most

TWIN = "relu-cifar10-resnet18-short"
CONVERSION_SECONDS = 30.0
"""Left over in a slice for a conversion or a measurement; otherwise it waits for the next one."""


@attrs.frozen(kw_only=True)
class Trained:
    """A row that trains: its recipe, the least accuracy in percent (None: only reported), the most minutes."""

    title: str
    recipe: str
    accuracy: float | None = None
    minutes: float
    steps: int | None = None  # of the parallel neurons it is converted to


ROWS: Mapping[str, Trained] = {
    "lmht": Trained(
        title="LM-HT, CIFAR-10, ResNet-18, L = 2, T = 2",
        recipe="lmht-cifar10-resnet18-short",
        accuracy=94.0,
        minutes=12.0,
    ),
    "parallel": Trained(
        title="QCFS to parallel neurons, CIFAR-10, ResNet-18, T = 4",
        recipe="qcfs-cifar10-resnet18-short",
        minutes=8.0,
        steps=4,
    ),
    "empf": Trained(
        title="EM-PF, binary weights, CIFAR-10, ResNet-18, T = 4",
        recipe="empf-cifar10-resnet18-short",
        accuracy=92.0,
        minutes=12.0,
    ),
}
NAMES = (*FAST, "speed", *ROWS)


def measure(row: Trained, bench: Bench, *, name: str) -> Result:
    """Train, convert where the row says so, and hold against the bars; the ANN twin has the same budget of epochs."""
    from snn2chip.checkpoint import load_checkpoint

    path, seconds = bench.train(row.recipe)
    _, header = load_checkpoint(path)
    accuracy = 100 * float(header.metrics["test_accuracy"])
    figures: list[dict[str, Any]] = [{"net": row.recipe, "accuracy": round(accuracy, 2)}]
    bars = [] if row.accuracy is None else [at_least("accuracy", accuracy, row.accuracy)]
    if row.steps is not None:
        before, after, more = _converted(row, bench)
        seconds, accuracy = seconds + more, after
        # equal on integers; in float32 a tie may fall either way
        bars.append(at_most(f"top-1 lost at T = {row.steps}, in float32", before - after, 0.1))
        figures.append({"net": f"parallel, T = {row.steps}", "accuracy": round(after, 2)})
    bars.append(at_most("training and conversion", seconds / 60, row.minutes, unit="minutes", digits=1))
    twin, _ = bench.train(TWIN)
    best = 100 * float(load_checkpoint(twin)[1].metrics["test_accuracy"])
    return Result(
        row=name,
        title=row.title,
        bars=bars,
        seeds=[header.provenance["seed"]],
        epochs={net: bench.recipe(net).epochs for net in (row.recipe, TWIN)},
        minutes={"wall": round(seconds / 60, 1)},
        ann={"accuracy": round(best, 2), "gap": round(best - accuracy, 2)},
        figures=figures,
    )


def _converted(row: Trained, bench: Bench) -> tuple[float, float, float]:
    """Accuracy in percent before and after the conversion, on all test samples, and its seconds."""
    import time

    from snn2chip.convert.files import convert_checkpoint

    if bench.left < CONVERSION_SECONDS and not bench.quick:
        raise SliceOver(f"{row.recipe}: trained, to be converted")
    clock = time.monotonic()
    path = bench.folder / f"{row.recipe}.safetensors"
    done = convert_checkpoint(
        path,
        out=path.with_name(f"{path.stem}-parallel-t{row.steps}.safetensors"),
        method="parallel",
        steps=row.steps,
        test_samples=64 if bench.quick else 10_000,
        device=bench.device,
    )
    assert done.before is not None
    assert done.after is not None
    return 100 * done.before, 100 * done.after, time.monotonic() - clock


def _speed(bench: Bench) -> Result:
    from benchmarks.gpu.speed import epoch_times

    if bench.left < CONVERSION_SECONDS and not bench.quick:
        raise SliceOver("speed: to be measured")
    return Result(
        row="speed", title="Seconds of an epoch beside a plain multi-step LIF", bars=(), figures=epoch_times(bench)
    )


def _rows(names: Sequence[str]) -> dict[str, tuple[Sequence[str], Callable[[Bench], Result]]]:
    """Recipes and measurement of every row asked for."""
    from benchmarks.gpu.speed import PAIRS

    found: dict[str, tuple[Sequence[str], Callable[[Bench], Result]]] = {}
    for name in names or NAMES:
        if name in FAST:
            found[name] = (), FAST[name]
        elif name == "speed":
            found[name] = [source for source, _ in PAIRS.values()], _speed
        else:
            row = ROWS[name]
            found[name] = (row.recipe, TWIN), lambda bench, row=row, name=name: measure(row, bench, name=name)  # type: ignore[misc]
    return found


def run(names: Sequence[str], bench: Bench) -> bool | None:
    """Measure rows whose results are missing or older than their recipes; whether all bars hold, None if time is up."""
    results: list[Result] = []
    for name, (recipes, measured) in _rows(names).items():
        path = bench.folder / f"row-{name}.json"
        mark = identity([bench.recipe(recipe) for recipe in recipes], quick=bench.quick)
        known = read(path)
        if known is None or known.identity != mark:
            try:
                known = attrs.evolve(measured(bench), identity=mark, quick=bench.quick, machine=describe_machine(1))
            except SliceOver as over:
                print(f"{over}; give the same command again", flush=True)
                return None
            write(known, path)
        results.append(known)
        for bar in known.bars:
            print(f"{name}: {'reached' if bar.passed else 'MISSED '}  {bar.text}: {bar.measured}", flush=True)
        for line in known.figures:
            print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in line.items()), flush=True)
    return all(result.passed for result in results)
