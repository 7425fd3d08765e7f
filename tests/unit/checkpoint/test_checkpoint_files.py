"""Checkpoints go round, or end in one clear FileFormatError; nothing in them runs, nothing is loaded in part."""

from __future__ import annotations

import json
import os
import pickle
import re
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from snn2chip.checkpoint import (
    CheckpointHeader,
    InputSpec,
    build_model,
    load_checkpoint,
    load_model,
    save_checkpoint,
)
from snn2chip.checkpoint_tensors import strict_load
from snn2chip.errors import FileFormatError, InputError

ARGS = {"input_shape": [1, 4, 4], "hidden": [6], "classes": 3, "weights": "ternary", "T": 2}


def header(**changes):
    fields = {
        "model": "mlp",
        "args": ARGS,
        "method": "lmht",
        "T": 2,
        "L": 4,
        "input": InputSpec(shape=(1, 4, 4), mean=5, std=6),
        "classes": ("a", "b", "c"),
        "provenance": {"recipe": "test", "seed": 3},
        "metrics": {"test_accuracy": 0.5},
    }
    return CheckpointHeader(**{**fields, **changes})


def trained(seed=0):
    torch.manual_seed(seed)
    model = build_model("mlp", args=ARGS)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
        model(torch.randn(20, 1, 4, 4))  # norms have seen data
    return model.eval()


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "m.safetensors"
    model = trained()
    save_checkpoint(path, model, header())
    return path, model


def test_a_zoo_model_comes_back_without_any_code_of_the_user(saved):
    path, model = saved
    loaded, got = load_checkpoint(path)
    assert got == header()
    assert not loaded.training
    state, want = loaded.state_dict(), model.state_dict()
    assert list(state) == list(want)
    assert all(torch.equal(state[k], want[k]) and state[k].dtype == want[k].dtype for k in want)
    x = torch.randn(7, 1, 4, 4)
    assert torch.equal(loaded(x), model(x))


def test_the_header_is_json_in_the_safetensors_metadata(saved):
    path, _ = saved
    raw = path.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    fields = json.loads(json.loads(raw[8 : 8 + size])["__metadata__"]["snn2chip"])
    assert fields["format"] == "snn2chip-checkpoint"
    assert fields["version"] == 1
    assert fields["input"] == {"shape": [1, 4, 4], "scale": 1.0, "mean": [5.0], "std": [6.0], "time": False}
    assert {"model", "args", "method", "T", "L", "classes", "provenance", "metrics"} < set(fields)


def test_equal_models_give_equal_bytes_and_a_changed_weight_other_bytes(tmp_path):
    paths = [tmp_path / f"{n}.safetensors" for n in range(3)]
    for path, seed in zip(paths, (0, 0, 1), strict=True):
        save_checkpoint(path, trained(seed), header())
    contents = [p.read_bytes() for p in paths]
    assert contents[0] == contents[1]
    assert contents[0] != contents[2]


def test_a_header_that_is_not_json_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="plain JSON"):
        save_checkpoint(tmp_path / "m.safetensors", trained(), header(metrics={"loss": float("nan")}))
    assert list(tmp_path.iterdir()) == []


def test_all_misfits_are_listed_at_once_and_nothing_is_loaded(tmp_path, monkeypatch):
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2), nn.BatchNorm1d(2))
    state = dict(model.state_dict())
    del state["0.bias"], state["2.weight"]
    state["extra.weight"] = torch.zeros(5)
    state["1.weight"] = torch.zeros(2, 5)
    state["1.bias"] = torch.zeros(2, dtype=torch.float64)
    state["2.num_batches_tracked"] = torch.zeros(())
    path = tmp_path / "w.pt"
    torch.save(state, path)
    own = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2), nn.BatchNorm1d(2))
    before = {k: v.clone() for k, v in own.state_dict().items()}
    monkeypatch.setattr("snn2chip.checkpoint.user_function", lambda name: lambda: own)
    with pytest.raises(FileFormatError) as caught:
        load_model(path, model="mine:net")
    text = str(caught.value)
    assert "6 tensors do not fit" in text
    for part in (
        "missing 0.bias [4]",
        "missing 2.weight [2]",
        "unexpected extra.weight [5]",
        "1.weight: the model has [2, 4], the file [2, 5]",
        "1.bias: the model has float32, the file float64",
        "2.num_batches_tracked: the model has int64, the file float32",
    ):
        assert part in text
    assert all(torch.equal(before[k], v) for k, v in own.state_dict().items())


@pytest.fixture
def own_code(tmp_path, monkeypatch):
    (tmp_path / "own_net.py").write_text(
        "from torch import nn\n"
        "def net():\n    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))\n"
        "def nothing():\n    return 3\n"
        "def leaves():\n    raise SystemExit(0)\n"
    )
    (tmp_path / "leaves_at_once.py").write_text("import sys\nsys.exit(0)\n")
    (tmp_path / "own_script.py").write_text("import argparse\nargparse.ArgumentParser().parse_args(['--no-such'])\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_a_plain_state_dict_goes_into_the_users_own_module(own_code, suffix):
    torch.manual_seed(1)
    source = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    path = own_code / f"weights{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(source.state_dict(), path)
    module, got = load_model(path, model="own_net:net")
    assert got is None
    x = torch.randn(5, 3)
    assert torch.equal(module(x), source(x))
    assert not module.training
    with pytest.raises(FileFormatError, match="--model"):
        load_model(path)


def test_half_precision_weights_widen_without_loss(own_code):
    state = {k: v.half() for k, v in nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).state_dict().items()}
    torch.save(state, own_code / "half.pt")
    module, _ = load_model(own_code / "half.pt", model="own_net:net")
    assert all(torch.equal(v, state[k].float()) for k, v in module.state_dict().items())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_such_module_here:net", "cannot import"),
        ("own_net:missing", "no function 'missing'"),
        ("own_net:nothing", "returned int"),
        ("own_net:leaves", "the function ends the process"),
        ("leaves_at_once:net", "importing leaves_at_once ends the process.*__main__"),
        ("own_script:net", "importing own_script ends the process.*__main__"),
        ("own_net:not a name", "module:function"),
        (":net", "module:function"),
        ("no-such-model", "known:.*mlp"),
    ],
)
def test_a_model_that_cannot_be_made_says_why(own_code, name, words):
    torch.save({}, own_code / "w.pt")
    with pytest.raises(InputError, match=words):
        load_model(own_code / "w.pt", model=name)


def test_a_checkpoint_of_user_code_runs_that_code_only_when_it_is_named(own_code):
    path = own_code / "m.safetensors"
    save_checkpoint(path, nn.Linear(3, 2), header(model="own_net:net", args={}))
    (own_code / "own_net.py").write_text("raise SystemExit('ran')")
    with pytest.raises(FileFormatError, match="--model own_net:net"):
        load_model(path)


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (self.marker,)


@pytest.mark.parametrize("form", ["torch", "pickle"])
def test_a_hostile_pickle_is_refused_and_does_not_run(tmp_path, form):
    marker, path = tmp_path / "ran", tmp_path / "w.pt"
    if form == "torch":
        torch.save({"a": Evil(str(marker))}, path)
    else:
        path.write_bytes(pickle.dumps(Evil(str(marker))))
    with pytest.raises(FileFormatError, match="never unpickled") as refused:
        load_model(path, model="mlp")
    assert not marker.exists()
    text = str(refused.value)
    assert ("posix.mkdir" in text) == (form == "torch")
    assert "safetensors" in text
    assert not re.search("weights_only|likely succeed|trusted|pytorch.org|issue", text)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([torch.zeros(2)], "holds a list"),
        ({"model": {"a": torch.zeros(2)}, "epoch": 3}, "state_dict.*model, epoch"),
        ({"pytorch-lightning_version": "2.6", "state_dict": {}, "epoch": 1}, "resuming a training run"),
    ],
)
def test_other_pt_files_say_what_they_are(tmp_path, content, words):
    path = tmp_path / "w.ckpt"
    torch.save(content, path)
    with pytest.raises(FileFormatError, match=words):
        load_model(path, model="mlp")


def _with_header(path, fields):
    text = fields if isinstance(fields, str) else json.dumps(fields)
    save_file({"w": torch.zeros(2)}, path, metadata={"snn2chip": text})


def _fields(**changes):
    fields = json.loads(header().to_json())
    for key, value in changes.items():
        if value is None:
            del fields[key]
        else:
            fields[key] = value
    return fields


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ("{", "not JSON"),
        pytest.param("[" * 100_000, "not JSON", id="deep"),
        ("[]", "not a model checkpoint"),
        (_fields(format="s2c"), "compiled program"),
        (_fields(version=2), "version 2; this snn2chip reads version 1"),
        (_fields(model=None, T="two", L=0), "model is missing; T must be a whole number, got 'two'; L=0"),
        (_fields(surprise=1), "unknown key 'surprise'"),
        (_fields(classes=[1, 2]), "classes must be texts"),
        (_fields(input={"shape": [1], "std": 0}), "std=.*positive"),
        (_fields(input={"shape": [0]}), "shape=.*positive"),
        (_fields(input={"scale": 1}), "input"),
        (_fields(input={"shape": "x"}), "input"),
        (_fields(input={"shape": [1], "scale": 10**400}), "input"),
        (json.dumps(_fields(metrics={"loss": float("nan")})), "NaN"),
        (_fields(model="no-such-model"), "cannot rebuild.*known"),
        (_fields(args={"hidden": "many"}), "cannot rebuild"),
        (_fields(args={"no_such": 1}), "cannot rebuild.*no_such"),
    ],
)
def test_a_bad_header_is_one_clear_error(tmp_path, fields, words):
    path = tmp_path / "m.safetensors"
    _with_header(path, fields)
    with pytest.raises(FileFormatError, match=words):
        load_checkpoint(path)


def test_types_that_torch_cannot_compare_do_not_fit(tmp_path):
    model = nn.BatchNorm1d(2)
    state = {**model.state_dict(), "num_batches_tracked": torch.tensor(0, dtype=torch.uint64)}
    with pytest.raises(FileFormatError, match="type of num_batches_tracked: the model has int64, the file uint64"):
        strict_load(model, state, path=tmp_path / "m.pt")


@pytest.mark.parametrize("weights", ["ternary", "float"])
@pytest.mark.parametrize("hidden", [[10**7], [40_000, 40_000, 40_000], [10**12], [10**15], [-4], [2.5]])
def test_a_header_cannot_make_a_small_file_claim_a_huge_or_senseless_model(saved, tmp_path, hidden, weights):
    """What no memory has is refused by its size, before torch is asked for it."""
    path = tmp_path / "m.safetensors"
    fields = _fields(args={**ARGS, "hidden": hidden, "weights": weights})
    save_file(saved[1].state_dict(), path, metadata={"snn2chip": json.dumps(fields)})
    words = "describes a model with more than" if hidden[0] > 1000 else "cannot rebuild"
    with pytest.raises(FileFormatError, match=words):
        load_checkpoint(path)
    assert torch.empty(2000, 1000).numel() == nn.Linear(2000, 1000).weight.numel()  # the limit is gone again


@pytest.mark.parametrize(("key", "value"), [("T", 10**9), ("L", 3)])
def test_a_header_that_contradicts_its_neurons_is_refused(saved, tmp_path, key, value):
    path = tmp_path / "m.safetensors"
    save_file(saved[1].state_dict(), path, metadata={"snn2chip": json.dumps(_fields(**{key: value}))})
    with pytest.raises(FileFormatError, match=f"header says .*{key}={value}.*neurons of mlp have T=2, L=4"):
        load_checkpoint(path)


def test_a_checkpoint_may_have_any_name(saved, tmp_path):
    path = tmp_path / "m.pt"
    path.write_bytes(saved[0].read_bytes())
    assert load_checkpoint(path)[1] == header()
    torch.save(saved[1].state_dict(), tmp_path / "w.weights")
    with pytest.raises(FileFormatError, match="without a header"):
        load_model(tmp_path / "w.weights")


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(FileFormatError, match="no such file"):
        load_checkpoint(tmp_path / "none.safetensors")
    for name, content in {"empty": b"", "text": b"hello " * 40, "huge": b"\xff" * 8 + b"{}"}.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(content)
        with pytest.raises(FileFormatError, match="damaged"):
            load_checkpoint(path)


def test_every_truncation_is_refused(saved, tmp_path):
    raw = saved[0].read_bytes()
    path = tmp_path / "cut.safetensors"
    for size in [*range(64), *range(64, len(raw), 37), len(raw) - 1]:
        path.write_bytes(raw[:size])
        with pytest.raises(FileFormatError):
            load_checkpoint(path)


@pytest.fixture(scope="module")
def sound_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    model = nn.Sequential(nn.Linear(3, 2))
    torch.save(model.state_dict(), folder / "w.pt")
    save_checkpoint(folder / "m.safetensors", trained(), header())
    return {name: (folder / name).read_bytes() for name in ("w.pt", "m.safetensors")}, folder


@settings(max_examples=150, deadline=None)
@given(data=st.data(), name=st.sampled_from(["w.pt", "m.safetensors"]))
def test_damaged_bytes_load_or_raise_file_format_error(sound_files, data, name):
    contents, folder = sound_files
    raw = bytearray(contents[name])
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = folder / f"damaged_{name}"
    path.write_bytes(bytes(raw))
    try:
        module, _ = load_model(path, model="mlp")
    except FileFormatError:
        return  # any other error fails the test
    assert name == "m.safetensors"
    assert all(list(v.shape) == list(trained().state_dict()[k].shape) for k, v in module.state_dict().items())


def test_a_failed_write_leaves_the_old_file(saved, monkeypatch):
    path, _ = saved
    before = path.read_bytes()

    def broken(*args, **kwargs):
        Path(args[1]).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("safetensors.torch.save_file", broken)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(path, trained(1), header())
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]
