"""GPU rows in slices: training goes on until it is done, starts anew with another recipe, never outlives its call."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import attrs
import pytest

from benchmarks.__main__ import main
from benchmarks.gpu import run as rows
from benchmarks.gpu import slices
from benchmarks.gpu.slices import Bench, SliceOver
from snn2chip.train import load_recipe

NAME = "lmht-cifar10-resnet18-short"


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Trainings that are killed in their first slice and done in their second."""
    given: list[list[str]] = []

    def fake(command: list[str], *, seconds: float) -> int | None:
        given.append(command)
        return None if len(given) % 2 else 0

    monkeypatch.setattr(slices, "_run", fake)
    return given


def test_a_killed_training_goes_on_and_a_finished_one_is_not_repeated(
    commands: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(folder=tmp_path, quick=True, device="cpu")
    with pytest.raises(SliceOver, match="minutes so far"):
        bench.train(NAME)
    said = tmp_path / f"{NAME}.json"
    said.write_text(json.dumps({**json.loads(said.read_text()), "seconds": 100.0}))
    path, seconds = bench.train(NAME)
    assert (path, bench.train(NAME)) == (tmp_path / f"{NAME}.safetensors", (path, pytest.approx(seconds, abs=0.1)))
    assert seconds >= 100  # of both slices
    assert ["--no-resume" in command for command in commands] == [True, False]
    changed = attrs.evolve(load_recipe(NAME), epochs=41)
    monkeypatch.setattr(slices, "load_recipe", lambda name: changed)
    with pytest.raises(SliceOver):
        bench.train(NAME)
    assert "--no-resume" in commands[-1]
    assert json.loads(said.read_text())["seconds"] < 100


def test_a_failed_training_says_so_and_is_not_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "_run", lambda command, *, seconds: 2)
    with pytest.raises(RuntimeError, match=f"training of {NAME} failed with exit code 2"):
        Bench(folder=tmp_path, quick=True).train(NAME)
    assert not json.loads((tmp_path / f"{NAME}.json").read_text())["done"]


def test_what_runs_when_the_slice_is_over_is_killed() -> None:
    started = time.monotonic()
    assert slices._run([sys.executable, "-c", "import time; time.sleep(60)"], seconds=1.0) is None
    assert slices._run([sys.executable, "-c", "raise SystemExit(5)"], seconds=50) == 5
    assert slices._run(["no such program"], seconds=0.0) is None
    assert time.monotonic() - started < 50


def test_the_status_says_whether_to_give_the_command_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "_run", lambda command, *, seconds: None)
    given = ["gpu", "--quick", "--device", "cpu", "--rows", "lmht", "--out", str(tmp_path)]
    assert main(given) == 3
    for passed, status in ((True, 0), (False, 1)):
        bar = rows.at_least("accuracy", 95.0 if passed else 90.0, 94.0)
        result = rows.Result(row="lmht", title="", bars=[bar])
        monkeypatch.setattr(rows, "measure", lambda row, bench, *, name, result=result: result)
        (tmp_path / "quick" / "row-lmht.json").unlink(missing_ok=True)
        assert main(given) == status


def test_the_rows_recipes_are_those_of_the_bars() -> None:
    lmht, qcfs, empf = (load_recipe(rows.ROWS[name].recipe) for name in ("lmht", "parallel", "empf"))
    assert {r.model.removesuffix("-empf") for r in (lmht, qcfs, empf, load_recipe(rows.TWIN))} == {"resnet18"}
    assert (lmht.args["L"], lmht.args["T"], empf.args["T"], qcfs.args["L"]) == (2, 2, 4, 4)
    assert (empf.method, empf.online_steps, empf.args["weights"]) == ("online", 1, "binary")
    assert rows.ROWS["parallel"].steps == qcfs.args["L"]
