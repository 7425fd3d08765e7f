"""The command line: names, formats, exit codes."""

from __future__ import annotations

import json
import os
import pickle
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from typer.testing import CliRunner

import snn2chip
from snn2chip import Input, Output, Program, Soma, Synapse
from snn2chip.cli import app
from snn2chip.data import load_data
from snn2chip.ir import files
from snn2chip.registry import get_backend

VERBS = ("demo", "train", "run", "check", "inspect", "emit", "doctor", "compile")


def network(*, fault: int = 0) -> Program:
    """64 pixels, 12 neurons, 10 classes, random weights; `fault` is added to one weight."""
    rng = np.random.default_rng(5)
    first, second = rng.integers(-7, 8, (12, 64)), rng.integers(-7, 8, (10, 12))
    first[3, 20] += fault
    return Program(
        nodes=[
            Input("pixels", (64,), 0, 16),
            Synapse("w1", weight=first, bits=8),
            Soma("hidden", (12,), theta=60, levels=3, leak=3000, layer="net.0"),
            Synapse("w2", weight=second, bits=8),
            Soma("logits", (10,), fire="none", layer="net.2"),
            Output("classes"),
        ],
        edges=[("pixels", "w1"), ("w1", "hidden"), ("hidden", "w2"), ("w2", "logits"), ("logits", "classes")],
        steps=3,
        meta={"name": "tiny", "data": "digits"},
    )


@pytest.fixture
def program(tmp_path: Path) -> Path:
    x, _ = load_data("digits", split="test")
    network().save(tmp_path / "tiny.s2c", golden=4, inputs=x[:4].reshape(4, 64))
    return tmp_path / "tiny.s2c"


def invoke(*args: object, code: int = 0) -> str:
    """Run the command in this process and return all it printed."""
    result = CliRunner().invoke(app, [str(a) for a in args])
    assert result.exit_code == code, (result.output, result.exception)
    assert "Traceback" not in result.output
    return result.output


def outside(*args: object, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a process of its own."""
    command = [sys.executable, "-m", "snn2chip", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env}, timeout=120, check=False)


# ---- the command itself


def test_help_lists_the_verbs_and_is_quick() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = outside("--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert result.returncode == 0
    assert all(verb in result.stdout for verb in VERBS)
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 0.5


def test_nothing_heavy_is_imported_for_help() -> None:
    code = "import snn2chip.cli, sys; print([m for m in 'torch numpy scipy lava sklearn'.split() if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "[]"


def test_version() -> None:
    assert invoke("--version").strip() == f"snn2chip {snn2chip.__version__}"


@pytest.mark.parametrize(
    "args", [("frobnicate",), ("run",), ("run", "a.s2c", "--no-such"), ("run", "a", "--samples", "0")]
)
def test_usage_errors_leave_with_2(args: Sequence[str]) -> None:
    assert invoke(*args, code=2)


def test_an_error_is_one_message_on_stderr(tmp_path: Path) -> None:
    (tmp_path / "bad.s2c").write_bytes(b"not a program")
    result = outside("run", tmp_path / "bad.s2c")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"error: {tmp_path}/bad.s2c: damaged")
    assert len(result.stderr.splitlines()) == 1


def test_debug_shows_the_traceback_also_behind_the_verb(tmp_path: Path) -> None:
    for args in (("--debug", "inspect", "none.s2c"), ("inspect", "none.s2c", "--debug")):
        result = CliRunner().invoke(app, list(args))
        assert isinstance(result.exception, snn2chip.errors.FileFormatError)


def test_a_defect_leaves_with_3_and_not_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from snn2chip.cli import main

    def broken() -> None:
        raise RuntimeError("loose wire")

    monkeypatch.setattr("snn2chip.cli.command.app", broken)
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 3
    assert "loose wire" in capsys.readouterr().err


def test_a_missing_package_leaves_with_3(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(get_backend("lava")), "missing", lambda self: "install it with pip")
    assert "install it with pip" in invoke("run", program, "--backend", "lava", code=3)


def test_an_unwritable_place_leaves_with_3(program: Path) -> None:
    assert "error:" in invoke("run", program, "--samples", 2, "-o", "/proc/nowhere/trace.npz", code=3)


# ---- run


def test_run_on_digits(program: Path, tmp_path: Path) -> None:
    x, y = load_data("digits", split="test")
    expected = snn2chip.run(network(), x.reshape(450, 64), backend="reference", record="outputs")
    right = int((expected.pred == y).sum())
    text = invoke("run", program, "-o", tmp_path / "t.npz")
    assert f"accuracy {right / 450:.4f} ({right} of 450, digits)" in text
    with np.load(tmp_path / "t.npz") as file:
        assert set(file.files) == {"outputs", "pred"}
        assert (file["outputs"] == expected.outputs).all()
        assert (file["pred"] == expected.pred).all()


def test_run_records_everything_when_asked(program: Path, tmp_path: Path) -> None:
    x, _ = load_data("digits", split="test")
    expected = snn2chip.run(network(), x[:70].reshape(70, 64), backend="reference")
    invoke("run", program, "--data", "digits", "--samples", 70, "--record", "all", "-o", tmp_path / "t.npz")
    with np.load(tmp_path / "t.npz") as file:
        assert (file["payload/hidden"] == np.moveaxis(expected.payloads["hidden"], 0, 1)).all()
        assert (file["potential/logits"] == np.moveaxis(expected.potentials["logits"], 0, 1)).all()
        assert file["payload/hidden"].shape == (70, 3, 12)


def test_run_on_a_file_of_frames_or_of_steps(program: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 17, (5, 64))
    np.savez(tmp_path / "x.npz", x=x)
    np.savez(tmp_path / "xt.npz", x=np.repeat(x[:, None], 3, axis=1), y=np.arange(5))
    for backend in ("reference", "torch"):
        invoke("run", program, "--input", tmp_path / "x.npz", "--backend", backend, "-o", tmp_path / "a.npz")
        args = ("--input", tmp_path / "xt.npz", "--steps-in-input", "--backend", backend, "-o", tmp_path / "b.npz")
        assert "accuracy" in invoke("run", program, *args)
        with np.load(tmp_path / "a.npz") as a, np.load(tmp_path / "b.npz") as b:
            assert (a["outputs"] == b["outputs"]).all()
            assert (a["outputs"] == snn2chip.run(network(), x, backend="reference").outputs).all()


@pytest.mark.parametrize(
    ("arrays", "args", "message"),
    [
        ({"x": np.full((2, 64), 17)}, (), "pixels: values 17..17 are outside the declared range [0, 16]"),
        ({"x": np.zeros((2, 8, 8), int)}, (), "pixels: expected samples [B, 64], got [2, 8, 8]"),
        ({"x": np.full((2, 64), np.nan)}, (), "must be finite"),
        ({"y": np.zeros(2, int)}, (), "needs 'x'"),
        ({"x": np.zeros((2, 64), int)}, ("--samples", 3), "holds 2 samples, 3 were asked for"),
        ({"x": np.zeros((2, 64), int)}, ("--data", "digits"), "not both"),
        ({"x": np.zeros((2, 64), int)}, ("--record", "some"), "--record must be"),
        ({"x": np.zeros((2, 64), int)}, ("--backend", "abacus"), "unknown backend 'abacus'"),
    ],
)
def test_bad_input_leaves_with_2(
    program: Path, tmp_path: Path, arrays: dict[str, Any], args: Sequence[object], message: str
) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    assert message in " ".join(invoke("run", program, "--input", tmp_path / "x.npz", *args, code=2).split())


def test_a_data_set_of_another_shape_is_refused(tmp_path: Path) -> None:
    changed = Program(
        nodes=[Input("x", (1, 7, 7), 0, 16), Synapse("w", weight=np.ones((2, 49), int)), Soma("h", (2,), theta=3)],
        edges=[("x", "w"), ("w", "h")],
        steps=1,
    )
    changed.save(tmp_path / "a.s2c")
    assert "takes samples [1, 7, 7], but digits has [1, 8, 8]" in invoke("run", tmp_path / "a.s2c", code=2)


def test_a_pipe_stays_quiet_and_a_terminal_sees_a_bar(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from rich.console import Console

    from snn2chip.cli import screen
    from snn2chip.cli.feed import make_feed
    from snn2chip.cli.run import run_blocks

    assert outside("run", program, "--samples", "5").stderr == ""
    terminal = io.StringIO()
    monkeypatch.setattr(screen, "console", lambda *, stderr=False: Console(file=terminal, force_terminal=True))
    feed = make_feed(network(), data="digits", path=None)
    run_blocks(feed, get_backend("torch"), record="outputs")
    assert "run on torch" in terminal.getvalue()
    assert "450/450" in terminal.getvalue()


MEMORY = """
import resource, sys
from snn2chip.cli import app
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
def go(n):
    app(["run", sys.argv[1], "--input", sys.argv[2], "--samples", str(n)], standalone_mode=False)
go(1000)
small = peak()
go(12000)
print("MIB", peak() - small)
"""


def test_memory_of_a_run_does_not_grow_with_the_samples(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    wide = Program(
        nodes=[
            Input("x", (300,), 0, 1),
            Synapse("w", weight=rng.integers(-1, 2, (2000, 300)), bits="ternary"),
            Soma("h", (2000,), theta=4),
            Synapse("w2", weight=rng.integers(-1, 2, (3, 2000))),
            Soma("r", (3,), fire="none"),
            Output("o"),
        ],
        edges=[("x", "w"), ("w", "h"), ("h", "w2"), ("w2", "r"), ("r", "o")],
        steps=1,
    )
    wide.save(tmp_path / "wide.s2c")
    # of 11,000 more samples, all payloads would be 88 MB (int32) and all inputs 26 MB (int64)
    np.savez(tmp_path / "x.npz", x=(rng.random((12_000, 300)) < 0.1).astype(np.uint8))
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "wide.s2c"), str(tmp_path / "x.npz")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout.split("MIB")[1]) < 25


# ---- check


def test_check_equal(program: Path, tmp_path: Path) -> None:
    text = invoke("check", program, "--backends", "reference,torch", "--samples", 20, "--json", tmp_path / "o.json")
    # 20 samples: 3 steps of 12 + 10 payloads, 10 potentials, 10 outputs
    assert "EQUAL reference == torch: 1,720 integers compared" in text
    found = json.loads((tmp_path / "o.json").read_text())
    assert found == {"equal": True, "compared": 1720, "backends": ["reference", "torch"], "first": None, "notes": []}


def test_one_backend_is_held_against_the_reference(program: Path) -> None:
    assert "EQUAL reference == torch" in invoke("check", program, "--backends", "torch", "--samples", 3)


def test_blocks_of_a_check_count_samples_through(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snn2chip.cli.check.BLOCK", 8)
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


def test_a_wrong_weight_in_a_copy_is_named(program: Path, tmp_path: Path) -> None:
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


def test_check_against_a_recorded_trace(program: Path, tmp_path: Path) -> None:
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
def test_bad_checks_leave_with_2(program: Path, args: Sequence[str], message: str) -> None:
    assert message in " ".join(invoke("check", program, *args, code=2).split())


def test_check_names_backends_it_leaves_out(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(get_backend("lava")), "missing", lambda self: "no such package")
    text = invoke("check", program, "--samples", 2)
    assert "lava left out: no such package" in text
    assert "EQUAL reference == torch" in text


@pytest.mark.lava
@pytest.mark.skipif(get_backend("lava").missing() is not None, reason=str(get_backend("lava").missing()))
def test_check_on_all_three_backends(program: Path) -> None:
    assert "EQUAL reference == torch == lava" in invoke("check", program, "--samples", 2)


# ---- inspect


def test_inspect_a_program(program: Path) -> None:
    text = invoke("inspect", program)
    assert "soma hidden <- w1: shape=(12)" in text
    assert "golden: 4 samples of reference" in text
    found = json.loads(invoke("inspect", program, "--json"))
    assert (found["kind"], found["neurons"], found["synapses"], found["steps"]) == ("program", 22, 888, 3)
    assert found["digest"] == network().digest()
    assert found["golden"]["samples"] == 4
    assert found["nodes"][0] == {"name": "pixels", "node": "Input", "shape": [64], "layer": ""}


def test_inspect_weights(tmp_path: Path) -> None:
    save_file({"a.weight": np.zeros((3, 4), np.float32)}, tmp_path / "m.safetensors", metadata={"snn2chip": '{"T": 2}'})
    torch.save({"state": {"b.bias": torch.zeros(5)}, "epoch": 3}, tmp_path / "m.pt")
    found = json.loads(invoke("inspect", tmp_path / "m.safetensors", "--json"))
    assert found["header"] == {"snn2chip": {"T": 2}}
    assert found["tensors"] == [{"name": "a.weight", "shape": [3, 4], "dtype": "F32"}]
    found = json.loads(invoke("inspect", tmp_path / "m.pt", "--json"))
    assert found["tensors"] == [{"name": "state.b.bias", "shape": [5], "dtype": "torch.float32"}]
    assert found["parameters"] == 5
    assert "a.weight" in invoke("inspect", tmp_path / "m.safetensors")


class Hostile:
    def __reduce__(self) -> Any:
        return os.mkdir, ("hostile-was-here",)


def test_inspect_refuses_what_would_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(Hostile(), tmp_path / "m.pt")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Hostile()))
    (tmp_path / "m.safetensors").write_bytes(b"\xff" * 50)
    for name in ("m.pt", "raw.pt", "m.safetensors", "none.pt", "none.s2c", "tests.txt"):
        assert "error:" in invoke("inspect", name, code=2)
    assert not (tmp_path / "hostile-was-here").exists()


# ---- doctor, emit, compile


def test_doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNN2CHIP_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "mnist.npz", x_test=np.zeros((1, 28, 28), np.uint8))
    found = json.loads(invoke("doctor", "--json"))
    assert set(found) == {"versions", "backends", "devices", "data"}
    assert found["versions"]["snn2chip"] == snn2chip.__version__
    assert found["versions"]["torch"].startswith(torch.__version__.split("+")[0])
    assert found["backends"]["reference"] == {"available": True, "reason": None}
    assert set(found["backends"]) >= {"reference", "torch", "lava"}
    assert found["devices"][0]["name"] == "cpu"
    assert found["data"]["mnist"] == {"path": str(tmp_path / "mnist.npz"), "hint": None}
    assert "put cifar-100-python into" in found["data"]["cifar100"]["hint"]
    assert "digits" in invoke("doctor")


def test_doctor_says_why_a_backend_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(get_backend("lava")), "missing", lambda self: "needs Python 3.10")
    assert json.loads(invoke("doctor", "--json"))["backends"]["lava"] == {
        "available": False,
        "reason": "needs Python 3.10",
    }


def write_net(path: Path) -> None:
    """One dense layer of lava-dl: v <- v + 64 w x; the threshold 80 * 64 is reached after two inputs of weight 40."""
    import h5py

    neuron = {"type": b"CUBA", "iDecay": 4096, "vDecay": 0, "vThMant": 79, "refDelay": 1}
    with h5py.File(path, "w") as file:
        layer = file.create_group("layer/0")
        layer.create_dataset("type", (1,), "S10", [b"dense"])
        layer.create_dataset("shape", data=np.array([2]))
        layer.create_dataset("weight", data=np.array([[40, 0, 0], [0, 6, -6]]))
        group = layer.create_group("neuron")
        for key, value in neuron.items():
            group.create_dataset(key, data=value)


def test_compile_a_network_file(tmp_path: Path) -> None:
    write_net(tmp_path / "a.net")
    assert "2 neurons, 6 steps" in invoke("compile", tmp_path / "a.net", "--steps", 6, "-o", tmp_path / "a.s2c")
    np.savez(tmp_path / "x.npz", x=np.tile(np.array([1, 0, 0]), (1, 6, 1)))
    args = ("--input", tmp_path / "x.npz", "--steps-in-input", "--record", "all", "-o", tmp_path / "t.npz")
    invoke("run", tmp_path / "a.s2c", *args)
    with np.load(tmp_path / "t.npz") as file:
        (payload,) = (file[k] for k in file.files if k.startswith("payload/"))
    assert payload[0, :, 0].tolist() == [0, 1, 0, 1, 0, 1]
    assert not payload[0, :, 1].any()


def test_compile_refuses_other_files(tmp_path: Path) -> None:
    (tmp_path / "a.net").write_bytes(b"no network")
    (tmp_path / "a.safetensors").write_bytes(b"no weights")
    for name, message in (("a.net", "a.net"), ("a.safetensors", "damaged"), ("none.net", "no such file")):
        assert message in invoke("compile", tmp_path / name, "-o", tmp_path / "o.s2c", code=2)
    assert not (tmp_path / "o.s2c").exists()


def test_emit_knows_its_targets(program: Path, tmp_path: Path) -> None:
    assert "known: lava" in invoke("emit", program, "--to", "abacus", "-o", tmp_path / "out", code=2)


def test_emit_writes_a_package_with_the_golden_samples(program: Path, tmp_path: Path) -> None:
    assert f"wrote {tmp_path / 'out'}" in invoke("emit", program, "--to", "lava", "-o", tmp_path / "out")
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names >= {"run.py", "network.json", "weights.npz", "golden.npz"}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("do not overwrite")
    assert "error:" in invoke("emit", program, "-o", tmp_path / "other", code=2)
    assert [file.name for file in (tmp_path / "other").iterdir()] == ["thesis.txt"]
