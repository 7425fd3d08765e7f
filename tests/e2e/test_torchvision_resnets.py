"""A state_dict file of torchvision's ResNets, by the commands alone: import, convert, compile, check."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import snn2chip
from snn2chip.cli.command import app
from snn2chip.ir.nodes import Host

SIZE = 32


def told(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize(
    ("name", "somas"),
    [("resnet18", 18), pytest.param("resnet50", 50, marks=pytest.mark.slow)],
)
def test_a_file_of_torchvision_becomes_a_program(tmp_path: Path, name: str, somas: int) -> None:
    """Random weights in torchvision's own layout, a few pictures of 32 x 32: the stem on the host, the rest equal."""
    models = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
    torch.manual_seed(0)
    theirs = getattr(models, name)(weights=None, num_classes=10)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    pictures = np.random.default_rng(0).integers(0, 256, (12, 3, SIZE, SIZE)).astype(np.uint8)
    np.savez(tmp_path / "x.npz", x=pictures, y=np.arange(12) % 10)
    ann, snn, file, data = (tmp_path / n for n in ("ann.safetensors", "snn.safetensors", "net.s2c", "x.npz"))
    numbers = [
        word
        for key, value in {"scale": 1 / 255, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}.items()
        for word in ("--option", f"{key}={value}")
    ]
    told(
        "convert", tmp_path / "theirs.pth", "--layout", "torchvision", "--model", name, "-o", ann,
        "--option", f"input_shape=[3,{SIZE},{SIZE}]", *numbers,
    )  # fmt: skip
    told(
        "convert", ann, "-o", snn, "--method", "parallel", "--steps", 4, "--data", data, "--option", "passes=1",
        "--test-samples", 2,
    )  # fmt: skip
    told("compile", snn, "-o", file, "--data", data)
    assert "EQUAL reference == torch" in told(
        "check", file, "--backends", "reference,torch", "--input", data, "--samples", 1
    )
    program = snn2chip.load(file)
    (host,) = program.inputs
    assert isinstance(host, Host)
    assert [op.kind for op in host.ops] == ["conv2d", "bias", "relu", "maxpool", "rescale"]
    assert (host.raw_shape, host.shape) == ((3, SIZE, SIZE), (64, SIZE // 4, SIZE // 4))
    assert program.meta["data"] == data.name
    neurons = [soma for soma in program.somas if soma.fire == "levels"]
    assert len(neurons) == somas - 2  # all but the stem's activation; the classifier has none
    floats = (torch.from_numpy(pictures) / 255 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    with torch.no_grad():
        stem = theirs.eval().maxpool(theirs.relu(theirs.bn1(theirs.conv1(floats)))).numpy()
    coded = snn2chip.run(program, pictures, record="all").inputs[host.name][0]
    (unit,) = program.meta["units"]["payload"][host.name]
    inner = np.abs(coded * unit - stem)[:, :, 2:-2, 2:-2]  # at the border, padding means the mean of whole pixels
    assert inner.max() < 0.6 * unit
