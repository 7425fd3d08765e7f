"""`python -m benchmarks methods`: every row whose result is missing or older than its recipes, then the page."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import attrs

from benchmarks.machine import describe_machine
from benchmarks.methods import converted, empf, events, integers, lmht
from benchmarks.methods.nets import Nets
from benchmarks.methods.page import page
from benchmarks.methods.result import Result, identity, read, write
from benchmarks.methods.rows import Row
from snn2chip.ir.files import write_text

ROWS: dict[str, Row] = {row.name: row for part in (lmht, empf, converted, events, integers) for row in part.ROWS}
RESULTS = Path(__file__).parent / "results"


def measure(row: Row, nets: Nets) -> Result:
    """Measure a row and add what is the same for all: nets, CPU minutes, machine."""
    import torch

    torch.set_num_threads(1)
    started = time.process_time()
    result = row.measure(nets)
    measuring = time.process_time() - started - nets.spent
    training = sum(net.seconds for net in nets.used.values())
    return attrs.evolve(
        result,
        epochs={net.path.stem: net.recipe.epochs for net in nets.used.values()},
        minutes={"training": round(training / 60, 1), "measuring": round(measuring / 60, 1)},
        identity=identity([nets.recipe(name) for name in row.recipes], quick=nets.quick),
        quick=nets.quick,
        machine=describe_machine(1),
    )


def run(names: Sequence[str], *, out: Path, nets: Path, quick: bool) -> bool:
    """Measure rows by name (all when empty) unless their results are there; write the page; whether all bars hold."""
    for name in names or list(ROWS):
        row, path = ROWS[name], out / f"{name}.json"
        store = Nets(nets / "quick" if quick else nets, quick=quick)
        before = read(path)
        if before is not None and before.identity == identity([store.recipe(r) for r in row.recipes], quick=quick):
            print(f"{name}: measured before")
            continue
        result = measure(row, store)
        write(result, path)
        for bar in result.bars:
            print(f"{name}: {'reached' if bar.passed else 'MISSED '}  {bar.text}: {bar.measured}", flush=True)
    results = [found for name in ROWS if (found := read(out / f"{name}.json")) is not None]
    target = out.parent / f"{out.name}.md" if out != RESULTS else RESULTS.parent.parent / "methods.md"
    write_text(target, page(results))
    print(f"{len(results)} of {len(ROWS)} rows in {target}")
    return all(result.passed for result in results)
