"""Measure rows in processes of their own, one after the other, and write the page; complete rows stay as they are."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.lowering.nets import METHODS, NETS
from benchmarks.lowering.page import page
from benchmarks.lowering.row import Row, measure, read, write
from snn2chip.ir.files import write_text

RESULTS = Path(__file__).parent / "results"
ROWS = tuple(f"{net}-{method}" for net in NETS for method in METHODS)


def measure_here(name: str, path: Path, *, quick: bool) -> None:
    """Measure one row in this process and write it."""
    net, _, method = name.partition("-")
    write(measure(method, net, quick=quick), path)


def run(names: Sequence[str], *, out: Path, quick: bool, again: bool = False) -> bool:
    """Measure the rows by name (all when empty) that are not complete; write the page; whether every row is equal."""
    for name in names or ROWS:
        path = out / f"{name}.json"
        before = read(path)
        if before is not None and before.complete and not again:
            print(f"{name}: measured before")
            continue
        code = "import sys; from pathlib import Path; from benchmarks.lowering.run import measure_here; "
        code += "measure_here(sys.argv[1], Path(sys.argv[2]), quick=sys.argv[3] == 'quick')"
        one = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")}
        one["MALLOC_MMAP_THRESHOLD_"] = str(1 << 20)  # large blocks go back at once: memory is what is held
        words = [sys.executable, "-c", code, name, str(path), "quick" if quick else "full"]
        subprocess.run(words, env={**os.environ, **one}, check=False)
        row = read(path)
        print(f"{name}: {'no result' if row is None else row.error or row.equal}", flush=True)
    rows = [row for name in ROWS if (row := read(out / f"{name}.json")) is not None]
    target = RESULTS.parent.parent / "lowering.md" if out == RESULTS else out.with_suffix(".md")
    write_text(target, page(rows))
    print(f"{len(rows)} of {len(ROWS)} rows in {target}")
    return all(sound(row) for row in rows)


def sound(row: Row) -> bool:
    """Whether all backends agree and the control with shuffled weights does not."""
    return not row.error and bool(row.equal["torch"] and row.equal["lava"]) and not any(row.control.values())
