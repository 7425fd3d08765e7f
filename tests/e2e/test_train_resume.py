"""A run that was broken anywhere goes on and ends with the bytes of an unbroken one."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from snn2chip.errors import FileFormatError, InputError
from snn2chip.train import RunOptions, train_recipe

pytestmark = pytest.mark.skipif(find_spec("lightning") is None, reason="training needs the extra snn2chip[train]")

STBP = """
method = "stbp"
epochs = 3
batch = 128
[data]
name = "digits"
train_samples = 640
[input]
mean = 5
std = 6
[model]
name = "small-vgg"
args = { stages = [[4], [6]], input_shape = [1, 8, 8], hidden = [12], dropout = 0.3, T = 2 }
[optimiser]
name = "adamw"
lr = 1e-2
[schedule]
name = "cosine"
warmup = 0.5
[augment]
shift = 1
cutout = 2
"""
ONLINE = (
    STBP.replace('"stbp"', '"online"')
    .replace("T = 2", 'activation = "empf", weights = "binary", T = 3')
    .replace('"adamw"', '"sgd"')
    + "mixup = 0.8\ncutmix = 1.0\n"
)
RECIPES = {"stbp": STBP, "online": ONLINE}
SAVES = 3 * 3  # epochs of five batches, saved behind batches 2 and 4 and at the end
needs_torchvision = pytest.mark.skipif(find_spec("torchvision") is None, reason="Mixup needs torchvision")


class Broken(Exception):
    pass


def write(folder, kind, **changes):
    text = RECIPES[kind]
    for old, new in changes.items():
        text = text.replace(old, new)
    path = folder / "small.toml"
    path.write_text(text)
    return path


def options(**changes):
    return RunOptions(**{"save_steps": 2, "progress": False, **changes})


@pytest.fixture
def breaking(monkeypatch):
    """Arms the callback: the given save still happens, then everything stops."""
    from snn2chip.train.resume import Resume

    save = Resume.save

    def arm(number):
        seen = []

        def wrapped(self, trainer, *, epoch, done):
            save(self, trainer, epoch=epoch, done=done)
            seen.append((epoch, done))
            if number is not None and len(seen) == number:
                raise Broken

        monkeypatch.setattr(Resume, "save", wrapped)
        return seen

    return arm


@pytest.mark.parametrize("kind", ["stbp", pytest.param("online", marks=needs_torchvision)])
def test_broken_behind_every_save_the_bytes_are_the_same(tmp_path, breaking, kind):
    recipe, out = write(tmp_path, kind), tmp_path / "m.safetensors"
    seen = breaking(None)
    want = train_recipe(recipe, out=tmp_path / "whole.safetensors", options=options()).path.read_bytes()
    assert seen == [(e + d // 5, d % 5) for e in range(3) for d in (2, 4, 5)]
    for number in range(1, SAVES + 1):
        breaking(number)
        with pytest.raises(Broken):
            train_recipe(recipe, out=out, options=options())
        assert not out.exists()
        rest = breaking(None)
        done = train_recipe(recipe, out=out, options=options())
        assert rest == seen[number:]
        assert done.path.read_bytes() == want
        assert sorted(p.name for p in tmp_path.iterdir()) == ["m.safetensors", "small.toml", "whole.safetensors"]
        out.unlink()


def test_broken_again_and_again_and_the_callers_generators_do_not_matter(tmp_path, breaking):
    recipe, out = write(tmp_path, "stbp"), tmp_path / "m.safetensors"
    want = train_recipe(recipe, out=tmp_path / "whole.safetensors").path.read_bytes()
    for number in (1, 2, 1, 3):
        torch.manual_seed(number)
        np.random.seed(number)  # noqa: NPY002
        random.seed(number)
        breaking(number)
        with pytest.raises(Broken):
            train_recipe(recipe, out=out, options=options())
    breaking(None)
    assert train_recipe(recipe, out=out, options=options()).path.read_bytes() == want


def test_broken_between_training_and_the_checkpoint(tmp_path, monkeypatch):
    recipe, out = write(tmp_path, "stbp"), tmp_path / "m.safetensors"
    want = train_recipe(recipe, out=tmp_path / "whole.safetensors").path.read_bytes()

    def broken(*args):
        raise Broken

    with monkeypatch.context() as patch:
        patch.setattr("snn2chip.checkpoint.save_checkpoint", broken)
        with pytest.raises(Broken):
            train_recipe(recipe, out=out)
    assert (tmp_path / "m.safetensors.resume.ckpt").exists()
    done = train_recipe(recipe, out=out)
    assert done.path.read_bytes() == want
    assert not (tmp_path / "m.safetensors.resume.ckpt").exists()


def test_batches_made_by_workers_are_the_same_also_when_broken(tmp_path, breaking):
    recipe, out = write(tmp_path, "stbp"), tmp_path / "m.safetensors"
    want = train_recipe(recipe, out=tmp_path / "whole.safetensors").path.read_bytes()
    breaking(4)
    with pytest.raises(Broken):
        train_recipe(recipe, out=out, options=options(workers=1))
    breaking(None)
    assert train_recipe(recipe, out=out, options=options(workers=1)).path.read_bytes() == want


def test_another_runs_resume_file_is_refused_until_asked_to_start_anew(tmp_path, breaking):
    recipe, out = write(tmp_path, "stbp"), tmp_path / "m.safetensors"
    breaking(2)
    with pytest.raises(Broken):
        train_recipe(recipe, out=out, options=options())
    breaking(None)
    other = write(tmp_path, "stbp", **{"lr = 1e-2": "lr = 2e-2", "train_samples = 640": "train_samples = 641"})
    with pytest.raises(InputError) as caught:
        train_recipe(other, out=out, options=options())
    for words in ("recipe.lr is 0.02 now and was 0.01", "recipe.train_samples is 641", "data is ", "--no-resume"):
        assert words in str(caught.value)
    assert len(caught.value.breaches) == 3
    assert not out.exists()
    anew = train_recipe(other, out=out, options=options(resume=False)).path.read_bytes()
    assert anew == train_recipe(other, out=tmp_path / "whole.safetensors").path.read_bytes()


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_resume_file_is_data_only(tmp_path):
    recipe, out = write(tmp_path, "stbp"), tmp_path / "m.safetensors"
    resume = tmp_path / "m.safetensors.resume.ckpt"
    torch.save({"snn2chip": Bomb(tmp_path / "ran")}, resume)
    for content in (resume.read_bytes(), b"", b"PK\x03\x04 no", b"\x80\x02}q\x00."):
        resume.write_bytes(content)
        with pytest.raises(FileFormatError, match=r"not a resume file, or damaged.*--no-resume"):
            train_recipe(recipe, out=out)
    assert not (tmp_path / "ran").exists()
    assert not out.exists()


@pytest.mark.slow
def test_killed_at_random_moments_the_bytes_are_the_same(tmp_path):
    recipe = write(tmp_path, "stbp", **{"epochs = 3": "epochs = 60"})
    want = train_recipe(recipe, out=tmp_path / "whole.safetensors").path.read_bytes()
    out, resume = tmp_path / "m.safetensors", tmp_path / "m.safetensors.resume.ckpt"
    code = "import sys; from snn2chip.cli import main; main()"
    command = [sys.executable, "-c", code, "train", str(recipe), "-o", str(out), "--save-minutes", "0.0005"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    draw = random.Random(0)
    for _ in range(2):
        child = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        try:
            before, until = stamp(resume), time.monotonic() + 240
            while stamp(resume) == before and child.poll() is None and time.monotonic() < until:
                time.sleep(0.002)
            time.sleep(draw.random() * 0.3)
        finally:
            child.kill()
            child.wait()
        assert child.returncode == -9, "it finished before it was killed"
        assert not out.exists()
    last = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert last.returncode == 0, last.stderr
    assert out.read_bytes() == want
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.safetensors", "small.toml", "whole.safetensors"]


def stamp(path):
    return path.stat().st_mtime_ns if path.exists() else None
