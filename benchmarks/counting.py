"""What the counts of every run cost: the exact engine against itself with everything that counts taken out."""

from __future__ import annotations

import importlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from snn2chip_backends.torch import fused, passes, records, somas
from torch import Tensor, int64, zeros

from benchmarks.networks import mlp, pixels
from benchmarks.table import Bar, Outputs, Row, Table, measure
from snn2chip.api import run

LINES = (
    "                count(sent, spikes)\n",
    "                    count_bytes(bits, spikes)\n",
    "                    measure(sent, total)\n",
)
"""What counts in the compiled pass of a soma."""


def counting_cost(*, quick: bool, repeats: int) -> Table:
    """MLP 784-256-256-10, T=4, 10,000 samples: with counts against without, at most 15 % more."""
    counted, bare = mlp(), mlp()  # a plan is kept with its program
    x = pixels(counted, 1_000 if quick else 10_000)
    counts = run(counted, x[:8], record="outputs").counts

    def without() -> Outputs:
        with uncounted(counts):
            return run(bare, x, record="outputs").outputs

    rows = [
        Row(name="without counts", samples=len(x), run=without),
        Row(name="with counts", samples=len(x), run=lambda: run(counted, x, record="outputs").outputs),
    ]
    table = measure(
        f"What counting costs, {len(x):,} samples, MLP 784-256-256-10, T=4", rows, repeats=repeats, packages=("numba",)
    )
    value = table.slowdown("with counts", "without counts")
    return table.with_bars(Bar(name="with counts vs without, MLP, seconds", value=value, limit=1.15))


@contextmanager
def uncounted(counts: Any) -> Iterator[None]:
    """Nothing is counted in the block; every run says it counted `counts`."""
    with (
        patch.object(records, "_sums", _no_sums),
        patch.object(records, "count", lambda *_, **__: counts),
        patch.object(somas, "compiled_pass", _bare_passes()),
    ):
        yield


def _no_sums(payload: Tensor, steps: int, total: int, kind: object) -> tuple[Tensor, Tensor]:
    nothing = zeros(payload.shape[2:], dtype=int64)
    return nothing, nothing


_BARE: list[Any] = []


def _bare_passes() -> Any:
    """A tape of the compiled passes without the lines that count; that of the engine where nothing is compiled."""
    if fused.compiled_pass() is None:
        return fused.compiled_pass
    if not _BARE:
        bare = Path(tempfile.mkdtemp()) / "bare_passes"
        shutil.copytree(Path(passes.__file__).parent, bare)
        text = (bare / "soma.py").read_text(encoding="utf-8")
        for line in LINES:
            assert text.count(line) == 1, "the compiled pass counts in other lines now; adapt this benchmark"
            text = text.replace(line, line[: len(line) - len(line.lstrip())] + "pass\n")
        (bare / "soma.py").write_text(text, encoding="utf-8")
        for file in bare.glob("*.py"):
            own = file.read_text(encoding="utf-8").replace("snn2chip_backends.torch.passes", "bare_passes")
            file.write_text(own.replace("cache=True, ", ""), encoding="utf-8")
        sys.path.insert(0, str(bare.parent))
        try:
            tape = importlib.import_module("bare_passes.entries").tape
        finally:
            sys.path.remove(str(bare.parent))
        _BARE.append(lambda: tape)
    return _BARE[0]
