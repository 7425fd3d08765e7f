"""The demo: what it promises, and that it can fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import snn2chip
from snn2chip import demo
from snn2chip.checkpoint import load_model
from snn2chip.checks.outside import check_golden, check_trace
from snn2chip.cli import app
from snn2chip.data import load_data
from snn2chip.registry import get_backend

LAVA_MISSING = get_backend("lava").missing()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[demo.Demo, Path]:
    out = tmp_path_factory.mktemp("demo")
    return demo.run_demo(out), out


@pytest.mark.slow
def test_accuracy_of_integers(finished: tuple[demo.Demo, Path]) -> None:
    for run in finished[0].runs:
        assert run.float_accuracy >= 0.95
        assert run.integer_accuracy >= 0.95
        assert run.agreement >= 0.98


@pytest.mark.slow
def test_every_payload_of_the_test_split_is_compared(finished: tuple[demo.Demo, Path]) -> None:
    result, _ = finished
    assert result.equal
    backends = ("reference", "torch") if LAVA_MISSING else ("reference", "torch", "lava")
    assert result.skipped == ({"lava": LAVA_MISSING} if LAVA_MISSING else {})
    for run in result.runs:
        assert run.result is not None
        assert run.result.backends == backends
        payloads = run.recipe.steps * (128 + 64 + 10) * 450
        assert run.result.compared == (payloads + 10 * 450 + 10 * 450) * (len(backends) - 1)


@pytest.mark.slow
def test_files_of_the_demo_prove_themselves(finished: tuple[demo.Demo, Path]) -> None:
    result, out = finished
    x, y = load_data("digits", split="test")
    for run in result.runs:
        program_file, trace_file, checkpoint = run.files
        assert {file.parent for file in run.files} == {out}
        program = snn2chip.load(program_file)
        assert check_golden(program_file, backends=("torch",)).equal
        assert check_trace(program, trace_file, backends=("torch",)).equal
        trace = snn2chip.run(program, x.reshape(450, 64), record="outputs")
        assert float((trace.pred == y).mean()) == run.integer_accuracy
        model, header = load_model(checkpoint, model=f"snn2chip.convert.qcfs_mlp:{run.recipe.weights}")
        assert header is not None
        assert header.method == "qcfs"
        for name, value in run.model.state_dict().items():
            assert (model.state_dict()[name] == value).all(), name


@pytest.mark.slow
def test_stages_are_timed(finished: tuple[demo.Demo, Path]) -> None:
    assert list(finished[0].seconds) == ["data", "train", "lower", "check", "save"]
    assert sum(finished[0].seconds.values()) < 60


def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(get_backend("lava")), "missing", lambda self: "lava-nc needs Python 3.10")
    monkeypatch.setattr(demo, "RECIPES", (demo.Recipe(weights="int8", steps=2, levels=2),))
    real = demo.train

    def one_epoch(recipe: demo.Recipe, data: Any, *, seed: int, epochs: int) -> demo.Run:
        return real(recipe, data, seed=seed, epochs=1)

    monkeypatch.setattr(demo, "train", one_epoch)


def test_without_lava_the_reason_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _quick(monkeypatch)
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "new" / "folder"), "--seed", "3"])
    assert result.exit_code == 0, result.output
    assert "lava skipped: lava-nc needs Python 3.10" in result.output
    assert "EQUAL reference == torch: 190,800 payloads and potentials compared" in result.output
    assert (tmp_path / "new" / "folder" / "digits-int8.s2c").is_file()
    for word in ("float accuracy", "integer accuracy", "synaptic events", "total"):
        assert word in result.output


def test_a_backend_that_is_wrong_makes_the_demo_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _quick(monkeypatch)
    engine = type(get_backend("torch"))
    true_run = engine.run

    def run(self: Any, program: Any, inputs: Any, *, record: str = "all") -> Any:
        trace = true_run(self, program, inputs, record=record)
        trace.payloads["hidden2"] = np.array(trace.payloads["hidden2"])
        trace.payloads["hidden2"][1, 0, 7] += 1
        return trace

    monkeypatch.setattr(engine, "run", run)
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path)])
    assert result.exit_code == 1
    assert "DIFFERENT reference == torch" in result.output
    assert "payload of hidden2 (neurons.1), sample 0, step 1, index [7]" in result.output


def test_the_same_seed_gives_the_same_program(tmp_path: Path) -> None:
    data = demo.load()
    digests = []
    for seed in (1, 1, 2):
        run = demo.train(demo.RECIPES[0], data, seed=seed, epochs=1)
        demo.lower(run)
        assert run.program is not None
        digests.append(run.program.digest())
    assert digests[0] == digests[1] != digests[2]


def test_a_folder_that_cannot_be_made_leaves_with_3(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "file" / "x")])
    assert result.exit_code == 3
    assert "cannot be made a folder" in result.output
