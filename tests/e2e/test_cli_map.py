"""`snn2chip map` from outside: tables, files, errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import snn2chip.data.feed as data_feed
from snn2chip.api import load
from snn2chip.cli.command import app
from snn2chip.mapping.saved import load_mapping
from snn2chip.testing.programs import random_program


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "p.s2c"
    random_program(3).program.save(path, golden=2)
    return path


def call(*args: object) -> tuple[int, str]:
    from typer.testing import CliRunner

    result = CliRunner().invoke(app, ["map", *map(str, args)])
    return result.exit_code, result.output


def test_tables_json_and_the_mapped_program(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = random_program(3)
    (name,) = case.raw
    x = np.asarray(case.raw[name])
    steps_first = case.program[name].coding == "steps"  # type: ignore[union-attr]
    np.savez(tmp_path / "x.npz", x=np.moveaxis(x, 0, 1) if steps_first else x)
    out, report = tmp_path / "m.s2c", tmp_path / "m.json"
    code, text = call(program, "--target", "ideal", "--input", tmp_path / "x.npz", "-o", out, "--json", report)
    assert code == 0, text
    assert "per core" in text
    assert "row-major" in text
    assert "assumes:" in text
    written = json.loads(report.read_text())
    assert (written["format"], written["version"], written["target"]) == ("snn2chip-mapping", 1, "ideal")
    assert written["cores"] == len(written["per_core"]) == len(case.program.somas)
    assert sum(row["neurons"] for row in written["per_core"]) == sum(s.size for s in case.program.somas)
    assert written["traffic"].startswith("measured over ")
    mapped = load(out)
    assert load_mapping(mapped).partition.cores == written["cores"]
    from snn2chip.ir.files import read

    assert read(out)[1].keys() == read(program)[1].keys()  # golden vectors stay
    monkeypatch.setattr(data_feed, "READ", 1)  # samples one by one: the same messages, to the last number
    code, text = call(program, "--target", "ideal", "--input", tmp_path / "x.npz", "--json", report)
    assert code == 0, text
    again = json.loads(report.read_text())
    assert {k: v for k, v in again.items() if k != "origin"} == {k: v for k, v in written.items() if k != "origin"}


def test_errors(program: Path) -> None:
    code, text = call(program, "--target", "loihi3")
    assert code == 2
    assert "loihi1, loihi1-nengo, loihi2" in text
    code, text = call(program, "--samples", 3)
    assert code == 2
    assert "speak about the samples of --data or --input" in text
