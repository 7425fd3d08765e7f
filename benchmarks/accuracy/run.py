"""`python -m benchmarks accuracy`: rows whose result is missing or older than net and quantizer, then the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.accuracy.measure import Result, checkpoint, identity, measure, read, write
from benchmarks.accuracy.page import page
from benchmarks.accuracy.rows import ROWS
from snn2chip.ir.files import write_text

RESULTS = Path(__file__).parent / "results"
IMAGES, QUICK = 10_000, 200


def run(names: Sequence[str], *, out: Path, cache: Path, quick: bool = False, again: bool = False) -> bool:
    """Measure rows by name (all when empty) unless they are there; write the page; whether all of them hold."""
    images = QUICK if quick else IMAGES
    for name in names or ROWS:
        row, path = ROWS[name], out / f"{name}.json"
        net = checkpoint(row)
        if net is None:
            print(f"{name}: no trained net {row.net}.safetensors is here", flush=True)
            continue
        before = read(path)
        if before is not None and before.identity == identity(row, net, images=images) and not again:
            print(f"{name}: measured before")
            continue
        result = measure(row, net, images=images, cache=cache)
        write(result, path)
        print(f"{name}: {_said(result)}", flush=True)
    found = [kept for name in ROWS if (kept := read(out / f"{name}.json")) is not None]
    target = RESULTS.parent.parent / "accuracy.md" if out == RESULTS else out.with_suffix(".md")
    write_text(target, page(found))
    print(f"{len(found)} of {len(ROWS)} rows in {target}")
    return len(found) == len(ROWS) and all(kept.passed is not False for kept in found)


def _said(result: Result) -> str:
    judged = {True: "holds", False: "MISSED", None: "shown"}[result.passed]
    share = 100 * result.agree / result.images
    return (
        f"{judged}  {result.points:+.2f} points lost, {share:.2f} % of answers agree, {result.seconds:.0f} CPU seconds"
    )
