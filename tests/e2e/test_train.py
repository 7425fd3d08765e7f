"""Training from a recipe: the same seed gives the same bytes, nothing is printed, nothing of the caller changes."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from snn2chip.checkpoint import load_checkpoint, load_model
from snn2chip.data import load_data
from snn2chip.errors import EnvironmentFault, InputError
from snn2chip.train import evaluate, train_recipe

needs_lightning = pytest.mark.skipif(find_spec("lightning") is None, reason="training needs the extra snn2chip[train]")

SMALL = """
title = "small"
method = "stbp"
epochs = 1
batch = 64
[data]
name = "digits"
[input]
mean = 5
std = 6
[model]
name = "mlp"
args = { hidden = [16], weights = "ternary", T = 2 }
[optimiser]
name = "sgd"
lr = 0.1
[augment]
shift = 1
"""


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


@needs_lightning
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(small, tmp_path):
    files = []
    for n, seed in enumerate((3, 3, 4)):
        torch.manual_seed(n)  # neither the caller's random state nor its threads may matter
        torch.set_num_threads(n % 2 + 1)
        files.append(train_recipe(small, out=tmp_path / f"{n}.safetensors", seed=seed).path.read_bytes())
        assert torch.get_num_threads() == n % 2 + 1
    assert files[0] == files[1]
    assert files[0] != files[2]


@needs_lightning
def test_a_trained_model_comes_back_with_its_accuracy_and_provenance(small, tmp_path):
    done = train_recipe(small, out=tmp_path / "sub" / "m.safetensors", epochs=2)
    model, header = load_checkpoint(done.path)
    data = load_data("digits", split="test")
    assert evaluate(model, data, spec=header.input) == done.accuracy == header.metrics["test_accuracy"]
    assert done.accuracy > 0.5  # ten classes, two epochs
    assert (header.model, header.method, header.T, header.L) == ("mlp", "lmht", 2, 4)
    assert header.args == {"hidden": [16], "weights": "ternary", "T": 2, "input_shape": [1, 8, 8], "classes": 10}
    assert header.classes == tuple("0123456789")
    assert header.provenance["recipe"]["epochs"] == 2
    assert header.provenance["data"] == "digits"
    assert set(header.provenance["versions"]) == {"snn2chip", "lightning", "torch", "numpy", "numba", "python"}


@needs_lightning
def test_nothing_is_printed_and_the_callers_state_stays(small, tmp_path, capfd):
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002
    before = (torch.get_rng_state(), np.random.get_state()[1].tolist())  # noqa: NPY002
    level, handler = logging.getLogger("lightning.pytorch").level, signal.getsignal(signal.SIGINT)
    train_recipe(small, out=tmp_path / "m.safetensors")
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    assert not torch.are_deterministic_algorithms_enabled()
    assert logging.getLogger("lightning.pytorch").level == level
    assert signal.getsignal(signal.SIGINT) is handler
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.safetensors", "small.toml"]


@needs_lightning
def test_csv_logs_when_asked_for(small, tmp_path):
    train_recipe(small, out=tmp_path / "m.safetensors", logs=tmp_path / "logs")
    (file,) = (tmp_path / "logs").rglob("metrics.csv")
    rows = file.read_text().splitlines()
    assert "loss" in rows[0]
    assert len(rows) == 3  # 1347 samples are 21 batches of 64: steps 10 and 20


@needs_lightning
def test_a_users_own_network_trains_from_a_recipe(tmp_path, monkeypatch):
    (tmp_path / "mine_to_train.py").write_text(
        "from torch import nn\nfrom snn2chip.nn import IF, Repeat, Seq, TimeMean\n"
        "def net():\n"
        "    return Seq(nn.Flatten(), nn.Linear(64, 20), Repeat(3), IF(steps=3), nn.Linear(20, 10), TimeMean())\n"
    )
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "own.toml"
    recipe.write_text(SMALL.replace('"mlp"', '"mine_to_train:net"').replace("args = {", "#"))
    done = train_recipe(recipe, out=tmp_path / "m.safetensors")
    model, header = load_model(done.path, model="mine_to_train:net")
    assert (header.method, header.T, header.L) == ("if", 3, 1)
    assert evaluate(model, load_data("digits", split="test"), spec=header.input) == done.accuracy


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("T = 2", "T = 2, input_shape = [1, 7, 7]", "does not take samples.*digits"),
        ("T = 2", "T = 2, classes = 7", r"returned \[1, 7\].*expected.*\[1, 10\]"),
        ('"mlp"', '"no-such"', "known: .*mlp"),
        ('"digits"', '"no-such"', "unknown data set"),
        ('"mlp"', '"a:b"', "without arguments"),
        ("mean = 5", "mean = [1, 2]", "mean has 2 numbers"),
    ],
)
def test_what_does_not_fit_together_is_said_before_training(small, tmp_path, old, new, words):
    small.write_text(SMALL.replace(old, new))
    with pytest.raises(InputError, match=words):
        train_recipe(small, out=tmp_path / "m.safetensors")
    assert not (tmp_path / "m.safetensors").exists()


def test_devices(small, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="known: cpu, cuda"):
        train_recipe(small, out=tmp_path / "m.safetensors", device="tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EnvironmentFault, match="no CUDA device"):
        train_recipe(small, out=tmp_path / "m.safetensors", device="cuda")
    with pytest.raises(InputError, match="folder"):
        train_recipe(small, out=tmp_path)


def test_without_lightning_the_error_says_what_to_install(small, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning", None)
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    with pytest.raises(EnvironmentFault, match=r"pip install 'snn2chip\[train\]'"):
        train_recipe(small, out=tmp_path / "m.safetensors")


@needs_lightning
def test_interrupting_leaves_130_and_no_file(small, tmp_path):
    small.write_text(SMALL.replace("epochs = 1", "epochs = 100000"))
    out = tmp_path / "m.safetensors"
    code = "import sys; from snn2chip.cli import main; main()"
    command = [sys.executable, "-c", code, "train", str(small), "-o", str(out), "--logs", str(tmp_path / "logs")]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        until = time.monotonic() + 60
        while not list(tmp_path.rglob("metrics.csv")) and time.monotonic() < until:
            time.sleep(0.2)
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=30)
    finally:
        child.kill()
        child.wait()
    assert child.returncode == 130
    assert err.strip() == "error: interrupted"
    assert not out.exists()
