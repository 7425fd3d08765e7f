"""`snn2chip check`: backends, golden vectors, traces from elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snn2chip
from snn2chip import Program
from snn2chip.data import load_data
from snn2chip.ir import files
from snn2chip.registry import get_backend

Invoke = Callable[..., str]
Network = Callable[..., Program]


def test_check_equal(program: Path, tmp_path: Path, invoke: Invoke) -> None:
    text = invoke("check", program, "--backends", "reference,torch", "--samples", 20, "--json", tmp_path / "o.json")
    # 20 samples: 3 steps of 12 + 10 payloads, 10 potentials, 10 outputs
    assert "EQUAL reference == torch: 1,720 integers compared" in text
    found = json.loads((tmp_path / "o.json").read_text())
    assert found.pop("origin")["inputs"].keys() == {"tiny.s2c"}
    same = {"equal": True, "compared": 1720, "backends": ["reference", "torch"], "first": None, "notes": []}
    assert found == {**same, "float": None, "agreement": None}  # null: no float model was given


def test_one_backend_is_held_against_the_reference(program: Path, invoke: Invoke) -> None:
    assert "EQUAL reference == torch" in invoke("check", program, "--backends", "torch", "--samples", 3)


def test_blocks_of_a_check_count_samples_through(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, invoke: Invoke
) -> None:
    monkeypatch.setattr("snn2chip.shards.checking.BLOCK", 8)
    monkeypatch.setattr(type(get_backend("torch")), "run", _wrong_in(get_backend("torch"), block=2, sample=1))
    invoke("check", program, "--backends", "reference,torch", "--samples", 30, "--json", tmp_path / "o.json", code=1)
    first = json.loads((tmp_path / "o.json").read_text())["first"]
    assert (first["soma"], first["sample"], first["step"], first["index"]) == ("hidden", 17, 1, [5])


def _wrong_in(engine: Any, *, block: int, sample: int) -> Any:
    """The backend's own run, but with one payload of one block changed."""
    true_run, calls = type(engine).run, iter(range(100))

    def run(self: Any, program: Program, inputs: Any, *, record: str = "all") -> Any:
        trace = true_run(self, program, inputs, record=record)
        if next(calls) == block:
            trace.payloads["hidden"] = np.array(trace.payloads["hidden"])
            trace.payloads["hidden"][1, sample, 5] ^= 1
        return trace

    return run


def test_a_wrong_weight_in_a_copy_is_named(program: Path, tmp_path: Path, invoke: Invoke, network: Network) -> None:
    golden = files.read(program)[1]
    files.write(tmp_path / "copy.s2c", network(fault=60), golden=golden)
    assert "EQUAL golden (reference) == torch" in invoke("check", program, "--golden", "--backends", "torch")
    text = invoke(
        "check", tmp_path / "copy.s2c", "--golden", "--backends", "torch", "--json", tmp_path / "o.json", code=1
    )
    found = json.loads((tmp_path / "o.json").read_text())
    assert "changed after they were made" in text
    assert "first divergence: payload of hidden (net.0)" in text
    first = found["first"]
    x, _ = load_data("digits", split="test")
    right, wrong = (snn2chip.run(p, x[:4].reshape(4, 64), backend="reference") for p in (network(), network(fault=60)))
    places = np.argwhere(np.moveaxis(right.payloads["hidden"] != wrong.payloads["hidden"], 0, 1))
    sample, step, index = (int(i) for i in places[0])
    assert index == 3
    assert (first["soma"], first["layer"], first["sample"], first["step"]) == ("hidden", "net.0", sample, step)
    assert first["index"] == [3]
    assert first["expected"] == right.payloads["hidden"][step, sample, 3]
    assert first["got"] == wrong.payloads["hidden"][step, sample, 3]


def test_check_against_a_recorded_trace(program: Path, tmp_path: Path, invoke: Invoke) -> None:
    invoke("run", program, "--samples", 6, "--record", "all", "-o", tmp_path / "t.npz")
    assert "EQUAL reference == t.npz" in invoke("check", program, "--trace", tmp_path / "t.npz")
    with np.load(tmp_path / "t.npz") as file:
        arrays = {k: file[k] for k in file.files if not k.startswith("input/")}
    np.savez(tmp_path / "board.npz", **arrays)
    assert "EQUAL" in invoke("check", program, "--trace", tmp_path / "board.npz")  # the program's own data: digits
    arrays["payload/hidden"][4, 2, 7] += 1
    np.savez(tmp_path / "board.npz", **arrays)
    args = ("--trace", tmp_path / "board.npz", "--data", "digits", "--json", tmp_path / "o.json")
    invoke("check", program, *args, code=1)
    first = json.loads((tmp_path / "o.json").read_text())["first"]
    assert (first["sample"], first["step"], first["index"], first["got_by"]) == (4, 2, [7], "board.npz")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--golden", "--data", "digits"), "brings its own samples"),
        (("--backends", ","), "names no backend"),
        (("--backends", "torch,torch"), "two different backends"),
        (("--steps-in-input",), "--input X.npz"),
    ],
)
def test_bad_checks_leave_with_2(program: Path, args: Sequence[str], message: str, invoke: Invoke) -> None:
    assert message in " ".join(invoke("check", program, *args, code=2).split())


def test_check_names_backends_it_leaves_out(program: Path, monkeypatch: pytest.MonkeyPatch, invoke: Invoke) -> None:
    monkeypatch.setattr(type(get_backend("lava")), "missing", lambda self: "no such package")
    text = invoke("check", program, "--samples", 2)
    assert "lava left out: no such package" in text
    assert "EQUAL reference == torch" in text


@pytest.mark.lava
@pytest.mark.skipif(get_backend("lava").missing() is not None, reason=str(get_backend("lava").missing()))
def test_check_on_all_three_backends(program: Path, invoke: Invoke) -> None:
    assert "EQUAL reference == torch == lava" in invoke("check", program, "--samples", 2)


@pytest.mark.lava
@pytest.mark.skipif(sys.version_info[:2] != (3, 10), reason="lava-nc needs Python 3.10")
@pytest.mark.parametrize("layout", ["layer", "fused"])
def test_check_on_an_own_lava_layout_says_what_it_is(program: Path, invoke: Invoke, layout: str) -> None:
    options = ("--lava-layout", layout, "--lava-mode", "async", "--lava-batch", 4)
    text = invoke("check", program, "--backends", "reference,lava", "--samples", 10, *options)
    assert f"note: lava: layout '{layout}'" in text
    assert ("not an independent oracle" if layout == "fused" else "is the independent oracle") in text
    assert "EQUAL reference == lava" in text


def test_lava_options_without_lava_are_refused(program: Path, invoke: Invoke) -> None:
    options = ("--lava-layout", "fused")
    for verb in (("check", program, "--backends", "reference,torch"), ("run", program, "--backend", "torch")):
        assert "--lava-layout: the backend lava is not used here" in invoke(*verb, *options, code=2)
