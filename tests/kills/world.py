"""What is killed: small jobs of every verb, what they write, and what of it may differ between two equal runs."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import attrs
import numpy as np

RECIPE = """
method = "stbp"
epochs = 3
batch = 64
[data]
name = "digits"
train_samples = 256
test_samples = 32
[input]
mean = 5
std = 6
[model]
name = "mlp"
args = { hidden = [16], T = 2 }
[optimiser]
name = "adamw"
lr = 1e-2
"""
TIMES = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+0-9:]*|^\s+[\d.]+\s+[\d.]+  .*$", re.MULTILINE)
LEFT = re.compile(r"\..+\.[a-z0-9_]{8}\.snn2chip-part")
EARLIER = b"an earlier result\n"


@attrs.frozen(kw_only=True)
class Job:
    """A command of a verb, the files and folders it writes into the folder `out`, and what else may lie there."""

    name: str
    argv: tuple[str, ...]
    files: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


JOBS = {
    job.name: job
    for job in (
        Job(name="compile", argv=("compile", "net.safetensors", "-o", "out/m.s2c", "--golden", "2"), files=("m.s2c",)),
        Job(
            name="run",
            argv=("run", "m.s2c", "--samples", "48", "--record", "all", "-o", "out/t.npz"),
            files=("t.npz",),
        ),
        Job(
            name="check",
            argv=("check", "m.s2c", "--samples", "8", "--backends", "reference,torch", "--json", "out/c.json"),
            files=("c.json",),
        ),
        Job(
            name="report",
            argv=("report", "m.s2c", "--samples", "4", "--target", "loihi2", "--json", "out/r.json", "--csv",
                  "out/r.csv", "--html", "out/r.html", "--neurobench", "out/n.json"),
            files=("r.json", "r.csv", "r.csv.origin.json", "r.html", "n.json"),
        ),
        Job(
            name="artifacts",
            argv=("report", "m.s2c", "--input", "x.npz", "--target", "loihi2", "--artifacts", "out/made"),
            folders=("made",),
        ),
        Job(
            name="train",
            argv=("train", "recipe.toml", "-o", "out/w.safetensors", "--save-minutes", "0.00001"),
            files=("w.safetensors",),
            kept=("w.safetensors.resume.ckpt",),
        ),
        Job(name="emit", argv=("emit", "m.s2c", "-o", "out/package"), folders=("package",)),
        Job(name="export", argv=("export", "m.s2c", "--to", "nir", "-o", "out/m.nir"), files=("m.nir",)),
    )
}  # fmt: skip


def prepare(folder: Path) -> None:
    """Write what the jobs read: a recipe, a checkpoint, a program that every format can say, samples."""
    import torch
    from snn2chip_models import build

    from snn2chip import Input, Output, Program, Soma, Synapse
    from snn2chip.checkpoint import CheckpointHeader, InputSpec, save_checkpoint
    from snn2chip.data import load_data

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.toml").write_text(RECIPE)
    args = {"hidden": [16], "T": 2}
    torch.manual_seed(0)
    header = CheckpointHeader(
        model="mlp",
        args=args,
        method="lmht",
        T=2,
        L=4,
        input=InputSpec(shape=(1, 8, 8), mean=(5,), std=(6,)),
        classes=tuple("0123456789"),
        provenance={"data": "digits", "seed": 0},
    )
    save_checkpoint(folder / "net.safetensors", build("mlp", **args), header)
    rng = np.random.default_rng(5)
    first, second = rng.integers(-7, 8, (12, 64)), rng.integers(-7, 8, (10, 12))
    Program(
        nodes=[
            Input("pixels", (64,), 0, 16),
            Synapse("w1", weight=first, bits=8),
            Soma("hidden", (12,), theta=60, leak=3000, layer="net.0"),
            Synapse("w2", weight=second, bits=8),
            Soma("last", (10,), theta=20, layer="net.2"),
            Output("classes", "count"),
        ],
        edges=[("pixels", "w1"), ("w1", "hidden"), ("hidden", "w2"), ("w2", "last"), ("last", "classes")],
        steps=4,
        meta={"name": "tiny", "data": "digits"},
    ).save(folder / "m.s2c")
    x, y = load_data("digits", split="test")
    np.savez(folder / "x.npz", x=x[:4].reshape(4, 64), y=y[:4])


def leave_earlier(out: Path, job: Job) -> None:
    """Put an earlier result where the job writes: files of other bytes, folders of ours with a manifest or a mark."""
    for name in job.files:
        (out / name).write_bytes(EARLIER)
    for name in job.folders:
        (out / name).mkdir()
        (out / name / "earlier.txt").write_bytes(EARLIER)
        manifest = {"format": "snn2chip-artifacts", "version": 1, "files": {"earlier.txt": {}}}
        (out / name / "manifest.json").write_text(json.dumps(manifest))
        if job.name == "emit":
            (out / name / "manifest.json").rename(out / name / "snn2chip-emit.json")


def clear(world: Path, job: Job, *, earlier: bool) -> Path:
    """An `out` with the earlier result, or empty."""
    out = world / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    if earlier:
        leave_earlier(out, job)
    return out


def is_earlier(path: Path) -> bool:
    """Whether a name holds what `leave_earlier` put there, unchanged."""
    if path.is_dir():
        names = {p.name for p in path.iterdir()}
        return names & {"earlier.txt"} != set() and len(names) == 2 and is_earlier(path / "earlier.txt")
    return path.read_bytes() == EARLIER


def plain(path: Path) -> Any:
    """The contents of a file or folder without moments, seconds and the hashes of those; raises for what is not whole.

    A folder of artifacts is held against its own manifest: every file is there with its size and hash.
    """
    if path.is_dir():
        if (path / "manifest.json").is_file():
            listed = json.loads((path / "manifest.json").read_text())["files"]
            assert set(listed) == {p.name for p in path.iterdir()} - {"manifest.json"}, f"{path}: files and manifest"
            for name, row in listed.items():
                body = (path / name).read_bytes()
                assert row["bytes"] == len(body), name
                assert row["sha256"] == hashlib.sha256(body).hexdigest(), name
        return {str(p.relative_to(path)): plain(p) for p in sorted(path.rglob("*")) if p.is_file()}
    if path.name == "timing.json":
        return [row["stage"] for row in json.loads(path.read_text())["stages"]]
    if path.name == "manifest.json":
        found = json.loads(path.read_text())
        return {**found, "made": None, "files": sorted(found["files"])}
    if path.suffix in (".json", ".html", ".txt"):
        return TIMES.sub("", path.read_text())
    return path.read_bytes()
