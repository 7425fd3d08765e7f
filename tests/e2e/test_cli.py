"""The command line itself and `run`: names, formats, exit codes."""

from __future__ import annotations

import io
import platform
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import snn2chip
from snn2chip import Input, Output, Program, Soma, Synapse
from snn2chip.cli import app
from snn2chip.data import load_data
from snn2chip.registry import get_backend

Invoke = Callable[..., str]
Network = Callable[..., Program]
Outside = Callable[..., "subprocess.CompletedProcess[str]"]
VERBS = (
    "demo",
    "train",
    "run",
    "check",
    "report",
    "map",
    "inspect",
    "emit",
    "doctor",
    "compile",
    "convert",
    "sensitivity",
)


def test_help_lists_the_verbs_and_is_quick(outside: Outside) -> None:
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


def test_version(invoke: Invoke) -> None:
    said = invoke("--version").strip()
    assert said.startswith(f"snn2chip {snn2chip.__version__} (")
    assert f"Python {platform.python_version()}" in said
    assert f"numpy {np.__version__}" in said


@pytest.mark.parametrize(
    "args", [("frobnicate",), ("run",), ("run", "a.s2c", "--no-such"), ("run", "a", "--samples", "0")]
)
def test_usage_errors_leave_with_2(args: Sequence[str], invoke: Invoke) -> None:
    assert invoke(*args, code=2)


def test_an_error_is_one_message_on_stderr(tmp_path: Path, outside: Outside) -> None:
    (tmp_path / "bad.s2c").write_bytes(b"not a program")
    result = outside("run", tmp_path / "bad.s2c")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"error: {tmp_path}/bad.s2c: damaged")
    assert len(result.stderr.splitlines()) == 1


def test_debug_shows_the_traceback_also_behind_the_verb(tmp_path: Path, invoke: Invoke) -> None:
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


def test_a_missing_package_leaves_with_3(program: Path, monkeypatch: pytest.MonkeyPatch, invoke: Invoke) -> None:
    monkeypatch.setattr(type(get_backend("lava")), "missing", lambda self: "install it with pip")
    assert "install it with pip" in invoke("run", program, "--backend", "lava", code=3)


def test_an_unwritable_place_leaves_with_3(program: Path, invoke: Invoke) -> None:
    assert "error:" in invoke("run", program, "--samples", 2, "-o", "/proc/nowhere/trace.npz", code=3)


def test_run_on_digits(program: Path, tmp_path: Path, invoke: Invoke, network: Network) -> None:
    x, y = load_data("digits", split="test")
    expected = snn2chip.run(network(), x.reshape(450, 64), backend="reference", record="outputs")
    right = int((expected.pred == y).sum())
    text = invoke("run", program, "-o", tmp_path / "t.npz")
    assert f"accuracy {right / 450:.4f} ({right} of 450, digits)" in text
    with np.load(tmp_path / "t.npz") as file:
        assert set(file.files) == {"outputs", "pred", "origin"}
        assert (file["outputs"] == expected.outputs).all()
        assert (file["pred"] == expected.pred).all()


def test_run_records_everything_when_asked(program: Path, tmp_path: Path, invoke: Invoke, network: Network) -> None:
    x, _ = load_data("digits", split="test")
    expected = snn2chip.run(network(), x[:70].reshape(70, 64), backend="reference")
    invoke("run", program, "--data", "digits", "--samples", 70, "--record", "all", "-o", tmp_path / "t.npz")
    with np.load(tmp_path / "t.npz") as file:
        assert (file["payload/hidden"] == np.moveaxis(expected.payloads["hidden"], 0, 1)).all()
        assert (file["potential/logits"] == np.moveaxis(expected.potentials["logits"], 0, 1)).all()
        assert file["payload/hidden"].shape == (70, 3, 12)


def test_run_on_a_file_of_frames_or_of_steps(program: Path, tmp_path: Path, invoke: Invoke, network: Network) -> None:
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
    program: Path, tmp_path: Path, arrays: dict[str, Any], args: Sequence[object], message: str, invoke: Invoke
) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    assert message in " ".join(invoke("run", program, "--input", tmp_path / "x.npz", *args, code=2).split())


def test_a_data_set_of_another_shape_is_refused(tmp_path: Path, invoke: Invoke) -> None:
    changed = Program(
        nodes=[Input("x", (1, 7, 7), 0, 16), Synapse("w", weight=np.ones((2, 49), int)), Soma("h", (2,), theta=3)],
        edges=[("x", "w"), ("w", "h")],
        steps=1,
    )
    changed.save(tmp_path / "a.s2c")
    assert "takes samples [1, 7, 7], but digits has [1, 8, 8]" in invoke("run", tmp_path / "a.s2c", code=2)


def test_a_pipe_stays_quiet_and_a_terminal_sees_a_bar(
    program: Path, monkeypatch: pytest.MonkeyPatch, network: Network, outside: Outside
) -> None:

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
