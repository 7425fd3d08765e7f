"""The demo: what it promises, and that it can fail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import snn2chip
from snn2chip import demo
from snn2chip.checks.outside import check_golden, check_trace
from snn2chip.cli import app
from snn2chip.data import load_data
from snn2chip.registry import get_backend

pytest.importorskip("lightning", reason="training needs the extra `train`")

LAVA_MISSING = get_backend("lava").missing()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[demo.Demo, Path]:
    out = tmp_path_factory.mktemp("demo")
    return demo.run_demo(out), out


@pytest.mark.slow
def test_accuracy_and_fidelity(finished: tuple[demo.Demo, Path]) -> None:
    found = finished[0].report
    assert found.samples == 450
    assert (found.accuracy["float"] or 0) >= 0.96
    assert (found.accuracy["integer"] or 0) >= 0.95
    assert finished[0].differing <= 4


@pytest.mark.slow
def test_the_network_is_what_it_is_said_to_be(finished: tuple[demo.Demo, Path]) -> None:
    program = finished[0].program
    assert program.steps == 2
    hidden = [soma for soma in program.somas if soma.fire == "levels"]
    assert {int(soma.levels.max()) for soma in hidden} == {4}
    # the first soma sees one repeated current, so its window became a gain per step
    assert [soma.window is not None for soma in hidden] == [False, True, True]
    assert hidden[0].gain.shape[0] == 2
    assert [s.bits for s in program.synapses].count(1) == 2
    assert {s.kind for s in program.synapses} == {"conv2d", "linear"}


@pytest.mark.slow
def test_every_payload_of_the_test_split_is_compared(finished: tuple[demo.Demo, Path]) -> None:
    result = finished[0]
    assert result.result.equal
    assert result.result.backends == ("reference", "torch") + (() if LAVA_MISSING else ("lava",))
    assert result.skipped == ({"lava": LAVA_MISSING} if LAVA_MISSING else {})
    payloads = result.program.steps * sum(soma.size for soma in result.program.somas) * 450
    potentials_and_outputs = 2 * 10 * 450
    assert result.result.compared == (payloads + potentials_and_outputs) * (len(result.result.backends) - 1)


@pytest.mark.slow
def test_files_of_the_demo_prove_themselves(finished: tuple[demo.Demo, Path]) -> None:
    result, out = finished
    checkpoint, program_file, trace_file, report_file = result.files
    assert {file.parent for file in result.files} == {out}
    program = snn2chip.load(program_file)
    assert check_golden(program_file, backends=("torch",)).equal
    assert check_trace(program, trace_file, backends=("torch",)).equal
    x, y = load_data("digits", split="test")
    trace = snn2chip.run(program, x, record="outputs")
    assert float((trace.pred == y).mean()) == result.report.accuracy["integer"]
    saved = json.loads(report_file.read_text())
    assert saved["accuracy"] == result.report.accuracy
    assert saved["totals"]["spikes"] == trace.counts.totals["spikes"]
    again = CliRunner().invoke(app, ["compile", str(checkpoint), "-o", str(out / "again.s2c")])
    assert again.exit_code == 0, again.output
    assert snn2chip.load(out / "again.s2c").digest() == program.digest()


def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(get_backend("lava")), "missing", lambda self: "lava-nc needs Python 3.10")
    real, load = demo.train, demo.load
    monkeypatch.setattr(demo, "train", lambda path, *, seed, epochs: real(path, seed=seed, epochs=1))
    monkeypatch.setattr(demo, "load", lambda: tuple(part[:40] for part in load()))


def test_without_lava_the_reason_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _quick(monkeypatch)
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "new" / "folder"), "--seed", "3"])
    assert result.exit_code == 0, result.output
    assert "lava skipped: lava-nc needs Python 3.10" in result.output
    assert "EQUAL reference == torch: 165,440 payloads and potentials compared" in result.output
    assert (tmp_path / "new" / "folder" / "digits.s2c").is_file()
    for word in ("float accuracy", "integer accuracy", "syn. events", "fidelity", "total"):
        assert word in result.output


def test_a_backend_that_is_wrong_makes_the_demo_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _quick(monkeypatch)
    engine = type(get_backend("torch"))
    true_run = engine.run

    def run(self: Any, program: Any, inputs: Any, *, record: str = "all") -> Any:
        trace = true_run(self, program, inputs, record=record)
        if "neuron2" in trace.payloads:
            trace.payloads["neuron2"] = np.array(trace.payloads["neuron2"])
            trace.payloads["neuron2"][1, 0, 7, 2, 3] += 1
        return trace

    monkeypatch.setattr(engine, "run", run)
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path)])
    assert result.exit_code == 1
    assert "DIFFERENT reference == torch" in result.output
    assert "payload of neuron2 (layers.6), sample 0, step 1, index [7, 2, 3]" in result.output


def test_a_folder_that_cannot_be_made_leaves_with_3(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "file" / "x")])
    assert result.exit_code == 3
    assert "cannot be made a folder" in result.output
