"""The GPU rows run: tiny forms of all of them on the CPU, and a clear word where there is no GPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import benchmarks.training as training
from benchmarks.__main__ import main
from benchmarks.gpu.fast import FAST, engine
from benchmarks.gpu.slices import Bench
from benchmarks.table import Bar, Row, Table, measure


def test_without_a_gpu_nothing_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["gpu", "--rows", "engine", "--out", str(tmp_path)]) == 3
    assert "no CUDA device" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_engine_row(tmp_path: Path) -> None:
    found = engine(Bench(folder=tmp_path, device="cpu", quick=True))
    assert [bar.text for bar in found.bars] == ["engine vs bfloat16 forward", "engine vs TF32 forward"]
    assert [line["net"] for line in found.figures][-1] == "exact engine, coded samples in"
    assert all(line["ms"] > 0 for line in found.figures)
    assert found.notes == ["arithmetic: no kernels for cpu"]
    assert torch.get_float32_matmul_precision() == "highest"


def test_the_other_rows_by_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bars are held, written and decide the status; the training's two sides are stood in for."""
    bench = ["gpu", "--quick", "--device", "cpu", "--out", str(tmp_path), "--rows"]

    def sides(what: str, *, limit: float, precision: str, **other: Any) -> Table:
        rows = [Row(name=name, samples=4, run=lambda: None, compared=False) for name in ("SpikingJelly", "snn2chip")]
        met = 1.5 if precision == "32" else 1.2
        return measure("a step", rows, repeats=1).with_bars(Bar(name=precision, value=met, limit=limit, at_least=True))

    monkeypatch.setattr(training, "training", sides)
    assert main([*bench, "step"]) == 1
    said = json.loads((tmp_path / "quick" / "row-step.json").read_text())
    assert [bar["passed"] for bar in said["bars"]] == [True, False]
    assert {line["precision"] for line in said["figures"]} == {"32", "bf16"}
    monkeypatch.setattr(training, "_infer", lambda neuron, x, plain: neuron(x[:, :, :8]))
    status = main([*bench, "neurons"])
    found = json.loads((tmp_path / "quick" / "row-neurons.json").read_text())
    assert [bar["text"] for bar in found["bars"]] == ["parallel neurons vs serial IF, T = 64"]
    assert status == int(not found["bars"][0]["passed"])
    assert set(FAST) == {"engine", "step", "neurons"}
