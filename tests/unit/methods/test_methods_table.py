"""The methods table: a row is measured again when a recipe changes and only then; the page repeats the files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from benchmarks.methods import run as table
from benchmarks.methods.nets import Nets
from benchmarks.methods.page import page
from benchmarks.methods.result import Bar, Result, essence, identity, read, write
from benchmarks.methods.rows import Row, at_least, at_most
from snn2chip.train import load_recipe

RECIPE = load_recipe("digits")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Exchange the rows for one that notes when it is measured."""
    log: list[str] = []

    def measure(nets: Nets) -> Result:
        log.append(nets.folder.name)
        return Result(row="one", title="One row", bars=[at_least("ten", 10 + len(log), 11.5)])

    monkeypatch.setattr(table, "ROWS", {"one": Row(name="one", recipes=["digits"], measure=measure)})
    return log


def test_rows_are_measured_once_per_recipe(
    measured: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    again: Callable[[], bool] = lambda: table.run([], out=tmp_path / "res", nets=tmp_path, quick=False)  # noqa: E731
    assert not again()
    assert not again()
    assert len(measured) == 1
    assert "measured before" in capsys.readouterr().out
    changed = attrs.evolve(RECIPE, lr=RECIPE.lr / 2)
    monkeypatch.setattr("benchmarks.methods.nets.load_recipe", lambda name: changed)
    assert again()
    assert len(measured) == 2
    assert "12.00" in (tmp_path / "res.md").read_text()


def test_quick_rows_do_not_pass_for_full_ones(measured: list[str], tmp_path: Path) -> None:
    table.run(["one"], out=tmp_path / "res", nets=tmp_path, quick=True)
    assert "mean nothing" in (tmp_path / "res.md").read_text()
    table.run(["one"], out=tmp_path / "res", nets=tmp_path, quick=False)
    assert measured == ["quick", tmp_path.name]


def test_identity_is_of_what_trains() -> None:
    same = attrs.evolve(RECIPE, title="another title")
    assert identity([RECIPE], quick=False) == identity([same], quick=False)
    for changes in ({"lr": 0.5}, {"seed": 9}, {"args": {**RECIPE.args, "L": 3}}, {"augment": {"shift": 2}}):
        other = attrs.evolve(RECIPE, **changes)
        assert identity([other], quick=False) != identity([RECIPE], quick=False)
    assert "threads" not in essence(attrs.evolve(RECIPE, threads=1))  # defaults say nothing


def test_files_give_back_results_and_the_page_shows_their_figures(tmp_path: Path) -> None:
    result = Result(
        row="r",
        title="A row",
        bars=[Bar(text="words", measured="1.25 points", passed=False)],
        seeds=(0, 1),
        epochs={"net-s0": 4, "net-s1": 4},
        ann={"accuracy": 91.5, "gap": 0.75},
        figures=[{"net": "a|b", "accuracy": "90.75"}, {"net": "c", "other": 3}],
        machine={"cpu": "X", "threads": 1, "cores": 2, "instructions": "AVX", "python": "3", "torch": "2"},
    )
    write(result, tmp_path / "r.json")
    found = read(tmp_path / "r.json")
    assert found is not None
    assert json.dumps(attrs.asdict(found)) == json.dumps(attrs.asdict(result))
    shown = page([found])
    assert all(text in shown for text in ("**fail**", "1.25 points", "gap 0.75 points", "| a/b | 90.75 |  |", "net: 4"))
    assert read(tmp_path / "none.json") is None


def test_bars_compare_what_they_show() -> None:
    assert at_least("x", 2.0, 2.0).passed
    assert not at_least("x", 1.99, 2.0).passed
    assert at_most("x", 1.5, 1.5).passed
    assert not at_most("x", 1.51, 1.5).passed
    assert at_most("x", 1.51, 1.5).measured == "1.51 points (<= 1.50)"
