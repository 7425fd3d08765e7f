"""Equal work gives equal bytes, in another process, folder and order of hashes; every file says where it comes from."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snn2chip
from snn2chip.origin import begin, command, hashes

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kills"))
from world import RECIPE, plain

sys.path.pop(0)
pytestmark = pytest.mark.skipif(
    find_spec("lightning") is None or find_spec("matplotlib") is None, reason="needs the extras `train` and `report`"
)
WORK = """
import sys
from snn2chip.cli import app
from snn2chip.origin import begin
for line in {lines!r}:
    sys.argv = ["snn2chip", *line.split()]
    begin(sys.argv)
    if code := app(line.split(), standalone_mode=False):
        sys.exit(code)
"""
LINES = (
    "train recipe.toml -o net.safetensors --seed 3",
    "compile net.safetensors -o net.s2c --golden 2",
    "run net.s2c --samples 16 --record all -o trace.npz",
    "report net.s2c --samples 4 --float net.safetensors --target loihi2 --json report.json",
    "report tiny.s2c --input x.npz --target loihi2 --artifacts made",
    "emit net.s2c -o package",
    "export tiny.s2c --to nir -o tiny.nir",
    "export tiny.s2c --to netx -o tiny.net",
)
FILES = ("net.safetensors", "net.s2c", "trace.npz", "report.json", "tiny.nir", "tiny.net")
MADE = (*FILES, "made", "package")


def tiny(path: Path) -> None:
    """A program that every format can say."""
    rng = np.random.default_rng(5)
    weight = rng.integers(-3, 4, (4, 9))
    snn2chip.Program(
        nodes=[
            snn2chip.Input("in", (9,), 0, 1, coding="steps"),
            snn2chip.Synapse("w", weight=weight, bits=8),
            snn2chip.Soma("n", (4,), theta=64 * 3, gain=64, reset="zero", payload_bits=1, layer="net.0"),
            snn2chip.Output("out", "count"),
        ],
        edges=[("in", "w"), ("w", "n"), ("n", "out")],
        steps=5,
        meta={"name": "tiny", "seed": 5},
    ).save(path)
    np.savez(path.with_name("x.npz"), x=rng.integers(0, 2, (6, 5, 9)))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same work done twice, by processes that hash strings differently, in folders of different depth."""
    places = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two") / "deeper" / "still"
    children = []
    for number, place in enumerate(places):
        place.mkdir(parents=True, exist_ok=True)
        (place / "recipe.toml").write_text(RECIPE)
        tiny(place / "tiny.s2c")
        environment = {**os.environ, "PYTHONHASHSEED": str(17 + number), "OMP_NUM_THREADS": "1"}
        children.append(
            subprocess.Popen([sys.executable, "-c", WORK.format(lines=LINES)], cwd=place, env=environment,
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        )  # fmt: skip
    for child in children:
        _, said = child.communicate(timeout=500)
        assert child.returncode == 0, said
    return places


@pytest.mark.slow
@pytest.mark.parametrize("name", MADE)
def test_the_same_bytes(both: tuple[Path, Path], name: str) -> None:
    """Byte by byte; of reports and folders all but moments and seconds (`versus`: the float model's here)."""
    one, two = (plain(place / name) for place in both)
    if name == "report.json":
        one, two = ({**json.loads(text), "versus": None} for text in (one, two))
        assert one["fidelity"] is not None
    assert one == two


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def header(path: Path) -> Any:
    from safetensors import safe_open

    with safe_open(str(path), "np") as file:
        return json.loads(file.metadata()["snn2chip"])


@pytest.mark.slow
def test_every_file_says_where_it_comes_from(both: tuple[Path, Path]) -> None:
    """Versions, command, seed, and the hashes of what was read."""
    import h5py

    place = both[0]
    net, s2c = sha(place / "net.safetensors"), sha(place / "net.s2c")
    digest = snn2chip.load(place / "net.s2c").digest()

    trained = header(place / "net.safetensors")["provenance"]
    assert trained["versions"]["snn2chip"] == snn2chip.__version__
    assert trained["command"] == "snn2chip train recipe --seed 3"
    assert trained["seed"] == trained["recipe"]["seed"] == 3
    assert re.fullmatch("[0-9a-f]{64}", trained["inputs"]["data"])

    compiled = header(place / "net.s2c")["meta"]
    assert compiled["origin"]["command"] == "snn2chip compile net.safetensors --golden 2"
    assert compiled["origin"]["inputs"] == {"net.safetensors": net}
    assert compiled["origin"]["versions"]["numpy"] == np.__version__
    assert (compiled["seed"], compiled["checkpoint_sha256"]) == (3, net)

    told = json.loads((place / "report.json").read_text())["provenance"]
    assert told["command"].startswith("snn2chip report net.s2c --samples 4")
    assert told["inputs"] == {"net.s2c": s2c, "net.safetensors": net}
    assert (told["seed"], told["program"]) == (3, digest)
    assert told["versions"]["snn2chip"] == snn2chip.__version__
    listed = json.loads((place / "made" / "manifest.json").read_text())
    assert listed["source"] == {"file": "tiny.s2c", "sha256": sha(place / "tiny.s2c")}
    assert listed["command"].startswith("snn2chip report tiny.s2c")
    inside = json.loads((place / "made" / "report.json").read_text())["provenance"]
    assert inside["inputs"]["x.npz"] == sha(place / "x.npz")
    page = (place / "made" / "report.html").read_text()
    assert all(text in page for text in (inside["program"], inside["inputs"]["program.s2c"], np.__version__))

    emitted = json.loads((place / "package" / "snn2chip-emit.json").read_text())
    assert (emitted["program"], emitted["made_from"]["checkpoint_sha256"]) == (digest, net)
    assert (emitted["command"], emitted["made_from"]["seed"]) == ("snn2chip emit net.s2c", 3)
    assert emitted["versions"]["snn2chip"] == snn2chip.__version__
    assert emitted["inputs"] == {"net.s2c": s2c}

    for name, ending in (("nir", "nir"), ("netx", "net")):
        with h5py.File(place / f"tiny.{ending}", "r") as file:
            said = json.loads(file.attrs["snn2chip"])
        assert said["command"] == f"snn2chip export tiny.s2c --to {name}"
        assert said["versions"]["snn2chip"] == snn2chip.__version__
        assert said["inputs"] == {"tiny.s2c": sha(place / "tiny.s2c")}
        assert said["program"] == snn2chip.load(place / "tiny.s2c").digest()
        assert said["made_from"]["seed"] == 5


def test_the_command_without_places(tmp_path: Path) -> None:
    """What is made does not depend on where it lies, nor on where it goes."""
    (tmp_path / "a.pt").write_bytes(b"abc")
    try:
        begin(
            ["/usr/bin/snn2chip", "compile", str(tmp_path / "a.pt"), "-o", "x.s2c", "--artifacts=dir", "--steps", "4"]
        )
        assert command() == "snn2chip compile a.pt --steps 4"
    finally:
        begin([])
    assert command() is None
    assert hashes(tmp_path / "a.pt", None, tmp_path) == {"a.pt": hashlib.sha256(b"abc").hexdigest()}
