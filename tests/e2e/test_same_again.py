"""Equal work gives equal bytes, in another process, folder and order of hashes; every file says where it comes from."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snn2chip
from snn2chip.data import load_data
from snn2chip.origin import begin, command, hashes, origin, samples_sha256

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
    "train recipe.toml -o {read}net.safetensors --seed 3",
    "compile {read}net.safetensors -o {read}net.s2c --golden 2 {workers}",
    "compile {read}net.s2c -o {out}fused.s2c --transform dead-channel",
    "run {read}net.s2c --samples 16 --record all -o {out}trace.npz {shards}",
    "check {read}net.s2c --samples 8 --backends reference,torch --json {out}check.json {shards}",
    "report {read}net.s2c --samples 4 --float {read}net.safetensors --target loihi2 --json {out}report.json"
    " --csv {out}layers.csv --neurobench {out}neurobench.json {workers}",
    "report {read}net.s2c {read}net.s2c --compare --quick --samples 4 --json {out}compared.json",
    "report tiny.s2c --input x.npz --target loihi2 --artifacts {out}made",
    "sensitivity {read}net.safetensors --bits 4 --samples 8 --json {out}bits.json",
    "map {read}net.s2c --json {out}map.json -o {out}mapped.s2c",
    "emit {read}net.s2c -o {out}package",
    "export tiny.s2c --to nir -o {out}tiny.nir",
    "export tiny.s2c --to netx -o {out}tiny.net",
)
PLACES = (
    {"read": "", "out": "", "workers": "", "shards": ""},
    {
        "read": "there/",
        "out": "there/other-",
        "workers": "--workers 2",
        "shards": "--workers 1 --shard 5 --partial kept",
    },
)
"""The same work: here, and by several workers in pieces, with other folders and names of what is written."""
READ = ("net.safetensors", "net.s2c")
JSONS = ("check.json", "report.json", "layers.csv.origin.json", "neurobench.json", "bits.json", "map.json")
FILES = (
    *(*READ, "fused.s2c", "trace.npz", *JSONS, "compared.json", "layers.csv"),
    *("mapped.s2c", "tiny.nir", "tiny.net"),
)
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
        (place / "there").mkdir(parents=True)
        (place / "recipe.toml").write_text(RECIPE)
        tiny(place / "tiny.s2c")
        lines = [line.format(**PLACES[number]) for line in LINES]
        environment = {**os.environ, "PYTHONHASHSEED": str(17 + number), "OMP_NUM_THREADS": "1"}
        children.append(
            subprocess.Popen([sys.executable, "-c", WORK.format(lines=lines)], cwd=place, env=environment,
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
    texts = []
    for place, words in zip(both, PLACES, strict=True):
        text = plain(place / (words["read" if name in READ else "out"] + name))
        if name == "report.json":
            text = {**json.loads(text), "versus": None}
            assert text["fidelity"] is not None
        texts.append(text)
    one, two = texts
    assert one == two


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def header(path: Path) -> Any:
    from safetensors import safe_open

    with safe_open(str(path), "np") as file:
        return json.loads(file.metadata()["snn2chip"])


def origin_in(path: Path) -> Any:
    """What a file says of itself, in its own way."""
    if path.suffix == ".npz":
        return json.loads(str(np.load(path)["origin"]))
    if path.suffix == ".s2c":
        meta = header(path)["meta"]
        return meta.get("mapped", meta["origin"])
    found = json.loads(path.read_text())
    return found.get("origin", found)


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

    used = load_data("digits", split="train")[0][:256]
    calibration = {"256 calibration samples of digits": samples_sha256(used)}
    compiled = header(place / "net.s2c")["meta"]
    assert compiled["origin"]["command"] == "snn2chip compile net.safetensors --golden 2"
    assert compiled["origin"]["inputs"] == {"net.safetensors": net, **calibration}
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

    read = {"net.s2c": s2c}
    assert listed["versions"] == inside["versions"]
    assert listed["inputs"] == inside["inputs"]
    for name, words in (
        ("trace.npz", "run net.s2c --samples 16 --record all"),
        ("made/inputs.npz", "report tiny.s2c --input x.npz --target loihi2"),
        ("made/expected.npz", "report tiny.s2c --input x.npz --target loihi2"),
        ("check.json", "check net.s2c --samples 8 --backends reference,torch"),
        ("map.json", "map net.s2c"),
        ("bits.json", "sensitivity net.safetensors --bits 4 --samples 8"),
        ("layers.csv.origin.json", told["command"].removeprefix("snn2chip ")),
        ("neurobench.json", told["command"].removeprefix("snn2chip ")),
        ("fused.s2c", "compile net.s2c --transform dead-channel"),
        ("mapped.s2c", "map net.s2c"),
    ):
        said = origin_in(place / name)
        assert said["command"] == f"snn2chip {words}", name
        assert said["versions"]["snn2chip"] == snn2chip.__version__
        wanted = read if "net.s2c" in words else {"net.safetensors": net}
        wanted = {"tiny.s2c": sha(place / "tiny.s2c")} if "tiny" in words else wanted
        assert said["inputs"] == ({**read, "net.safetensors": net} if "--float" in words else wanted), name
        if name.endswith(("trace.npz", "check.json", "map.json", "neurobench.json")):
            assert said["program"] == digest
    assert origin_in(place / "layers.csv.origin.json")["sha256"] == sha(place / "layers.csv")
    compared = json.loads((place / "compared.json").read_text())
    assert compared["a"]["provenance"]["inputs"] == compared["b"]["provenance"]["inputs"] == read

    for name, ending in (("nir", "nir"), ("netx", "net")):
        with h5py.File(place / f"tiny.{ending}", "r") as file:
            said = json.loads(file.attrs["snn2chip"])
        assert said["command"] == f"snn2chip export tiny.s2c --to {name}"
        assert said["versions"]["snn2chip"] == snn2chip.__version__
        assert said["inputs"] == {"tiny.s2c": sha(place / "tiny.s2c")}
        assert said["program"] == snn2chip.load(place / "tiny.s2c").digest()
        assert said["made_from"]["seed"] == 5


def test_the_command_without_places(tmp_path: Path) -> None:
    """What is made does not depend on where it lies, where it goes, nor on who does the work."""
    (tmp_path / "a.pt").write_bytes(b"abc")
    words = (
        f"/usr/bin/snn2chip compile {tmp_path / 'a.pt'} -o x.s2c --artifacts=dir --workers 2 --executor=dask --debug "
        f"--scheduler tcp://h:1 --address h --shard 3 --partial kept --input=/gone/x.npz --option mean={tmp_path}/m "
        "--logs made -oy.s2c --steps 4 --model my:net --device cpu"
    )
    try:
        begin(words.split())
        kept = "compile a.pt --input=x.npz --option mean=m --steps 4 --model my:net --device cpu"
        assert command() == f"snn2chip {kept}"
    finally:
        begin([])
    assert command() is None
    assert hashes(tmp_path / "a.pt", None, tmp_path) == {"a.pt": hashlib.sha256(b"abc").hexdigest()}


def test_what_a_verb_reads_is_not_named_by_the_next(program: Path, tmp_path: Path, invoke: Callable[..., str]) -> None:
    """A notebook and a service run many verbs in one process."""
    invoke("emit", program, "-o", tmp_path / "package")
    assert origin()["inputs"] == {}
    invoke("emit", program, "--lava-layout", "magic", "-o", tmp_path / "other", code=2)
    assert origin()["inputs"] == {}


def test_the_hash_of_samples() -> None:
    """Names, types, shapes and numbers count; the order in memory and of the names does not."""
    x = np.arange(24, dtype=np.int16).reshape(4, 6)
    same = [x, np.asfortranarray(x), {"x": x}]
    assert len({samples_sha256(value) for value in same}) == 1
    wanted = hashlib.sha256(b"x <i2 (4, 6) " + x.astype("<i2").tobytes()).hexdigest()
    assert samples_sha256(x) == wanted
    others = [x.astype(np.int32), x.reshape(6, 4), x + (x == 3), {"y": x}, {"x": x, "y": x[:0]}]
    assert len({wanted, *map(samples_sha256, others)}) == 1 + len(others)
    assert samples_sha256({"a": x, "b": -x}) == samples_sha256({"b": -x, "a": x})
