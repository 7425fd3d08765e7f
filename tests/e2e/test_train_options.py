"""Options of a run: precision, torch.compile, loggers; what the machine does not have is said."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
from typer.testing import CliRunner

from snn2chip.checkpoint import load_checkpoint
from snn2chip.cli import app
from snn2chip.errors import EnvironmentFault, InputError
from snn2chip.train import RunOptions, train_recipe

pytestmark = pytest.mark.skipif(find_spec("lightning") is None, reason="training needs the extra snn2chip[train]")

SMALL = """
method = "stbp"
epochs = 1
batch = 64
[data]
name = "digits"
train_samples = 640
[input]
mean = 5
std = 6
[model]
name = "mlp"
args = { hidden = [16], T = 2 }
[optimiser]
name = "sgd"
lr = 0.1
"""


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def test_mixed_precision_trains_other_numbers_in_float32_parameters(small, tmp_path):
    full = train_recipe(small, out=tmp_path / "a.safetensors")
    mixed = train_recipe(small, out=tmp_path / "b.safetensors", precision="bf16-mixed")
    pairs = list(zip(full.model.parameters(), mixed.model.parameters(), strict=True))
    assert all(a.dtype == b.dtype == torch.float32 for a, b in pairs)
    assert not all(torch.equal(a, b) for a, b in pairs)
    assert mixed.header.provenance["recipe"]["precision"] == "bf16-mixed"
    assert abs(mixed.accuracy - full.accuracy) < 0.15
    with pytest.raises(InputError, match="'16-mixed' needs --device cuda"):
        train_recipe(small, out=tmp_path / "c.safetensors", precision="16-mixed")
    with pytest.raises(InputError, match="known: 32, bf16-mixed, 16-mixed"):
        train_recipe(small, out=tmp_path / "c.safetensors", precision="8")


def test_a_compiled_run_gives_the_weights_of_a_plain_one(small, tmp_path):
    """The backend `eager` records the graph and runs the same operations."""
    if sys.version_info >= (3, 12) and torch.__version__ < "2.4":
        pytest.skip("torch.compile needs a newer PyTorch on this Python")
    plain = train_recipe(small, out=tmp_path / "a.safetensors")
    done = train_recipe(small, out=tmp_path / "b.safetensors", compile="eager")
    assert done.header.provenance["recipe"]["compile"] == "eager"
    states = plain.model.state_dict(), done.model.state_dict()
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_logs_for_tensorboard_or_what_to_install(small, tmp_path, monkeypatch):
    out, logs = tmp_path / "m.safetensors", tmp_path / "logs"
    options = RunOptions(logger="tensorboard")
    if find_spec("tensorboard") is not None or find_spec("tensorboardX") is not None:
        train_recipe(small, out=out, logs=logs, options=options)
        assert list(logs.rglob("events.out.tfevents*"))
        out.unlink()
    monkeypatch.setattr("snn2chip.train.lightning_run.find_spec", lambda name: None)
    with pytest.raises(EnvironmentFault, match="pip install tensorboard"):
        train_recipe(small, out=out, logs=logs, options=options)
    assert not out.exists()


def test_all_wrong_options_together(small, tmp_path):
    with pytest.raises(InputError) as caught:
        RunOptions(device="tpu", devices=0, workers=-1, logger="paper", save_minutes=0, save_steps=-1)
    assert len(caught.value.breaches) == 6
    done = CliRunner().invoke(app, ["train", str(small), "-o", str(tmp_path / "m.safetensors"), "--workers", "-1"])
    assert done.exit_code == 2
    assert "workers=-1" in done.output


def test_precision_and_start_anew_on_the_command_line(small, tmp_path):
    out = tmp_path / "m.safetensors"
    resume = tmp_path / "m.safetensors.resume.ckpt"
    resume.write_bytes(b"no")
    words = ["train", str(small), "-o", str(out), "--precision", "bf16-mixed"]
    refused = CliRunner().invoke(app, words)
    assert refused.exit_code == 2
    assert "--no-resume" in refused.output
    done = CliRunner().invoke(app, [*words, "--no-resume"])
    assert done.exit_code == 0, done.output
    want = train_recipe(small, out=tmp_path / "again.safetensors", precision="bf16-mixed").path.read_bytes()
    assert out.read_bytes() == want
    assert not resume.exists()


@pytest.mark.slow
def test_two_processes_with_half_of_every_batch_each_are_one_with_the_whole(tmp_path):
    """Sums are taken in another order, so equal to rounding; no norm, whose statistics one process has alone."""
    recipe = tmp_path / "small.toml"
    recipe.write_text(
        SMALL.replace('"stbp"', '"ann"')
        .replace('"mlp"', '"small-vgg"')
        .replace(
            "hidden = [16], T = 2", 'stages = [[4], [6]], input_shape = [1, 8, 8], activation = "relu", bn = false'
        )
        + "[augment]\nshift = 1\n"
    )
    command = [sys.executable, "-m", "snn2chip", "train", str(recipe), "-o"]
    two = subprocess.run(
        [*command, str(tmp_path / "two.safetensors"), "--devices", "2", "--strategy", "ddp"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert two.returncode == 0, two.stderr
    assert two.stdout.count("wrote") == 1
    got, _ = load_checkpoint(tmp_path / "two.safetensors")
    one = train_recipe(recipe, out=tmp_path / "one.safetensors").model
    for a, b in zip(one.parameters(), got.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_a_task_of_a_slurm_job_trains_the_same_and_leaves_requeueing_to_slurm(small, tmp_path, monkeypatch):
    want = train_recipe(small, out=tmp_path / "a.safetensors").path.read_bytes()
    names = {"NTASKS": "1", "JOB_NAME": "train", "JOB_ID": "7", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}
    for name, value in names.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    before = signal.getsignal(signal.SIGUSR1)
    during = []
    from snn2chip.train.resume import Resume

    save = Resume.save

    def wrapped(self, trainer, *, epoch, done):
        during.append(signal.getsignal(signal.SIGUSR1))
        save(self, trainer, epoch=epoch, done=done)

    monkeypatch.setattr(Resume, "save", wrapped)
    assert train_recipe(small, out=tmp_path / "b.safetensors").path.read_bytes() == want
    assert all(handler is before for handler in during)
    assert during
    assert {p.name for p in tmp_path.iterdir()} == {"a.safetensors", "b.safetensors", "small.toml"}
