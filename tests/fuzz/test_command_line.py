"""Hostile files through the command itself: exit code 2, one message, nothing written, nothing executed."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from snn2chip.cli import app
from snn2chip.testing.fuzz import archives, seeds, tensor_files
from snn2chip.testing.fuzz.damage import CANARY
from snn2chip.testing.fuzz.judge import LONGEST

RUNNER = CliRunner()


def cut(data):
    return data[: len(data) // 2]


def flipped(data):
    """One byte in the middle changed, which a checksum or a decoder sees."""
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def header(data, **fields):
    """A file of safetensors whose JSON header says something else."""
    outer, body = tensor_files.parts(data)
    inner = json.loads(outer[tensor_files.META]["snn2chip"])
    outer[tensor_files.META]["snn2chip"] = json.dumps({**inner, **fields})
    return tensor_files.joined(outer, body, random.Random(1))


def declared(data, *, shape):
    """A file of safetensors that declares another shape for its first tensor."""
    outer, body = tensor_files.parts(data)
    name = next(n for n in outer if n != tensor_files.META)
    outer[name]["shape"] = shape
    return tensor_files.joined(outer, body, random.Random(1))


def npz(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def member(text):
    """An `.npz` file whose array x has a header of one's own."""
    stream = io.BytesIO()
    head = text.encode()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + bytes(64))
    return stream.getvalue()


def code(kind):
    return archives.code(random.Random(kind))


HUGE = [10**6, 10**6]
TOML = {
    "no TOML": b"= 3",
    "not text": b"\xff\xfe",
    "nested": b"x = " + b"[" * 5000 + b"]" * 5000,
    "long number": b"x = " + b"9" * 5000,
    "unknown keys": b'colour = "red"\nbase = 3',
    "another kind": b"title = [1]\nweights = nan",
}


def files(folder):
    """Every hostile file by name, and the words of the command with FILE in its place; `sound` is a sound program."""
    program, checkpoint = seeds.programs(folder)[-1], seeds.checkpoints(folder)[0]
    state = seeds.state_dicts(folder)[0]
    nir, net, onnx = (make(folder)[0] for make in (seeds.nir_files, seeds.netx_files, seeds.onnx_files))
    found = {}

    def add(name, data, *words):
        found[name] = (data, words)

    for name, data in {
        "empty": b"",
        "cut": cut(program),
        "flipped": flipped(program),
        "header": header(program, nodes=7),
        "version": header(program, version=99),
        "10^12": declared(program, shape=HUGE),
        "pickle": code(1),
        "text": b"x" * 5000,
    }.items():
        add(f"{name}.s2c", data, "run", "FILE")
    for verb in (
        ("check", "FILE", "--golden"),
        ("inspect", "FILE"),
        ("map", "FILE", "-o", "OUT"),
        ("emit", "FILE", "-o", "OUT"),
    ):
        add(f"cut-{verb[0]}.s2c", cut(program), *verb)
    compiled = ("compile", "FILE", "-o", "OUT")
    for name, data in {
        "cut": cut(checkpoint),
        "header": header(checkpoint, T="two"),
        "model": header(checkpoint, model="os:system"),
        "layers": header(checkpoint, args={"input_shape": [1, 2, 3], "hidden": [10**9], "classes": 3}),
        "nan": header(checkpoint, metrics={"x": float("nan")}),
        "10^12": declared(checkpoint, shape=HUGE),
    }.items():
        add(f"{name}.safetensors", data, *compiled)
    for name, data in {
        "cut": cut(state),
        "code": code(2),
        "old code": code(3),
        "no state": b"PK\x03\x04" + bytes(99),
    }.items():
        add(f"{name}.pt", data, *compiled, "--model", "mlp")
        add(f"{name}-seen.pt", data, "inspect", "FILE")
    for name, data in {
        "empty": b"",
        "cut": cut(npz(x=np.ones((9, 6)))),
        "objects": npz(y=np.arange(3)) + b"",
        "pickled": _objects(),
        "10^12": member("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }"),
        "negative": member("{'descr': '<f8', 'fortran_order': False, 'shape': (-3, 2), }"),
        "no header": member("{" * 3000),
        "nan": npz(x=np.full((4, 4, 6), np.nan)),
        "shape": npz(x=np.ones((4, 4, 7), int)),
        "single": b"\x93NUMPY\x01\x00",
    }.items():
        add(f"{name}.npz", data, "run", "sound", "--input", "FILE", "--steps-in-input")
    add("trace.npz", cut(npz(outputs=np.ones((3, 3), int))), "check", "sound", "--trace", "FILE")
    for name, data in TOML.items():
        add(f"recipe-{name}.toml", data, "train", "FILE", "-o", "OUT")
        add(f"target-{name}.toml", data, "map", "sound", "--target", "FILE", "-o", "OUT")
        add(f"quant-{name}.toml", data, "compile", "good", "--quant", "FILE", "-o", "OUT")
    for ending, data, words in (
        ("nir", nir, ("--nir-profile", "generic", "--steps", "3")),
        ("net", net, ("--steps", "3")),
    ):
        for name, hostile in {"cut": cut(data), "empty": b"", "zip": b"PK\x03\x04" + bytes(500)}.items():
            add(f"{name}.{ending}", hostile, *compiled, *words)
        add(f"seen.{ending}", cut(data), "inspect", "FILE")
    for name, hostile in {"cut": cut(onnx), "empty": b"", "pickle": code(4)}.items():
        add(f"{name}.onnx", hostile, "convert", "FILE", "--method", "qcfs-if", "--data", "digits", "-o", "OUT")
    return found, {"sound": ("sound.s2c", program), "good": ("good.safetensors", checkpoint)}


def _objects():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("x.npy", archives.objects(b"", random.Random(1)))
    return stream.getvalue()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    found, helpers = files(folder)
    for name, data in helpers.values():
        (folder / name).write_bytes(data)
    return folder, found, {key: str(folder / name) for key, (name, _) in helpers.items()}


def names():
    """The names alone, for the parameters."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return list(files(Path(folder))[0])


def told(folder, found, helpers, name):
    """The words of the command for one file, which is written first."""
    data, words = found[name]
    place = folder / "files" / name
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(data)
    swap = {"FILE": str(place), "OUT": str(folder / "out" / "made"), **helpers}
    return [swap.get(word, word) for word in words]


def left(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.parts[-2] != "files"}


def test_hostile_files_leave_the_command_with_2(hostile, monkeypatch):
    folder, found, helpers = hostile
    assert len(found) >= 60
    monkeypatch.chdir(folder)
    (folder / "files").mkdir(exist_ok=True)
    before, wrong = left(folder), []
    for name in found:
        done = RUNNER.invoke(app, told(folder, found, helpers, name))
        lines = done.stderr.splitlines()
        fine = done.exit_code == 2 and lines and lines[0].startswith("error: ") and "Traceback" not in done.output
        if not fine or sum(line.startswith("error: ") for line in lines) != 1 or len(done.stderr) > LONGEST:
            wrong.append((name, done.exit_code, done.output[-300:], done.stderr[:300], repr(done.exception)))
        assert not (folder / CANARY).exists(), name
    assert not wrong, "\n".join(map(str, wrong))
    assert left(folder) == before


@pytest.mark.parametrize("name", ["pickled.npz", "old code.pt", "10^12.s2c"])
def test_the_same_as_a_process(hostile, name):
    """The real command, its address space bounded to a few gigabytes."""
    folder, found, helpers = hostile
    words = told(folder, found, helpers, name)
    bounded = "import resource as r; r.setrlimit(r.RLIMIT_AS, (6 << 30,) * 2); from snn2chip.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", bounded, *words], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert not (folder / CANARY).exists()


def test_control_characters_of_a_file_do_not_reach_the_terminal(tmp_path):
    """A recipe with colours in its keys: the message shows them, the terminal does not obey them."""
    path = tmp_path / "a.toml"
    path.write_text('"\\u001b[31mred" = 1\n')
    done = RUNNER.invoke(app, ["train", str(path), "-o", str(tmp_path / "x")], env=dict(os.environ))
    assert done.exit_code == 2
    assert "red" in done.stderr
    assert "\x1b" not in done.stderr
