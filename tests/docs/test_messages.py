"""Every message of docs/troubleshooting.md is one that the code can say; what a command can be made to say, it says."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from blocks import ROOT
from typer.testing import CliRunner

from snn2chip.cli import app

PAGE = ROOT / "docs" / "troubleshooting.md"
VALUE = "\0"
DIGITS = ["compile", "digits.safetensors", "-o", "a.s2c"]
SAID = [  # arguments, exit code, beginning of a message of the page behind its first dots
    (["run", "digits.safetensors"], 2, "not an .s2c program (a model checkpoint?"),
    (["run", "half.s2c"], 2, "damaged, truncated or not an .s2c file ("),
    (["run", "flipped.s2c", "--data", "digits"], 2, "damaged: the contents do not fit the checksum"),
    (["compile", "plain.pt", "-o", "a.s2c"], 2, "a plain state_dict without a header; name its model"),
    (
        ["compile", "plain.pt", "--model", "nowhere:net", "-o", "a.s2c"],
        2,
        "--model nowhere:net: cannot import nowhere (",
    ),
    (["compile", "plain.pt", "--model", "digits-cnn", "-o", "a.s2c"], 2, "tensors do not fit "),
    (["compile", "object.pt", "--model", "mlp", "-o", "a.s2c"], 2, "which is never unpickled"),
    (["compile", "relu.safetensors", "-o", "a.s2c"], 2, "is an ordinary ReLU network, it has no neurons to compile"),
    (
        ["compile", "digits.safetensors", "--target", "loihi1", "-o", "a.s2c"],
        2,
        "things this backend or target cannot do",
    ),
    (["compile", "digits.safetensors", "--target", "loihi1", "-o", "a.s2c"], 2, "a spike here has no sign"),
    (["compile", "digits.safetensors", "--target", "loihi3", "-o", "a.s2c"], 2, "target must be one of "),
    (["compile", "digits.safetensors", "--input-range", "0,9", "-o", "a.s2c"], 2, "calibration samples reach from "),
    (["map", "digits.s2c", "--target", "bad.toml"], 2, "target bad.toml: not a TOML file ("),
    (["run", "digits.s2c", "--data", "mnist"], 2, "data set 'mnist' is not here: "),
    (["run", "digits.s2c", "--data", "minst"], 2, "unknown data set 'minst'; known: "),
    (["run", "digits.s2c", "--input", "wrong.npz"], 2, "wrong.npz: needs "),
    (["run", "digits.s2c", "--input", "onehot.npz"], 2, "'y' must be whole numbers [N], got "),
    (["run", "digits.s2c", "--input", "big.npz"], 2, "are outside the declared range "),
    (["train", "digits", "--device", "cuda", "-o", "a.safetensors"], 3, "PyTorch sees no CUDA device"),
    (["run", "digits.s2c", "--data", "digits", "--device", "cuda"], 3, "backend 'torch' is not available: "),
    (["check", "plain.s2c", "--golden"], 2, "holds no golden vectors; write it with program.save(path, golden=N)"),
    (["train", "digit", "-o", "a.safetensors"], 2, "recipe 'digit' is unknown; known: "),
    (["train", "digits-hybrid", "-o", "a.safetensors"], 2, "starts from a trained network: train "),
]


def messages() -> list[str]:
    """The messages of the page."""
    return [text.replace("``", "`") for text in re.findall(r"^> `(.*)`$", PAGE.read_text(), re.M)]


@cache
def literals() -> tuple[str, ...]:
    """Every text in the code; what is filled in is one sign."""
    found = []
    for folder in ("snn2chip", "backends", "models"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr):
                    parts = [str(v.value) if isinstance(v, ast.Constant) else VALUE for v in node.values]
                    found.append("".join(parts))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return tuple(found)


def says(literal: str, message: str) -> bool:
    """Whether filling in `literal` can give `message`, whose dots stand for anything."""
    parts = [part.strip() for part in message.split("...") if part.strip(" :;()'")]
    at = 0
    for part in parts:
        at = literal.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return bool(parts)


@pytest.mark.parametrize("message", messages())
def test_the_code_has_it(message: str) -> None:
    assert any(says(literal, message) for literal in literals())


def test_a_message_that_is_nowhere_is_seen() -> None:
    assert not any(says(literal, "...: the moon is not here; ...") for literal in literals())
    assert len(messages()) >= 35


@pytest.fixture
def broken(made: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder full of things that are wrong."""
    import numpy as np
    import torch

    import snn2chip

    for name in ("digits.safetensors", "digits.s2c"):
        (tmp_path / name).write_bytes(made(name).read_bytes())
    whole = made("digits.s2c").read_bytes()
    (tmp_path / "half.s2c").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "flipped.s2c").write_bytes(whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:])
    snn2chip.load(made("digits.s2c")).save(tmp_path / "plain.s2c")
    torch.save({"weight": torch.zeros(2, 2)}, tmp_path / "plain.pt")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "object.pt")
    (tmp_path / "bad.toml").write_text("base = \n")
    np.savez(tmp_path / "wrong.npz", pictures=np.zeros((2, 1, 8, 8)))
    np.savez(tmp_path / "onehot.npz", x=np.zeros((2, 1, 8, 8), np.uint8), y=np.zeros((2, 10)))
    np.savez(tmp_path / "big.npz", x=np.full((2, 1, 8, 8), 200, np.uint8))
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SNN2CHIP_DATA", str(tmp_path / "data"))
    return tmp_path


def test_commands_say_it(broken: Path, made: Callable[[str], Path]) -> None:
    (broken / "relu.safetensors").write_bytes(made("relu.safetensors").read_bytes())
    wrong, page = [], messages()
    for arguments, code, text in SAID:
        result = CliRunner().invoke(app, arguments)
        said = " ".join(result.output.split())
        shown = " ".join(arguments)
        if result.exit_code != code or text.strip() not in said:
            wrong.append(f"{shown}: {result.exit_code}: {said}")
        if not any(all(part.strip() in said for part in m.split("...") if part.strip()) for m in page):
            wrong.append(f"{shown}: no message of the page is in: {said}")
    assert not wrong, "\n".join(wrong)
