"""NetX files on the command line: what is in them, and a damaged one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from snn2chip import load
from snn2chip.cli import app

Invoke = Callable[..., str]


def write(path: Path) -> Path:
    """An input and a dense layer of CUBA neurons, reset every 8 steps."""
    with h5py.File(path, "w") as file:
        for index, (kind, shape) in enumerate((("input", (3,)), ("dense", (2,)))):
            group = file.create_group(f"layer/{index}")
            group["type"] = np.bytes_(kind)
            group["shape"] = np.array(shape)
            neuron = group.create_group("neuron")
            neuron["type"] = np.bytes_("CUBA")
            for name, value in {"iDecay": 4096, "vDecay": 128, "vThMant": 9, "refDelay": 1}.items():
                neuron[name] = value
        file["layer/1/weight"] = np.array([[1, -2, 3], [0, 5, -6]])
        file["layer/1/bias"] = np.array([4, 0])
    return path


def test_inspect_lists_layers_weights_and_neurons(tmp_path: Path, invoke: Invoke) -> None:
    """Kinds, shapes, stored arrays and the neurons' numbers, as text and as JSON."""
    path = write(tmp_path / "small.net")
    told = invoke("inspect", path)
    assert "1 dense (2,): " in told
    assert "weight (2, 3)" in told
    assert "CUBA neuron: iDecay=4096, vDecay=128, vThMant=9, refDelay=1" in told
    found = json.loads(invoke("inspect", path, "--json"))
    assert [layer["kind"] for layer in found["layers"]] == ["input", "dense"]
    assert found["layers"][1]["arrays"]["weight"] == [2, 3]


@pytest.mark.parametrize("size", [0, 100, 700])
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, size: int) -> None:
    """Cut short: exit code 2 and the file's name."""
    path = write(tmp_path / "small.net")
    path.write_bytes(path.read_bytes()[:size])
    done = CliRunner().invoke(app, ["inspect", str(path)])
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")
    assert "small.net" in done.stderr


@pytest.mark.parametrize("suffix", [".nir", ".s2c", ".safetensors", ".onnx"])
def test_other_files_are_compiled_whole(tmp_path: Path, suffix: str) -> None:
    """--num-layers is refused for everything but X.net, before anything of the file is read."""
    path = tmp_path / f"x{suffix}"
    path.write_bytes(b"")
    done = CliRunner().invoke(app, ["compile", str(path), "--num-layers", "2", "-o", str(tmp_path / "o.s2c")])
    assert done.exit_code == 2
    assert f"x{suffix}: --num-layers is for X.net files" in done.stderr


def refused(*words: object) -> str:
    """What a command says that ends with a message."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 2
    return " ".join(done.stderr.split())


def test_what_a_message_advises_is_there(tmp_path: Path, invoke: Invoke) -> None:
    """Fields that are refused are ignored by the flag that the message names; numbers are NetX's or the file's."""
    path, out = write(tmp_path / "small.net"), tmp_path / "o.s2c"
    with h5py.File(path, "a") as file:
        file["layer/1/neuron/refDelay"][...] = 4
        file["layer/1/mask"] = np.zeros((2, 3))
        file["layer/1/weight"][...] = np.array([[-1, -1, -1], [-1, -1, -1]])
    told = refused("compile", path, "--steps", 8, "-o", out)
    assert "--netx-ignore refDelay" in told
    assert "--netx-ignore mask" in told
    ignored = ("--steps", 8, "-o", out, "--netx-ignore", "refDelay", "--netx-ignore", "mask")
    invoke("compile", path, *ignored)
    assert not load(out)["layer1.weight"].dense().any()  # NetX makes zeros of them
    invoke("compile", path, *ignored, "--netx-numbers", "file")
    assert (load(out)["layer1.weight"].dense() == -1).all()
    assert "numbers must be one of netx, file" in refused("compile", path, *ignored, "--netx-numbers", "lava")
    assert "has no field 'theta' to ignore" in refused("compile", path, *ignored, "--netx-ignore", "theta")
    (tmp_path / "x.nir").write_bytes(b"")
    assert "--netx-ignore is for X.net files" in refused("compile", tmp_path / "x.nir", "-o", out, "--netx-ignore", "m")
    assert ".net" in invoke("inspect", "--help")


def test_the_shape_that_a_file_does_not_say(tmp_path: Path, invoke: Invoke) -> None:
    """A network that starts with a convolution is told what it reads."""
    path, out = tmp_path / "conv.net", tmp_path / "o.s2c"
    with h5py.File(path, "w") as file:
        group = file.create_group("layer/0")
        group["type"] = np.bytes_("conv")
        group["shape"], group["weight"], group["groups"] = np.array([1, 3, 3]), np.ones((1, 2, 1, 1)), 1
        group["stride"], group["padding"], group["dilation"] = (np.array([n, n]) for n in (1, 0, 1))
        neuron = group.create_group("neuron")
        neuron["type"] = np.bytes_("CUBA")
        for name, value in {"iDecay": 4096, "vDecay": 128, "vThMant": 9}.items():
            neuron[name] = value
    how = ("compile", path, "--steps", 4, "-o", out)
    assert "--netx-input-shape C,H,W" in refused(*how)
    assert "expected one or three whole numbers" in refused(*how, "--netx-input-shape", "2,x,3")
    invoke(*how, "--netx-input-shape", "2,3,3")
    assert load(out).inputs[0].shape == (2, 3, 3)
    text = refused("export", path, "--to", "nir", "--steps", 4, "-o", tmp_path / "conv.nir")
    assert "--netx-input-shape C,H,W" in text
    shape = ("--netx-input-shape", "2,3,3")
    invoke("export", path, "--to", "nir", "--steps", 4, "-o", tmp_path / "conv.nir", *shape)
    invoke("compile", tmp_path / "conv.nir", "-o", tmp_path / "back.s2c")
    assert load(tmp_path / "back.s2c").digest() == load(out).digest()
    assert "--netx-input-shape is for X.net files" in refused("export", out, "--to", "nir", "-o", "x.nir", *shape)
    empty = ("--nir-profile", "", "--netx-numbers", "", "--netx-input-shape", "")  # of variables that are not set
    text = refused("export", out, "--to", "nir", "-o", "x.nir", *empty)
    assert "--nir-profile is for X.nir files; --netx-numbers, --netx-input-shape are for X.net files" in text


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    """Flags of three other kinds of file, each named."""
    path = tmp_path / "x.net"
    path.write_bytes(b"")
    text = refused("compile", path, "--nir-profile", "norse", "--method", "qcfs", "--weights", "int4", "-o", "y.s2c")
    for said in ("--nir-profile is for X.nir files", "--method and --option are for X.onnx", "leave out --weights"):
        assert said in text
