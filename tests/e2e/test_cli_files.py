"""`snn2chip inspect`, `doctor`, `emit` and `compile` of network files."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import snn2chip
from snn2chip import Program
from snn2chip.registry import get_backend

Invoke = Callable[..., str]
Network = Callable[..., Program]


def test_inspect_a_program(program: Path, invoke: Invoke, network: Network) -> None:
    text = invoke("inspect", program)
    assert "soma hidden <- w1: shape=(12)" in text
    assert "golden: 4 samples of reference" in text
    found = json.loads(invoke("inspect", program, "--json"))
    assert (found["kind"], found["neurons"], found["synapses"], found["steps"]) == ("program", 22, 888, 3)
    assert found["digest"] == network().digest()
    assert found["golden"]["samples"] == 4
    assert found["nodes"][0] == {"name": "pixels", "node": "Input", "shape": [64], "layer": ""}


def test_inspect_weights(tmp_path: Path, invoke: Invoke) -> None:
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


def test_inspect_refuses_what_would_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, invoke: Invoke) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(Hostile(), tmp_path / "m.pt")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Hostile()))
    (tmp_path / "m.safetensors").write_bytes(b"\xff" * 50)
    for name in ("m.pt", "raw.pt", "m.safetensors", "none.pt", "none.s2c", "tests.txt"):
        assert "error:" in invoke("inspect", name, code=2)
    assert not (tmp_path / "hostile-was-here").exists()


def test_doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, invoke: Invoke) -> None:
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


def test_doctor_says_why_a_backend_is_missing(monkeypatch: pytest.MonkeyPatch, invoke: Invoke) -> None:
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


def test_compile_a_network_file(tmp_path: Path, invoke: Invoke) -> None:
    write_net(tmp_path / "a.net")
    assert "2 neurons, 6 steps" in invoke("compile", tmp_path / "a.net", "--steps", 6, "-o", tmp_path / "a.s2c")
    import h5py

    with h5py.File(tmp_path / "a.net", "r+") as file:
        file.copy("layer/0", "layer/1")
        file["layer/1/shape"][...] = 5
        del file["layer/1/weight"]
        file["layer/1"].create_dataset("weight", data=np.ones((5, 2)))
    assert "7 neurons" in invoke("compile", tmp_path / "a.net", "--steps", 6, "-o", tmp_path / "a.s2c")
    first = ("--steps", 6, "--num-layers", 1)
    assert "2 neurons, 6 steps" in invoke("compile", tmp_path / "a.net", *first, "-o", tmp_path / "a.s2c")
    np.savez(tmp_path / "x.npz", x=np.tile(np.array([1, 0, 0]), (1, 6, 1)))
    args = ("--input", tmp_path / "x.npz", "--steps-in-input", "--record", "all", "-o", tmp_path / "t.npz")
    invoke("run", tmp_path / "a.s2c", *args)
    with np.load(tmp_path / "t.npz") as file:
        (payload,) = (file[k] for k in file.files if k.startswith("payload/"))
    assert payload[0, :, 0].tolist() == [0, 1, 0, 1, 0, 1]
    assert not payload[0, :, 1].any()


def test_compile_refuses_other_files(tmp_path: Path, invoke: Invoke) -> None:
    (tmp_path / "a.net").write_bytes(b"no network")
    (tmp_path / "a.safetensors").write_bytes(b"no weights")
    for name, message in (("a.net", "a.net"), ("a.safetensors", "damaged"), ("none.net", "no such file")):
        assert message in invoke("compile", tmp_path / name, "-o", tmp_path / "o.s2c", code=2)
    assert not (tmp_path / "o.s2c").exists()


def test_emit_knows_its_targets(program: Path, tmp_path: Path, invoke: Invoke) -> None:
    assert "known: lava" in invoke("emit", program, "--to", "abacus", "-o", tmp_path / "out", code=2)


def test_emit_writes_a_package_with_the_golden_samples(program: Path, tmp_path: Path, invoke: Invoke) -> None:
    assert f"wrote {tmp_path / 'out'}" in invoke("emit", program, "--to", "lava", "-o", tmp_path / "out")
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names >= {"run.py", "network.json", "weights.npz", "golden.npz"}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("do not overwrite")
    assert "error:" in invoke("emit", program, "-o", tmp_path / "other", code=2)
    assert [file.name for file in (tmp_path / "other").iterdir()] == ["thesis.txt"]


def test_emit_carries_the_layout(program: Path, tmp_path: Path, invoke: Invoke) -> None:
    text = invoke("emit", program, "--lava-layout", "fused", "--lava-batch", 3, "-o", tmp_path / "out")
    assert "(layout fused)" in text
    network = json.loads((tmp_path / "out" / "network.json").read_text())
    assert (network["lava_layout"], network["batch"], len(network["processes"])) == ("fused", 3, 3)
    assert "stock, layer, fused" in invoke("emit", program, "--lava-layout", "rows", "-o", tmp_path / "o", code=2)
    assert not (tmp_path / "o").exists()


def test_compile_transforms_a_program(tmp_path: Path, program: Path, invoke: Invoke) -> None:
    """A program goes in, an exactly rewritten one comes out; what cannot be rewritten is said and nothing written."""
    from snn2chip import load

    out = tmp_path / "serial.s2c"
    invoke("compile", program, "--transform", "dead-channel", "--transform", "serialize-levels", "-o", out)
    before, after = load(program), load(out)
    levels = max(int(s.levels.max()) for s in before.somas if s.fire == "levels")
    assert after.steps == before.steps * levels
    assert all(s.payload_type().hi <= 1 for s in after.somas if s.fire == "levels")
    last = tmp_path / "no.s2c"
    assert "known: fuse-time" in invoke("compile", program, "--transform", "shrink", "-o", last, code=2)
    assert "--transform NAME" in invoke("compile", program, "-o", last, code=2)
    assert "holds integers already" in invoke("compile", program, "--weights", "int4", "-o", last, code=2)
    assert not last.exists()
