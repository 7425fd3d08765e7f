"""The benchmark framework: equality before timing, alternated runs, ratios of samples per second."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks import quotes, results
from benchmarks.__main__ import COMMAND, main
from benchmarks.machine import circumstances, versions
from benchmarks.networks import mlp, pixels
from benchmarks.numpy_loop import NumpyLoop
from benchmarks.questions import questions, threaded
from benchmarks.results import store, write_page
from benchmarks.table import Bar, Figures, Outputs, Row, RowsOnly, measure, rows_only, slope, take_turns
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
    """With what was asserted, how it was repeated, when, at which commit, under which load and on how many threads."""
    table = measure("First", [row("a", 2, []), row("b", 6, [])], repeats=5).with_bars(Bar(name="b", value=9, limit=1))
    figures = Figures(title="Second", columns=["size", "MB"], rows=[["big", 1.5]], asserted="bytes", repeated="once")
    when = {"date": "2030-01-02 03:04 UTC", "commit": "abc+", "load": 0.25, "versions": {"numba": "0.1"}}
    store("one", {"cpu": "x", "threads": 1, "load": 1}, when, table.as_dict(), tmp_path)
    store("one", {"cpu": "x", "threads": 2, "load": 1}, when, table.with_peaks({"b": 7.25}).as_dict(), tmp_path)
    store("two", {"cpu": "x", "threads": 1, "load": 2}, when, figures.as_dict(), tmp_path)
    page = tmp_path / "page.md"
    write_page(["two", "missing", "one"], command="make it", folder=tmp_path, page=page)
    text = page.read_text()
    assert text.index("## Second") < text.index("## First")
    assert "| b | 1 | 9 | ≤ 1 | **missed** |\n| b | 2 | 9 | ≤ 1 | **missed** |" in text
    assert "| big | 1.5 |" in text
    assert text.count("- cpu x\n") == 1
    told = "2030-01-02 03:04 UTC, commit abc+, load 0.25 at the start, numba 0.1"
    first, second = text.index(f"**1 thread**, {told}", text.index("## First")), text.index(f"**2 threads**, {told}")
    assert first < second
    assert "+MB" not in text[first:second]
    assert "| 7.2 |" in text[second:]
    assert text.count("- asserted: outputs == those of a, on so many samples: b (2)\n") == 2
    assert "- asserted: bytes\n- repeated: once\n" in text


def test_a_row_that_is_not_compared_may_return_anything() -> None:
    floats = Row(name="float", samples=1, run=lambda: 0.5, compared=False)
    assert [r.name for r in measure("q", [floats, row("a", 2, [])], repeats=5).rows] == ["float", "a"]
    with pytest.raises(AssertionError, match="b differs from a"):
        measure("q", [floats, row("a", 2, []), row("b", 2, [], shift=1)], repeats=5)


def test_a_table_says_what_was_asserted_and_a_check_comes_first() -> None:
    log: list[str] = []

    def check() -> str:
        log.append("check")
        return "the check held"

    floats = Row(name="float", samples=1, run=lambda: 0.5, compared=False)
    table = measure("q", [floats, row("a", 2, log), row("b", 3, log)], repeats=7, check=check, packages=("numpy",))
    assert log[:3] == ["check", "a", "b"]
    assert table.asserted == ("the check held; outputs == those of a, on so many samples: b (2); not compared: float")
    assert "7 rounds" in table.repeated
    assert measure("q", [floats], repeats=5).asserted == "not compared: float"
    empty = Row(name="empty", samples=2, run=lambda: np.zeros((0, 1), np.int64))
    with pytest.raises(AssertionError, match="empty: no outputs to compare"):
        measure("q", [row("a", 2, []), empty], repeats=5)


def test_rows_can_be_had_without_running_any() -> None:
    log: list[str] = []
    with rows_only(), pytest.raises(RowsOnly) as found:
        measure("q", [row("a", 2, log)], repeats=5, check=lambda: log.append("check") or "")  # type: ignore[func-returns-value]
    assert [r.name for r in found.value.rows] == ["a"]
    assert not log
    measure("q", [row("a", 2, log)], repeats=5)
    assert log


def test_works_take_turns_after_one_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    clock = iter([0.0, 1.0, 1.0, 6.0, 6.0, 8.0, 8.0, 9.0, 9.0, 12.0, 12.0, 13.0])  # a: 1, 2, 3 s; b: 5, 1, 1 s
    ticking: Callable[[], float] = lambda: next(clock)  # noqa: E731
    monkeypatch.setattr("benchmarks.table.time.perf_counter", ticking)
    assert take_turns([lambda: log.append("a"), lambda: log.append("b")], repeats=3) == [2.0, 1.0]
    assert log == ["a", "b"] * 4


def test_versions_are_those_of_a_folder_first(tmp_path: Path) -> None:
    (tmp_path / "numpy-0.0.1.dist-info").mkdir()
    (tmp_path / "numpy-0.0.1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: NumPy\nVersion: 0.0.1\n")
    assert versions(("numpy", "no-such-package"), folder=tmp_path) == {"numpy": "0.0.1"}
    assert versions(("numpy",)) == {"numpy": np.__version__}
    assert set(circumstances(())) == {"date", "commit", "load", "versions"}


def test_engine_questions_have_a_second_table_by_default() -> None:
    assert {"float-vgg11", "fused-vgg11", "numpy", "lava-conv", "lava-mlp"} <= set(threaded()) < set(questions())


def test_the_page_is_made_of_the_results(tmp_path: Path) -> None:
    write_page(list(questions()), command=COMMAND, page=tmp_path / "page.md")
    assert results.PAGE.read_text() == (tmp_path / "page.md").read_text()


@pytest.mark.parametrize("name", quotes.PAGES)
def test_quoted_ratios_are_those_of_the_results(name: str) -> None:
    text = (quotes.ROOT / name).read_text(encoding="utf-8")
    assert quotes.PLACE.search(text)
    assert quotes.quoted(text) == text


def test_quotes_follow_the_results(tmp_path: Path) -> None:
    for threads, values in ((1, (0.25, 0.5, 0.125)), (2, (0.75, 0.3, 0.4))):
        for name, value in zip(("float-vgg11", "float-small-vgg", "float-resnet20"), values, strict=True):
            bars = [Bar(name="b", value=value, limit=1)]
            figures = Figures(title="t", columns=[], rows=[], asserted="", repeated="", bars=bars)
            store(name, {"threads": threads}, {}, figures.as_dict(), tmp_path)
    text = quotes.quoted("a <!-- measured: engine -->old<!-- end --> b", tmp_path)
    assert "they came from, 0.12 to 0.50 on one thread and 0.30 to 0.75 on two<!-- end -->" in text
    assert text.startswith("a <!-- measured: engine -->exact integers take, of the time")
    assert text.endswith("<!-- end --> b")
