"""An emitted package runs with lava-nc alone and gives the same outputs."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from snn2chip_backends.lava import emit
from snn2chip_backends.lava.net import npz

from snn2chip.api import run
from snn2chip.errors import InputError
from snn2chip.ir.nodes import Host, HostOp, Input, Output, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma


def on_lava(test):
    skip = pytest.mark.skipif(sys.version_info[:2] != (3, 10), reason="lava-nc needs Python 3.10")
    return pytest.mark.lava(skip(test))


ABSENT = ("snn2chip", "__editable__", "torch", "_snn2chip")


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """How to run a Python that has the packages of this one, but neither snn2chip nor torch.

    `-S` switches off site-packages and with it the .pth files of editable installs; a folder of links brings
    back every package except ours and torch.
    """
    folder = tmp_path_factory.mktemp("packages")
    for root in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(root).iterdir():
            if not entry.name.startswith(ABSENT) and entry.suffix != ".pth":
                (folder / entry.name).symlink_to(entry)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    environment |= {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}

    def run_bare(*arguments, cwd):
        return subprocess.run(
            [sys.executable, "-S", *map(str, arguments)],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    for name in ("snn2chip", "snn2chip_backends", "torch"):
        assert "ModuleNotFoundError" in run_bare("-c", f"import {name}", cwd=folder).stderr
    return run_bare


def coded(coding: str) -> Input:
    if coding == "offset":
        return Input("x", (2, 3, 3), -4, 11, scale=0.5, offset=[4, 2])
    if coding == "steps":
        return Input("x", (2, 3, 3), 0, 3, coding="steps")
    return Input("x", (2, 3, 3), 0, 1, coding=coding, scale=255.0)


def network(source: Input | Host, steps: int = 4) -> Program:
    rng = np.random.default_rng(7)
    return Program(
        nodes=[
            source,
            Synapse("c", "conv2d", rng.integers(-8, 8, (3, 2, 2, 2))),
            Soma("s", (3, 2, 2), theta=5, levels=3, bias=1),
            Synapse("w", weight=rng.integers(-8, 8, (5, 12))),
            Soma("b", 5, theta=4, reset="zero"),
            Synapse("v", weight=rng.integers(-8, 8, (4, 5))),
            Soma("out", 4, fire="none", bias=2),
            Output("scores", "potential"),
            Output("spikes", "count"),
            Output("sums", "payload"),
            Output("none", "count"),
        ],
        edges=[
            ("x", "c"),
            ("c", "s"),
            ("s", "w"),
            ("w", "b"),
            ("b", "v"),
            ("v", "out"),
            ("out", "scores"),
            ("b", "spikes"),
            ("s", "sums"),
            ("out", "none"),
        ],
        steps=steps,
        meta={"name": "three layers"},
    )


def raw(coding: str, samples: int) -> np.ndarray:
    rng = np.random.default_rng(8)
    if coding == "offset":
        return rng.uniform(0.0, 6.4, (samples, 2, 3, 3))
    if coding == "steps":
        return rng.integers(0, 4, (samples, 4, 2, 3, 3))
    return rng.integers(0, 256, (samples, 2, 3, 3))


def by_reference(program: Program, x: np.ndarray) -> dict[str, np.ndarray]:
    fed = np.moveaxis(x, 0, 1) if program.inputs[0].coding == "steps" else x
    return dict(run(program, fed, backend="reference").all_outputs)


@pytest.mark.parametrize("coding", ["offset", "steps", "rate-round"])
@on_lava
def test_package_runs_without_snn2chip_and_equals_the_reference(tmp_path, bare, coding):
    program = network(coded(coding))
    folder = emit(program, tmp_path / "package", golden=raw(coding, 3))
    x = raw(coding, 6)
    np.savez(tmp_path / "x.npz", x=x, y=np.arange(6))
    done = bare(folder / "run.py", "x.npz", "-o", "out.npz", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "6 samples" in done.stdout
    expected = by_reference(program, x)
    with np.load(tmp_path / "out.npz", allow_pickle=False) as got:
        assert set(got.files) == {"outputs", "pred", "output/scores", "output/spikes", "output/sums", "output/none"}
        for name, value in expected.items():
            assert value.any() != (name == "none")
            assert np.array_equal(got[f"output/{name}"], value)
        assert np.array_equal(got["outputs"], expected["scores"])
        assert np.array_equal(got["pred"], expected["scores"].argmax(1))


@pytest.mark.parametrize(("layout", "mode", "batch"), [("layer", "sync", None), ("fused", "async", 3)])
@on_lava
def test_the_own_layouts_run_alone_with_a_batch_of_samples(tmp_path, bare, layout, mode, batch):
    """With the batch of the package or another one, neither of which divides the samples: the same outputs."""
    program = network(coded("offset"))
    x = raw("offset", 7)
    folder = emit(program, tmp_path / "package", golden=x, layout=layout, batch=5)
    np.savez(tmp_path / "x.npz", x=x)
    options = ("--mode", mode, *(("--batch", batch) if batch else ()))
    done = bare(folder / "run.py", "x.npz", "-o", "out.npz", *options, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"7 samples, {4 * (3 if batch else 2) + 3} Lava steps" in done.stdout
    assert f"layout {layout}" in done.stdout
    with np.load(tmp_path / "out.npz", allow_pickle=False) as got:
        for name, value in by_reference(program, x).items():
            assert np.array_equal(got[f"output/{name}"], value)
    done = bare(folder / "run.py", "--check", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "EQUAL: 7 golden samples\n")
    readme = (folder / "README.md").read_text()
    assert "| c | own layer |" in readme if layout == "layer" else "no independent check" in readme


@on_lava
def test_golden_samples_prove_a_copy_and_find_a_wrong_weight(tmp_path, bare):
    ops = [HostOp(kind="maxpool", kernel_size=2, stride=2), HostOp(kind="bias", weight=[1, -2]), HostOp(kind="relu")]
    program = network(Host("x", (2, 3, 3), 0, 15, sample_shape=(2, 6, 6), ops=ops))
    x = np.random.default_rng(9).integers(0, 14, (4, 2, 6, 6))
    folder = emit(program, tmp_path / "package", golden=x)
    done = bare(folder / "run.py", "--check", "--mode", "async", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "EQUAL: 4 golden samples\n")
    with np.load(folder / "weights.npz") as data:
        arrays = {k: data[k] for k in data.files}
    arrays["v/weight"] = arrays["v/weight"] + 2
    np.savez(folder / "weights.npz", **arrays)
    done = bare(folder / "run.py", "--check", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "DIFFERENT: scores: 4 golden samples\n")


@on_lava
def test_what_does_not_fit_is_one_line(tmp_path, bare):
    folder = emit(network(coded("offset")), tmp_path / "package")
    cases = {
        "shape": {"x": np.zeros((2, 5))},
        "outside": {"x": np.full((2, 2, 3, 3), 99.0)},
        "expected samples of input x": {"images": np.zeros((2, 2, 3, 3))},
        "at least one": {"x": np.zeros((0, 2, 3, 3))},
    }
    for word, arrays in cases.items():
        np.savez(tmp_path / "x.npz", **arrays)
        done = bare(folder / "run.py", "x.npz", cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert (word if word != "shape" else "expected samples") in done.stderr
        assert done.stderr.count("\n") == 1
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 2, 3, 3)))
    assert "one sample at a time" in bare(folder / "run.py", "x.npz", "--batch", 2, cwd=tmp_path).stderr
    assert "without golden samples" in bare(folder / "run.py", "--check", cwd=tmp_path).stderr
    assert "there is no folder" in bare(folder / "run.py", "x.npz", "-o", "no/out.npz", cwd=tmp_path).stderr
    assert "package: is a folder" in bare(folder / "run.py", "x.npz", "-o", "package", cwd=tmp_path).stderr
    assert not (tmp_path / "outputs.npz").exists()


def test_outputs_are_the_earlier_file_or_the_whole_new_one(tmp_path, monkeypatch):
    path = tmp_path / "out.npz"
    npz.write_npz(path, {"outputs": np.arange(5)})
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for call in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(npz.os, call, full)
            with pytest.raises(OSError, match="No space"):
                npz.write_npz(path, {"outputs": np.arange(6)})
        assert path.read_bytes() == before
        assert [p.name for p in tmp_path.iterdir()] == ["out.npz"]
    (tmp_path / "link.npz").symlink_to(path)
    npz.write_npz(tmp_path / "link.npz", {"outputs": np.arange(6)})
    assert (tmp_path / "link.npz").is_symlink()
    with np.load(path) as found:
        assert np.array_equal(found["outputs"], np.arange(6))
    npz.write_npz(Path(os.devnull), {"outputs": np.arange(6)})
    assert not Path(os.devnull).is_file()


def test_outputs_go_into_a_pipe():
    """As `-o /dev/stdout | ...` and `-o >(...)` name one."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as pipe:
        npz.write_npz(Path(f"/proc/self/fd/{writing}"), {"outputs": np.arange(6)})
        os.close(writing)
        with np.load(io.BytesIO(pipe.read())) as found:
            assert np.array_equal(found["outputs"], np.arange(6))


def test_package_holds_sources_weights_and_a_readme(tmp_path):
    folder = emit(network(coded("offset")), tmp_path / "deep" / "package")
    sources = {p.relative_to(folder).as_posix() for p in folder.rglob("*.py")}
    assert "run.py" in sources
    assert "lava_net/processes/soma/process.py" in sources
    assert not list(folder.rglob("__pycache__"))
    for path in folder.rglob("*.py"):
        assert "import snn2chip" not in path.read_text()
        assert "from snn2chip" not in path.read_text()
    readme = (folder / "README.md").read_text()
    assert "| c | stock Conv |" in readme
    assert "lava-nc==0.10.0" in readme
    with np.load(folder / "weights.npz", allow_pickle=False) as weights:
        assert "w/weight" in weights.files
    assert json.loads((folder / "network.json").read_text())["steps"] == 4


def test_an_earlier_emit_is_replaced_and_anything_else_is_left_alone(tmp_path):
    program = network(coded("offset"))
    folder = emit(program, tmp_path / "package")
    (folder / "stale.txt").write_text("old")
    emit(program, folder)
    assert not (folder / "stale.txt").exists()
    (tmp_path / "empty").mkdir()
    emit(program, tmp_path / "empty")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("x")
    for other in (mine, tmp_path / "file"):
        with pytest.raises(InputError, match="choose another"):
            emit(program, other)
    assert [p.name for p in mine.iterdir()] == ["thesis.tex"]
    assert {p.name for p in tmp_path.iterdir()} == {"package", "empty", "mine", "file"}


def test_a_failed_emit_leaves_the_earlier_one(tmp_path):
    program = network(coded("offset"))
    folder = emit(program, tmp_path / "package")
    (folder / "here.txt").write_text("still")
    with pytest.raises(InputError):
        emit(program, folder, golden=np.zeros((2, 9)))
    assert (folder / "here.txt").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["package"]


def encoders():
    """Inputs and hosts of every coding and operation, with raw samples."""
    rng = np.random.default_rng(10)
    ops = [
        HostOp(kind="conv2d", weight=rng.integers(-3, 4, (4, 1, 3, 3)), stride=2, padding=1, groups=2),
        HostOp(kind="bias", weight=[5, -3, 0, 2]),
        HostOp(kind="rescale", gain=[3, 1, 2, 4], shift=2, lo=-100, hi=100),
        HostOp(kind="maxpool", kernel_size=2, stride=1, padding=1),
        HostOp(kind="relu"),
        HostOp(kind="sumpool", kernel_size=2, stride=2),
        HostOp(kind="linear", weight=rng.integers(-2, 3, (6, 16))),
    ]
    image = rng.integers(0, 9, (5, 2, 7, 8))
    yield Host("x", 6, -(1 << 20), 1 << 20, sample_shape=(2, 7, 8), ops=ops, offset=[1, 2]), image
    yield Host("x", 6, -(1 << 20), 1 << 20, sample_shape=(2, 7, 8), ops=ops, scale=0.25), image / 8
    yield Host("x", 3, 0, 4, coding="rate-floor", scale=2.0), rng.uniform(0, 8, (5, 3))
    yield Input("x", 3, 0, 1, coding="rate-floor", scale=255.0), rng.uniform(0, 255, (5, 3))
    yield Input("x", 3, 0, 2, coding="rate-round", scale=100.0), rng.integers(0, 201, (5, 3))
    yield Input("x", 3, -9, 9, coding="steps", offset=2), rng.integers(-7, 12, (5, 4, 3))
    yield Input("x", (3, 2), -9, 9, offset=[2, 0, -1]), rng.integers(-5, 8, (5, 3, 2))
    yield Input("x", 3, -9, 9, scale=0.5), np.array([[0.25, -0.25, 0.75]])


@pytest.mark.parametrize(("node", "samples"), list(encoders()))
def test_the_package_encodes_as_the_core_does(node, samples):
    from snn2chip_backends.lava.emission import input_record
    from snn2chip_backends.lava.net.assemble import resolve
    from snn2chip_backends.lava.net.encode import encode as standalone

    from snn2chip.ir.host import encode

    arrays: dict[str, np.ndarray] = {}
    record = resolve(json.loads(json.dumps(input_record(node, arrays))), arrays)
    fed = np.moveaxis(samples, 0, 1) if node.coding == "steps" else samples
    expected = encode(node, fed, 4)
    assert expected.any()
    assert np.array_equal(standalone(record, samples, 4), expected)


def test_a_program_without_outputs_is_refused(tmp_path):
    program = Program(
        nodes=[Input("x", 1), Synapse("w", weight=[[1]]), Soma("s", 1, theta=1)],
        edges=[("x", "w"), ("w", "s")],
        steps=1,
    )
    with pytest.raises(InputError, match="no Output"):
        emit(program, tmp_path / "package")
    assert not (tmp_path / "package").exists()
