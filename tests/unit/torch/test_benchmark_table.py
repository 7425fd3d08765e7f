"""The benchmark framework: equality before timing, alternated runs, ratios of samples per second."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.networks import mlp, pixels
from benchmarks.numpy_loop import NumpyLoop
from benchmarks.results import store, write_page
from benchmarks.table import Bar, Figures, Outputs, Row, measure, slope
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
    assert main(["run", "--quick", "--json", "--only", "numpy", "--threads", "1"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["machine"]["threads"] == 1
    (table,) = printed["tables"]
    assert table["rows"][0]["name"] == table["baseline"] == "NumPy loop"
    assert all(r["samples_per_second"] > 0 and r["fastest"] <= r["seconds"] <= r["slowest"] for r in table["rows"])


def test_bars_and_slopes() -> None:
    assert Bar(name="n", value=1.15, limit=1.15).met
    assert not Bar(name="n", value=1.16, limit=1.15).met
    assert Bar(name="n", value=2.0, limit=2, at_least=True).met
    assert not Bar(name="n", value=1.9, limit=2, at_least=True).met
    assert slope([2, 4, 8], [3.0, 6.0, 12.0]) == pytest.approx(1.0)
    assert slope([2, 8], [3.0, 3.0]) == pytest.approx(0.0)


def test_page_holds_every_result_that_is_there(tmp_path: Path) -> None:
    table = measure("First", [row("a", 2, []), row("b", 6, [])], repeats=5).with_bars(Bar(name="b", value=9, limit=1))
    figures = Figures(title="Second", columns=["size", "MB"], rows=[["big", 1.5]])
    store("one", {"cpu": "x", "load": 1}, table.as_dict(), tmp_path)
    store("two", {"cpu": "x", "load": 2}, figures.as_dict(), tmp_path)
    page = tmp_path / "page.md"
    write_page(["two", "missing", "one"], command="make it", repeats=5, folder=tmp_path, page=page)
    text = page.read_text()
    assert text.index("## Second") < text.index("## First")
    assert "| b | 9 | ≤ 1 | **missed** |" in text
    assert "| big | 1.5 |" in text
    assert text.count("- cpu x\n") == 1


def test_a_row_that_is_not_compared_may_return_anything() -> None:
    floats = Row(name="float", samples=1, run=lambda: 0.5, compared=False)
    assert [r.name for r in measure("q", [floats, row("a", 2, [])], repeats=5).rows] == ["float", "a"]
    with pytest.raises(AssertionError, match="b differs from a"):
        measure("q", [floats, row("a", 2, []), row("b", 2, [], shift=1)], repeats=5)
