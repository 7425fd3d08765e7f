"""X.onnx on the command line: inspect it, convert it and compile what comes out, or compile it at once."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from snn2chip.cli.command import app

pytest.importorskip("onnx", reason="needs the onnx package (extra `onnx`)")
RUNNER = CliRunner()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small net for digits, trained for a moment on x = (raw/16 - 0.5)/0.5, written by torch's exporter."""
    from snn2chip.data import open_data

    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, 10))
    arrays, labels = open_data("digits", split="train").arrays()
    x = (torch.as_tensor(arrays["x"], dtype=torch.float32) / 16 - 0.5) / 0.5
    y = torch.as_tensor(labels)
    optimiser = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimiser.step()
    path = tmp_path_factory.mktemp("onnx") / "digits.onnx"
    fields: dict[str, Any] = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    torch.onnx.export(
        model.eval(), (x[:2],), str(path), dynamic_axes={"input": {0: "n"}}, input_names=["input"], **fields
    )
    return path


def call(*arguments: object) -> Any:
    """Run the command and return its result."""
    return RUNNER.invoke(app, [str(a) for a in arguments])


def test_inspect(exported: Path) -> None:
    """The layers are shown."""
    result = call("inspect", exported)
    assert result.exit_code == 0, result.output
    assert "linear1" in result.output
    assert "relu" in result.output


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((), "conversion 'parallel' needs the number of steps, an integer >= 1: --steps T"),
        (("--steps", 4), "give --data NAME"),
        (("--steps", 4, "--method", "magic"), "conversion 'magic' is unknown"),
        (("--steps", 4, "--data", "digits", "--option", "speed=3"), "parallel has no option 'speed'"),
        (("--steps", 4, "--data", "digits", "--model", "mlp"), "holds its own network; leave out --model"),
        (("--steps", 4, "--data", "digits", "--num-layers", 1), "--num-layers is for X.net"),
    ],
)
def test_compile_asks_for_what_convert_asks_for(exported: Path, tmp_path: Path, words: Any, text: str) -> None:
    """An ordinary network gets its neurons by convert's rules; what they miss is said, and nothing is written."""
    result = call("compile", exported, *words, "-o", tmp_path / "x.s2c")
    assert result.exit_code == 2
    assert text in " ".join((result.output + result.stderr).split())
    assert not list(tmp_path.iterdir())


def test_methods_are_for_ordinary_networks(tmp_path: Path) -> None:
    """A checkpoint is converted by convert; compile does not take the method for it in silence."""
    (tmp_path / "a.safetensors").write_bytes(b"")
    result = call("compile", tmp_path / "a.safetensors", "--method", "qcfs", "-o", tmp_path / "x.s2c")
    assert result.exit_code == 2
    assert "--method and --option are for X.onnx files" in result.stderr


def test_convert_and_compile(exported: Path, tmp_path: Path) -> None:
    """Converted and compiled, in two commands or in one, the integer program still knows its digits."""
    snn, program = tmp_path / "snn.safetensors", tmp_path / "snn.s2c"
    options = ["--option", "scale=0.0625", "--option", "mean=0.5", "--option", "std=0.5"]
    result = call("convert", exported, "--method", "parallel", "--steps", 16, "--data", "digits", *options, "-o", snn)
    assert result.exit_code == 0, (result.output, result.exception)
    result = call("compile", snn, "-o", program)
    assert result.exit_code == 0, (result.output, result.exception)
    at_once = tmp_path / "once.s2c"
    result = call("compile", exported, "--steps", 16, "--data", "digits", *options, "-o", at_once)
    assert result.exit_code == 0, (result.output, result.exception)
    assert "parallel" in result.output
    assert result.output.splitlines()[-1] == f"wrote {at_once}"
    from snn2chip import load, run
    from snn2chip.data import open_data

    assert load(at_once).digest() == load(program).digest()
    assert load(at_once).meta["name"] == "digits"
    arrays, labels = open_data("digits", split="test").arrays()
    outputs = run(load(program), arrays["x"], backend="torch", record="outputs").outputs
    right = (outputs.reshape(len(labels), -1).argmax(1) == labels).mean()
    assert right > 0.9
