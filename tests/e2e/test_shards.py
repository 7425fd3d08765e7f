"""Shards on the command line: killed and interrupted calls go on and leave no process and no half file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from snn2chip import Program
from snn2chip.data import load_data

Network = Callable[..., Program]
Invoke = Callable[..., str]
WORDS = ("--workers", "2", "--shard", "4")


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """1,000 digits, which the reference backend takes a while for."""
    x, y = load_data("digits", split="train")
    np.savez(tmp_path / "x.npz", x=x[:1000].reshape(-1, 64), y=y[:1000])
    return tmp_path / "x.npz"


def children(pid: int) -> list[int]:
    """Processes whose parent `pid` is."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1]) == pid:
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_killed_call_leaves_no_worker_and_the_next_one_goes_on(
    program: Path, samples: Path, tmp_path: Path, invoke: Invoke
) -> None:
    out = tmp_path / "out.json"
    words = ["check", program, "--backends", "reference,torch", "--input", samples, "--json", out, *WORDS]
    call = subprocess.Popen([sys.executable, "-m", "snn2chip", *map(str, words)], stderr=subprocess.PIPE)
    kept = tmp_path / "out.json.shards"
    until = time.monotonic() + 240
    while len(list(kept.glob("*/*.npz"))) < 3 and call.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    assert call.poll() is None, "it ended before it could be killed"
    own = children(call.pid)
    call.send_signal(signal.SIGKILL)
    call.wait(timeout=120)
    assert own
    while any(map(alive, own)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(map(alive, own))
    assert not out.exists()
    files = list(kept.glob("*/*.npz"))
    assert 3 <= len(files) < 250
    text = invoke(*words[:-4], "--workers", 1)  # the shards that are there stay, whatever the others are
    assert "EQUAL reference == torch" in text
    assert not kept.exists()
    want = tmp_path / "want.json"
    invoke(*words[:-6], "--json", want)
    assert json.loads(out.read_text()) == json.loads(want.read_text())


def test_options_that_shards_cannot_have(program: Path, invoke: Invoke, tmp_path: Path) -> None:
    assert "--golden and --trace hold few samples" in invoke("check", program, "--golden", "--workers", 2, code=2)
    assert "--scheduler" in invoke("run", program, "--executor", "dask", code=2)
    assert "local, dask, ray" in invoke("run", program, "--executor", "spark", code=2)
    (tmp_path / "file").write_text("")
    assert "is a file" in invoke("run", program, "--workers", 1, "--partial", tmp_path / "file", code=2)


def test_an_output_keeps_its_shards_until_it_is_there(program: Path, invoke: Invoke, tmp_path: Path) -> None:
    invoke("run", program, "--workers", 1, "-o", tmp_path / "one.npz")
    assert sorted(os.listdir(tmp_path)) == ["one.npz", "tiny.s2c"]
    invoke("run", program, "--workers", 1, "-o", tmp_path / "two.npz", "--partial", tmp_path / "kept")
    assert len(list((tmp_path / "kept").glob("*/*.npz"))) > 1
    with np.load(tmp_path / "one.npz") as one, np.load(tmp_path / "two.npz") as two:
        assert (one["outputs"] == two["outputs"]).all()
