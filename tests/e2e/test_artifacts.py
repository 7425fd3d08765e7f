"""`--artifacts DIR`: a folder that proves itself, written whole or not at all, that deletes nothing but its own."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from snn2chip import Input, Output, Program, Soma, Synapse
from snn2chip.artifacts import replacing_folder
from snn2chip.cli import app
from snn2chip.cli.artifacts import GOLDEN, WHAT
from snn2chip.errors import InputError
from snn2chip.stages import listening, stage, staged
from snn2chip.writing import SUFFIX

pytest.importorskip("matplotlib", reason="pages need the extra `report`")


def call(*words: Any) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small program with a channel that is dead, no data set."""
    file = tmp_path_factory.mktemp("program") / "net.s2c"
    weight = np.random.default_rng(0).integers(-8, 8, (8, 1, 3, 3))
    dense = np.random.default_rng(1).integers(-8, 8, (4, 8 * 16))
    theta = np.array([20] * 7 + [2**23 - 1])
    Program(
        nodes=[
            Input("x", (1, 6, 6), 0, 7), Synapse("w", "conv2d", weight), Soma("s", (8, 4, 4), theta=theta),
            Synapse("v", "linear", dense), Soma("read", (4,), fire="none"), Output("o"),
        ],
        edges=[("x", "w"), ("w", "s"), ("s", "v"), ("v", "read"), ("read", "o")],
        steps=3,
        meta={"name": "net"},
    ).save(file)  # fmt: skip
    return file


@pytest.fixture(scope="module")
def folder(program: Path) -> Path:
    made = program.parent / "run" / "artifacts"
    done = call("compile", program, "--transform", "dead-channel", "--artifacts", made)
    assert done.exit_code == 0, done.output
    assert f"wrote {made}" in done.output
    return made


def test_every_file_is_there_and_named_by_the_manifest(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    assert set(manifest["files"]) == set(WHAT) == {p.name for p in folder.iterdir()} - {"manifest.json"}
    for name, row in manifest["files"].items():
        body = (folder / name).read_bytes()
        assert (row["bytes"], row["sha256"]) == (len(body), hashlib.sha256(body).hexdigest())
    assert manifest["source"]["file"] == "net.s2c"
    stages = {row["stage"]: row for row in json.loads((folder / "timing.json").read_text())["stages"]}
    assert {"transform dead-channel", "golden vectors", "report", "page"} <= set(stages)
    assert all(row["wall"] >= 0 and row["cpu"] >= 0 for row in stages.values())
    log = (folder / "log.txt").read_text()
    for word in ("transform dead-channel", "versions: snn2chip", manifest["program"], "decisions"):
        assert word in log
    assert "<html" in (folder / "report.html").read_text()


def test_the_folder_proves_itself(folder: Path) -> None:
    file = folder / "program.s2c"
    for words in (("--golden",), ("--trace", folder / "expected.npz")):
        done = call("check", file, *words, "--backends", "torch")
        assert done.exit_code == 0, done.output
        assert "EQUAL" in done.output
    report = json.loads((folder / "report.json").read_text())
    assert report["samples"] == GOLDEN  # no data set: the random samples of the golden vectors
    assert report["provenance"]["samples"] == "inputs.npz"
    with np.load(folder / "inputs.npz") as inputs, np.load(folder / "expected.npz") as expected:
        assert inputs["x"].shape == (GOLDEN, 1, 6, 6)
        changed = expected["outputs"] + 1
        rest = {name: expected[name] for name in expected.files if name != "outputs"}
    wrong = folder.parent / "wrong.npz"
    np.savez(wrong, outputs=changed, **rest)
    assert call("check", file, "--trace", wrong, "--backends", "torch").exit_code == 1


def test_a_rerun_replaces_and_a_failure_leaves_the_old_one(folder: Path, program: Path, monkeypatch: Any) -> None:
    (folder / "report.json").write_text("old")
    words = ("report", program, "--input", folder / "inputs.npz", "--target", "loihi2", "--artifacts", folder)
    with monkeypatch.context() as broken:

        def fails(*_: Any) -> None:
            raise InputError("disk full")

        broken.setattr("snn2chip.reports.rows.write_csv", fails)
        done = call(*words)
    assert done.exit_code == 2
    assert (folder / "report.json").read_text() == "old"
    assert [p.name for p in folder.parent.iterdir() if p.name.startswith(".")] == []
    done = call(*words)
    assert done.exit_code == 0, done.output
    found = json.loads((folder / "report.json").read_text())
    assert [t["name"] for t in found["costs"]["targets"]] == ["loihi2"]
    assert found["name"] == "net"
    assert [p.name for p in folder.parent.iterdir() if p.name.startswith(".")] == []


def test_what_is_not_ours_stays(program: Path, tmp_path: Path) -> None:
    mine = tmp_path / "notes"
    mine.mkdir()
    (mine / "diary.txt").write_text("dear diary")
    for target, said in ((mine, "no artifacts of snn2chip"), (mine / "diary.txt", "is a file")):
        done = call("compile", program, "--transform", "dead-channel", "--artifacts", target)
        assert done.exit_code == 2
        assert said in done.output
    assert [p.name for p in mine.iterdir()] == ["diary.txt"]
    ours = tmp_path / "ours"
    assert call("compile", program, "--transform", "dead-channel", "--artifacts", ours).exit_code == 0
    (ours / "extra.txt").write_text("added by hand")
    done = call("compile", program, "--transform", "dead-channel", "--artifacts", ours)
    assert done.exit_code == 2
    assert "extra.txt" in done.output
    assert (ours / "extra.txt").read_text() == "added by hand"


def test_inputs_of_both_kinds_and_few_samples(tmp_path: Path) -> None:
    """One input stands still, one has every step: inputs.npz is in the layout that `run --input` reads."""
    file, folder = tmp_path / "two.s2c", tmp_path / "made"
    Program(
        nodes=[
            Input("image", (3,), 0, 7), Synapse("v", "linear", np.array([[1, -2, 3]])),
            Input("sound", (2,), 0, 7, coding="steps"), Synapse("w", "linear", np.array([[2, -1]])),
            Soma("s", (1,), theta=np.array([5])), Output("o", read="count"),
        ],
        edges=[("image", "v"), ("v", "s"), ("sound", "w"), ("w", "s"), ("s", "o")],
        steps=5,
    ).save(file)  # fmt: skip
    done = call("report", file, "--target", "loihi2", "--artifacts", folder)
    assert done.exit_code == 0, done.output
    with np.load(folder / "inputs.npz") as inputs:
        assert {name: inputs[name].shape for name in inputs.files} == {
            "x/image": (GOLDEN, 3),
            "x/sound": (GOLDEN, 5, 2),
            "origin": (),
        }
        few = {name: inputs[name][:2] for name in inputs.files if name != "origin"}
    np.savez(tmp_path / "few.npz", **few)
    words = ("--input", tmp_path / "few.npz", "--target", "loihi2", "--artifacts", folder)
    done = call("report", file, *words)
    assert done.exit_code == 0, done.output
    assert json.loads((folder / "report.json").read_text())["samples"] == 2
    with np.load(folder / "inputs.npz") as inputs, np.load(folder / "expected.npz") as expected:
        assert all(np.array_equal(inputs[name], x) for name, x in few.items())
        current = few["x/image"] @ [1, -2, 3] + (few["x/sound"] @ [2, -1]).T  # [steps, samples]
        potential, fired = 0, 0
        for now in current:
            potential = potential + now
            fires = potential >= 5
            potential, fired = potential - 5 * fires, fired + fires
        assert np.array_equal(expected["outputs"][:, 0], fired)
    done = call("report", file, *words, "--steps-in-input")
    assert done.exit_code == 2


def test_a_compile_takes_the_samples_that_there_are(tmp_path: Path, invoke: Any) -> None:
    """A data set of fewer samples than the report of a compile takes at most."""
    nir = Path(__file__).parents[1] / "unit" / "nir" / "fixtures" / "snntorch_mlp.nir"
    data = tmp_path / "few.npz"
    np.savez(data, x=np.random.default_rng(3).integers(0, 17, (5, 64)), y=np.arange(5))
    how = ("--nir-profile", "snntorch", "--steps", "2", "--data", data, "--target", "ideal")
    invoke("compile", nir, *how, "--artifacts", tmp_path / "made")
    assert json.loads((tmp_path / "made" / "report.json").read_text())["samples"] == 5


def test_the_program_needs_a_place(program: Path) -> None:
    done = call("compile", program, "--transform", "dead-channel")
    assert done.exit_code == 2
    assert "-o FILE.s2c, --artifacts DIR or both" in done.output


def test_a_folder_that_cannot_take_its_name_leaves_the_old_one(tmp_path: Path, monkeypatch: Any) -> None:
    target = tmp_path / "a"
    with replacing_folder(target) as part:
        (part / "manifest.json").write_text('{"format": "snn2chip-artifacts", "files": {"x": 1}}')
        (part / "x").write_text("first")
    plain = os.rename

    def rename(source: Path, to: Path) -> None:
        if to == target and source.parent.name.endswith(SUFFIX):
            raise OSError(errno.ENOTEMPTY if target.exists() else errno.EIO, "no")
        plain(source, to)

    monkeypatch.setattr("snn2chip.writing._exchange", lambda a, b: False)
    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(OSError, match="no"), replacing_folder(target) as part:
        (part / "x").write_text("second")
    assert (target / "x").read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_stages_nest_and_nobody_has_to_listen() -> None:
    @staged("inner")
    def work() -> int:
        return 7

    assert work() == 7
    with listening() as rows, stage("outer"):
        assert work() == 7
    assert [(row.name, row.depth) for row in rows] == [("outer", 0), ("inner", 1)]
    assert rows[0].seconds >= rows[1].seconds >= 0
