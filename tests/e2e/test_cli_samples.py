"""Samples and models that do not fit: said in one line, with what to do."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file
from torch import nn

import snn2chip
from snn2chip.cli.command import quiet_warnings

Invoke = Callable[..., str]
RNG = np.random.default_rng(2)


@pytest.fixture(autouse=True)
def _warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        yield


def said(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture
def linear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module file with functions, and the state_dict of their `nn.Linear(64, 10)`."""
    (tmp_path / "users_nets.py").write_text(
        "from torch import nn\n"
        "def plain():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
        "def needs(width, depth=2, *, mode):\n    return nn.Linear(width, 10)\n"
        "def fails():\n    raise KeyError('no such width')\n"
        "class Exits(nn.Sequential):\n"
        "    left = 0\n"
        "    def forward(self, x):\n"
        "        self.left -= 1\n"
        "        if self.left < 0:\n            raise SystemExit(0)\n"
        "        return super().forward(x)\n"
        "def exits():\n    return Exits(nn.Flatten(), nn.Linear(64, 10))\n"
        "def exits_later():\n"
        "    net = exits()\n    net.left = 1\n    return net\n"
        "def exits_here():\n    raise SystemExit(0)\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "users_nets", raising=False)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, str(tmp_path / "w.safetensors"))
    return tmp_path / "w.safetensors"


@pytest.mark.parametrize(
    ("function", "text"),
    [
        ("needs", "is called without arguments, but it needs width, mode"),
        ("fails", "the function fails: KeyError: 'no such width'"),
    ],
)
def test_a_model_function_that_cannot_be_called(linear: Path, invoke: Invoke, function: str, text: str) -> None:
    out = said(invoke("compile", linear, "--model", f"users_nets:{function}", "-o", linear.with_suffix(".s2c"), code=2))
    assert f"--model users_nets:{function}: {text}" in out


@pytest.mark.parametrize(
    ("function", "text"),
    [
        ("exits_here", "the function ends the process"),
        ("exits", "the model's forward fails on the sample [4, 1, 8, 8]: SystemExit: 0"),
        ("exits_later", "fails on another input of the same shape (SystemExit: 0)"),
    ],
)
def test_a_model_that_exits_does_not_decide_the_exit_code(
    linear: Path, invoke: Invoke, function: str, text: str
) -> None:
    out = linear.with_suffix(".s2c")
    args = ("compile", linear, "--model", f"users_nets:{function}", "--steps", 1, "-o", out)
    assert text in said(invoke(*args, code=2))
    assert not out.exists()


def test_no_verb_is_left_by_the_exit_of_others(program: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    def leaves(*args: object, **kwargs: object) -> None:
        raise SystemExit(0)

    monkeypatch.setattr("snn2chip.cli.run.run_blocks", leaves)
    out = said(invoke("run", program, "--samples", 2, "-o", program.with_suffix(".npz"), code=2))
    assert "ended the process with sys.exit" in out
    assert not program.with_suffix(".npz").exists()


def test_a_model_without_steps_is_told_t_on_the_command_line(linear: Path, invoke: Invoke) -> None:
    args = ("compile", linear, "--model", "users_nets:plain", "-o", linear.with_suffix(".s2c"))
    assert "pass steps=T" in said(invoke(*args, code=2))
    assert "3 steps" in invoke(*args, "--steps", 3)


def test_the_input_range_is_given_on_the_command_line(linear: Path, invoke: Invoke) -> None:
    out = linear.with_suffix(".s2c")
    args = ("compile", linear, "--model", "users_nets:plain", "--steps", 1, "-o", out)
    invoke(*args, "--input-range=0,100")
    (node,) = snn2chip.load(out).inputs
    assert (node.lo, node.hi, node.scale) == (0, 100, 1.0)
    assert "outside of input_range=(0, 5)" in said(invoke(*args, "--input-range=0,5", code=2))
    assert "expected two numbers" in said(invoke(*args, "--input-range=5", code=2))
    assert "--num-layers is for X.net" in said(invoke(*args, "--num-layers", 1, code=2))


def test_a_file_that_holds_every_step_says_so(program: Path, tmp_path: Path, invoke: Invoke) -> None:
    np.savez(tmp_path / "ev.npz", x=RNG.integers(0, 17, (5, 3, 64)))
    for verb in ("run", "check", "report"):
        out = said(invoke(verb, program, "--input", tmp_path / "ev.npz", code=2))
        assert "pixels takes samples [64], the file has [3, 64]" in out
        assert "if its first axis is steps, say --steps-in-input" in out
    invoke("run", program, "--input", tmp_path / "ev.npz", "--steps-in-input")
    np.savez(tmp_path / "one.npz", x=RNG.integers(0, 17, (5, 64)))
    out = said(invoke("run", program, "--input", tmp_path / "one.npz", "--steps-in-input", code=2))
    assert "leave out --steps-in-input" in out


def test_a_doubt_about_the_samples_is_one_line_for_all_blocks(
    program: Path, tmp_path: Path, invoke: Invoke, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "scaled.npz", x=RNG.random((100, 64)))  # a program of whole numbers 0..16
    quiet_warnings()
    out = invoke("run", program, "--input", tmp_path / "scaled.npz") + capsys.readouterr().err
    assert out.count("warning: pixels:") == 1
    assert "whole numbers 0..16" in said(out)


def test_a_folder_is_not_a_file(tmp_path: Path, invoke: Invoke) -> None:
    assert "is a folder; name a file" in said(invoke("inspect", tmp_path, code=2))
    assert "is a folder, not a file" in said(invoke("run", tmp_path, code=2))
