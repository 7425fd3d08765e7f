"""Training in slices: a call ends in time, and the next one with the same arguments goes on.

    NAME.safetensors    the checkpoint when it is done        NAME.json    identity of the recipe, seconds, done

Training runs in a process of its own, which is killed when the slice is over: `snn2chip train` saves its state every
half minute and goes on from there. Seconds are those of all slices together, start of the process included.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import attrs

from benchmarks.methods.result import identity
from snn2chip.ir.files import write_text
from snn2chip.train import load_recipe
from snn2chip.train.recipe import Recipe

SAVE_MINUTES, LEAST_SECONDS = 0.5, 60.0
"""How often a training saves; with less time left in a slice it is not taken up again."""
QUICK = """title = "a quick run of {name}"
base = "{name}"
epochs = 2
batch = 16

[data]
name = "cifar10"
train_samples = 64
test_samples = 64

[model.args]
channels = [4, 8, 8, 8]
stem_channels = 4
"""


class SliceOver(Exception):
    """The time of this call is used up; says how far it came."""


@attrs.define(kw_only=True)
class Bench:
    """Folder of nets and results, device, worker processes, and the wall-clock seconds of this call."""

    folder: Path
    device: str = "cuda"
    workers: int = 0
    quick: bool = False
    seconds: float = 540.0
    started: float = attrs.field(factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds left in this slice."""
        return self.seconds - (time.monotonic() - self.started)

    def recipe(self, name: str) -> Recipe:
        """Return the recipe of that name, or its quick form."""
        return load_recipe(self.source(name))

    def source(self, name: str) -> str:
        """Return what `snn2chip train` is given: the name, or the file of the quick form."""
        if not self.quick:
            return name
        path = self.folder / f"{name}-quick.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, QUICK.format(name=name))
        return str(path)

    def train(self, name: str) -> tuple[Path, float]:
        """Return the checkpoint of a recipe and the seconds its training took, training on until it is there.

        Raises SliceOver when the slice ends first, RuntimeError when the training fails.
        """
        out = self.folder / f"{name}.safetensors"
        said, mark = out.with_suffix(".json"), identity([self.recipe(name)], quick=self.quick)
        before = _read(said)
        mine = before.get("identity") == mark
        spent = float(before["seconds"]) if mine else 0.0
        if mine and before["done"]:
            return out, spent
        command = [sys.executable, "-m", "snn2chip", "train", self.source(name), "-o", str(out), "--no-convert"]
        command += ["--device", self.device, "--workers", str(self.workers), "--save-minutes", str(SAVE_MINUTES)]
        command += [] if mine else ["--no-resume"]
        if self.left < LEAST_SECONDS and not self.quick:
            raise SliceOver(f"{name}: {spent / 60:.1f} minutes so far")
        clock = time.monotonic()
        code = _run(command, seconds=self.left)
        spent += time.monotonic() - clock
        write_text(said, json.dumps({"identity": mark, "seconds": round(spent, 1), "done": code == 0}) + "\n")
        if code is None:
            raise SliceOver(f"{name}: {spent / 60:.1f} minutes so far")
        if code:
            raise RuntimeError(f"training of {name} failed with exit code {code}: {' '.join(command)}")
        return out, spent


def _run(command: list[str], *, seconds: float) -> int | None:
    """Run a command; its exit code, or None when it had to be killed."""
    if seconds <= 0:
        return None
    child = subprocess.Popen(command)
    try:
        return child.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text())) if path.is_file() else {}
