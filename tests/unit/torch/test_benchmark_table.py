"""The benchmark framework: equality before timing, alternated runs, ratios of samples per second."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.networks import mlp, pixels
from benchmarks.numpy_loop import NumpyLoop
from benchmarks.table import Outputs, Row, measure
from snn2chip.api import run


def row(name: str, samples: int, log: list[str], shift: int = 0) -> Row:
    def work() -> Outputs:
        log.append(name)
        return np.arange(samples, dtype=np.int64)[:, None] + shift

    return Row(name=name, samples=samples, run=work)


def test_rows_take_turns_after_comparison_and_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    clock = iter([0.0, 1.0, 1.0, 3.0, 3.0, 6.0, 6.0, 8.0, 8.0, 10.0, 10.0, 12.0])  # a: 1, 3, 2 s; b: 2, 2, 2 s
    ticking: Callable[[], float] = lambda: next(clock)  # noqa: E731
    monkeypatch.setattr("benchmarks.table.time.perf_counter", ticking)
    table = measure("q", [row("a", 2, log), row("b", 6, log)], repeats=3)
    assert log == ["a", "b"] * 5
    assert [r.seconds for r in table.rows] == [2.0, 2.0]
    assert [r.ratio for r in table.rows] == [1.0, 3.0]
    assert table.as_dict()["rows"][1]["samples_per_second"] == 3.0


def test_rows_that_differ_are_not_timed() -> None:
    with pytest.raises(AssertionError, match="b differs from a"):
        measure("q", [row("a", 2, []), row("b", 2, [], shift=1)], repeats=5)


@pytest.mark.parametrize("reuse_first", [False, True])
def test_numpy_loop_is_the_same_network(reuse_first: bool) -> None:
    program = mlp((20, 30, 10), steps=3)
    x = pixels(program, 9) * 40 % 256
    assert (NumpyLoop(program, reuse_first=reuse_first)(x) == run(program, x, backend="reference").outputs).all()


def test_command_line_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--quick", "--json", "--only", "numpy"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["machine"]["threads"] == 1
    (table,) = printed["tables"]
    assert table["rows"][0]["name"] == table["baseline"] == "NumPy loop"
    assert all(r["samples_per_second"] > 0 and r["fastest"] <= r["seconds"] <= r["slowest"] for r in table["rows"])
