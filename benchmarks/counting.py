"""What the counts of every run cost: the exact engine against itself with everything that counts taken out."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from snn2chip_backends.torch import fused, records
from torch import Tensor, int64, zeros

from benchmarks.networks import mlp, pixels
from benchmarks.table import Bar, Outputs, Row, Table, measure
from snn2chip.api import run

LINES = ("                _count(sent, spikes)\n", "                    _measure(sent, total)\n")
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
    table = measure(f"What counting costs, {len(x):,} samples, MLP 784-256-256-10, T=4", rows, repeats=repeats)
    value = table.slowdown("with counts", "without counts")
    return table.with_bars(Bar(name="with counts vs without, MLP, seconds", value=value, limit=1.15))


@contextmanager
def uncounted(counts: Any) -> Iterator[None]:
    """Nothing is counted in the block; every run says it counted `counts`."""
    with (
        patch.object(records, "_sums", _no_sums),
        patch.object(records, "count", lambda *_, **__: counts),
        patch.object(fused, "_passes", _bare_passes()),
    ):
        yield


def _no_sums(payload: Tensor, steps: int, total: int, kind: object) -> tuple[Tensor, Tensor]:
    nothing = zeros(payload.shape[2:], dtype=int64)
    return nothing, nothing


_BARE: list[Any] = []


def _bare_passes() -> Any:
    """The compiled passes without the lines that count; those of the engine where nothing is compiled."""
    if fused.compiled_pass() is None:
        return fused._passes
    if not _BARE:
        from snn2chip_backends.torch import compiled

        text = Path(compiled.__file__).read_text(encoding="utf-8")
        for line in LINES:
            assert text.count(line) == 1, "the compiled pass counts in other lines now; adapt this benchmark"
            text = text.replace(line, line[: len(line) - len(line.lstrip())] + "pass\n")
        file = Path(tempfile.mkdtemp()) / "uncounted.py"
        file.write_text(text.replace("cache=True, ", ""), encoding="utf-8")
        spec = importlib.util.spec_from_file_location("uncounted", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        _BARE.append(lambda: (module.run, module.pool))
    return _BARE[0]
