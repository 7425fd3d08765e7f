"""Damaged and hostile `.s2c` files: each raises one FileFormatError, and nothing else."""

from __future__ import annotations

import copy
import json
import pickle
import random
import resource
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from snn2chip.errors import FileFormatError
from snn2chip.ir import files
from snn2chip.ir.nodes import Host, HostOp, Input, Output, Product, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.registry import get_backend
from snn2chip.testing.programs import random_program


def rich_program() -> Program:
    """Every node kind, dense and sparse weights, a table, a window, a ladder, a host stem."""
    return Program(
        nodes=[
            Input("in", (2, 3, 3), 0, 15, coding="steps"),
            Host("host", (4,), 0, 15, sample_shape=(2,), ops=[HostOp(kind="linear", weight=np.ones((4, 2)))]),
            Synapse("conv", "conv2d", np.arange(-8, 8).reshape(2, 2, 2, 2), 5),
            Synapse("csr", "linear", np.diag([1, 2, 3, 4]), sparse=True),
            Soma("tabled", (2, 2, 2), fire="table", reset="drop", table=np.arange(256) % 7, out_max=7),
            Soma("mixed", (4,), theta=5, levels=3, window=np.ones((3, 3))),
            Synapse("flat", "linear", np.ones((4, 8)), 2),
            Soma("flatten", (4,), theta=np.array([[1, 2, 3, 4], [3, 4, 5, 6]]), levels=2, reset="drop"),
            Product("gate", shift=1),
            Soma("read", (4,), fire="none"),
            Output("out"),
        ],
        edges=[
            ("in", "conv"),
            ("conv", "tabled"),
            ("host", "csr"),
            ("csr", "mixed"),
            ("tabled", "flat", 1),
            ("flat", "flatten"),
            ("mixed", "gate"),
            ("flatten", "gate"),
            ("gate", "read"),
            ("read", "out"),
        ],
        steps=3,
        records=[{"node": "conv", "unit": 0.5}],
        meta={"name": "rich"},
    )


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "rich.s2c"
    files.write(path, rich_program())
    return path


def refused(path: Path) -> str:
    """The one error that reading `path` raises."""
    with pytest.raises(FileFormatError) as raised:
        files.read(path)
    assert str(path) in str(raised.value)
    return str(raised.value)


def taken_apart(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    with safe_open(str(path), framework="np") as file:
        header = json.loads((file.metadata() or {})["snn2chip"])
        return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def put_together(path: Path, header: Any, arrays: dict[str, Any]) -> Path:
    """A file with a sound checksum, so that what is inside is what is judged."""
    text = files.sealed(header, arrays) if isinstance(header, dict) else json.dumps(header)
    save_file(arrays, str(path), metadata={"snn2chip": text})
    return path


def test_the_sound_file_reads(sound: Path, tmp_path: Path) -> None:
    assert files.read(sound)[0].digest() == rich_program().digest()
    header, arrays = taken_apart(sound)
    assert files.read(put_together(tmp_path / "again.s2c", header, arrays))[0].digest() == rich_program().digest()


def test_truncated_at_every_64th_byte(sound: Path, tmp_path: Path) -> None:
    whole, path = sound.read_bytes(), tmp_path / "cut.s2c"
    for length in range(0, len(whole), 64):
        path.write_bytes(whole[:length])
        refused(path)
    path.write_bytes(whole + b"\0" * 64)
    refused(path)


def test_every_flipped_bit_is_found(sound: Path, tmp_path: Path) -> None:
    """One random bit of every seventh byte, header and data alike."""
    whole, path, rng = sound.read_bytes(), tmp_path / "flip.s2c", random.Random(3)
    for at in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << rng.randrange(8)
        path.write_bytes(bytes(damaged))
        refused(path)


def test_swapped_and_zeroed_blocks_are_found(sound: Path, tmp_path: Path) -> None:
    whole, path = sound.read_bytes(), tmp_path / "block.s2c"
    for start in range(0, len(whole) - 64, 256):
        block = whole[start : start + 64]
        if any(block):
            path.write_bytes(whole[:start] + bytes(64) + whole[start + 64 :])
            refused(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0",
        b"{}",
        b"not a program",
        pickle.dumps({"nodes": []}),
        pickle.dumps(rich_program().steps),
        b"PK\x03\x04" + bytes(100),
        bytes(8),
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 4) + b"\xff\xfe{}",
        bytes(range(256)) * 40,
    ],
    ids=lambda b: f"{len(b)} bytes {b[:6]!r}",
)
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.s2c"
    path.write_bytes(content)
    refused(path)


def test_a_pickle_is_not_executed(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "exploded",)

    for name, content in (("a.s2c", pickle.dumps(Bomb())), ("b.s2c", _npy(Bomb()))):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name)
    assert not (tmp_path / "exploded").exists()


def _npy(value: object) -> bytes:
    from io import BytesIO

    stream = BytesIO()
    np.save(stream, np.array([value], dtype=object), allow_pickle=True)
    return stream.getvalue()


def test_missing_file_and_folder(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "none.s2c")
    assert "is a folder" in refused(tmp_path)


def test_a_checkpoint_is_named_as_such(tmp_path: Path) -> None:
    save_file({"w": np.ones(3, np.float32)}, str(tmp_path / "w.s2c"))
    assert "not written by snn2chip" in refused(tmp_path / "w.s2c")
    put_together(tmp_path / "c.s2c", {"format": "checkpoint"}, {"w": np.ones(3, np.int8)})
    assert "compile" in refused(tmp_path / "c.s2c")


@pytest.mark.parametrize("version", [0, 4, 999, "1", None, 1.5, [1]])
def test_wrong_versions(version: Any, sound: Path, tmp_path: Path) -> None:
    header, arrays = taken_apart(sound)
    path = put_together(tmp_path / "v.s2c", {**header, "version": version}, arrays)
    assert "this snn2chip reads versions 1, 2 and 3" in refused(path)


Edit = Callable[[dict[str, Any], dict[str, Any]], Any]


def _node(header: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(n for n in header["nodes"] if n["name"] == name)
    return found


def _array(arrays: dict[str, Any], name: str, value: Any) -> None:
    assert name in arrays
    arrays[name] = np.ascontiguousarray(value)


HOSTILE: dict[str, Edit] = {
    "unknown field": lambda h, a: _node(h, "mixed").update(color="red"),
    "unknown node": lambda h, a: _node(h, "mixed").update(node="Neuron"),
    "node of another module": lambda h, a: _node(h, "mixed").update(node="os.system"),
    "no node class": lambda h, a: _node(h, "mixed").pop("node"),
    "no nodes": lambda h, a: h.pop("nodes"),
    "empty nodes": lambda h, a: h.update(nodes=[]),
    "nodes are a number": lambda h, a: h.update(nodes=7),
    "node is a list": lambda h, a: h["nodes"].append(["Input", "x"]),
    "node twice": lambda h, a: h["nodes"].append(h["nodes"][0]),
    "edge to nowhere": lambda h, a: h["edges"].append(["in", "nowhere", 0]),
    "edge of one": lambda h, a: h["edges"].append(["in"]),
    "edge of four": lambda h, a: h["edges"].append(["in", "conv", 0, 0]),
    "delay of text": lambda h, a: h["edges"][0].__setitem__(2, "1"),
    "negative delay": lambda h, a: h["edges"][0].__setitem__(2, -1),
    "half a delay": lambda h, a: h["edges"][0].__setitem__(2, 0.5),
    "loop without delay": lambda h, a: h["edges"].extend([["flatten", "flat", 0]]),
    "no steps": lambda h, a: h.pop("steps"),
    "steps of text": lambda h, a: h.update(steps="3"),
    "no steps at all": lambda h, a: h.update(steps=0),
    "steps as a truth": lambda h, a: h.update(steps=True),
    "steps beyond reason": lambda h, a: h.update(steps=10**12),
    "meta is a number": lambda h, a: h.update(meta=5),
    "records are a number": lambda h, a: h.update(records=5),
    "records of numbers": lambda h, a: h.update(records=[1, 2]),
    "target is a list": lambda h, a: h.update(target=["loihi2"]),
    "huge declared input": lambda h, a: _node(h, "in").update(shape=[1 << 40, 1, 1]),
    "huge declared soma": lambda h, a: _node(h, "mixed").update(shape=[1 << 62]),
    "overflowing shape": lambda h, a: _node(h, "in").update(shape=[1 << 32, 1 << 32, 1 << 32]),
    "negative shape": lambda h, a: _node(h, "in").update(shape=[-2, 3, 3]),
    "shape of text": lambda h, a: _node(h, "mixed").update(shape="4"),
    "endless number": lambda h, a: _node(h, "mixed").update(theta=10**400),
    "not a number": lambda h, a: _node(h, "in").update(scale=None),
    "scale of text": lambda h, a: _node(h, "in").update(scale="big"),
    "negative scale": lambda h, a: _node(h, "in").update(scale=-1.0),
    "theta of text": lambda h, a: _node(h, "mixed").update(theta="five"),
    "theta of nothing": lambda h, a: _node(h, "mixed").update(theta=None),
    "half a theta": lambda h, a: _node(h, "mixed").update(theta=2.5),
    "array that is absent": lambda h, a: _node(h, "mixed").update(theta={"array": "absent"}),
    "array by number": lambda h, a: _node(h, "mixed").update(theta={"array": 5}),
    "array of arrays": lambda h, a: _node(h, "mixed").update(theta={"array": ["x"]}),
    "wrong dtype float": lambda h, a: _array(a, "conv/weight", a["conv/weight"].astype(np.float32)),
    "wrong dtype bool": lambda h, a: _array(a, "conv/weight", a["conv/weight"] > 0),
    "wrong shape": lambda h, a: _array(a, "conv/weight", a["conv/weight"].reshape(2, 2, 4, 1)),
    "flat weight": lambda h, a: _array(a, "flat/weight", a["flat/weight"].ravel()),
    "weights too wide": lambda h, a: _array(a, "conv/weight", a["conv/weight"].astype(np.int16) * 100),
    "window too wide": lambda h, a: _array(a, "mixed/window", np.full((3, 3), 1 << 20)),
    "window not square": lambda h, a: _array(a, "mixed/window", np.ones((3, 2), np.int8)),
    "table too short": lambda h, a: _array(a, "tabled/table", a["tabled/table"][:255]),
    "falling ladder": lambda h, a: _array(a, "flatten/theta", a["flatten/theta"][::-1]),
    "no such fire": lambda h, a: _node(h, "mixed").update(fire="always"),
    "fire is a list": lambda h, a: _node(h, "mixed").update(fire=["levels"]),
    "no such kind": lambda h, a: _node(h, "conv").update(kind="fft"),
    "no such coding": lambda h, a: _node(h, "in").update(coding="poisson"),
    "no such read": lambda h, a: _node(h, "out").update(read="argmax"),
    "bits of text": lambda h, a: _node(h, "conv").update(bits="eight"),
    "bits of a list": lambda h, a: _node(h, "conv").update(bits=[8]),
    "sign of a list": lambda h, a: _node(h, "conv").update(sign=["mixed"]),
    "sparse of text": lambda h, a: _node(h, "conv").update(sparse="yes"),
    "stride of nothing": lambda h, a: _node(h, "conv").update(stride=[0, 0]),
    "padding without end": lambda h, a: _node(h, "conv").update(padding=[10**30, 0]),
    "large padding": lambda h, a: _node(h, "conv").update(padding=[1 << 40, 1 << 40]),
    "three strides": lambda h, a: _node(h, "conv").update(stride=[1, 1, 1]),
    "no groups": lambda h, a: _node(h, "conv").update(groups=0),
    "exponent below zero": lambda h, a: _node(h, "conv").update(exponent=-1),
    "layer is a list": lambda h, a: _node(h, "conv").update(layer=[1]),
    "name with a slash": lambda h, a: _node(h, "in").update(name="../../etc/passwd"),
    "name is a number": lambda h, a: _node(h, "in").update(name=5),
    "csr one row short": lambda h, a: _array(a, "csr/weight.indptr", a["csr/weight.indptr"][:-1]),
    "csr falling rows": lambda h, a: _array(a, "csr/weight.indptr", np.array([0, 3, 1, 3, 4], np.int8)),
    "csr column beyond": lambda h, a: _array(a, "csr/weight.indices", np.array([0, 1, 2, 4], np.int8)),
    "csr column below": lambda h, a: _array(a, "csr/weight.indices", np.array([0, -1, 2, 3], np.int8)),
    "csr fewer values": lambda h, a: _array(a, "csr/weight.data", a["csr/weight.data"][:-1]),
    "csr values in 2-D": lambda h, a: _array(a, "csr/weight.data", a["csr/weight.data"].reshape(2, 2)),
    "csr empty pointer": lambda h, a: _array(a, "csr/weight.indptr", np.zeros(0, np.int8)),
    "csr huge shape": lambda h, a: _node(h, "csr").update(weight={"csr": "csr/weight", "shape": [4, 1 << 40]}),
    "csr of three axes": lambda h, a: _node(h, "csr").update(weight={"csr": "csr/weight", "shape": [4, 4, 1]}),
    "csr negative shape": lambda h, a: _node(h, "csr").update(weight={"csr": "csr/weight", "shape": [4, -4]}),
    "csr that is absent": lambda h, a: _node(h, "csr").update(weight={"csr": "absent", "shape": [4, 4]}),
    "host of no kind": lambda h, a: _node(h, "host")["ops"][0].update(kind="eval"),
    "host with a field": lambda h, a: _node(h, "host")["ops"][0].update(code="1"),
    "host without weight": lambda h, a: _node(h, "host")["ops"][0].update(weight=None),
    "host shift of text": lambda h, a: _node(h, "host")["ops"].append({"kind": "rescale", "shift": "x"}),
    "host shift below zero": lambda h, a: _node(h, "host")["ops"].append({"kind": "rescale", "shift": -3}),
    "host shift too far": lambda h, a: _node(h, "host")["ops"].append({"kind": "rescale", "shift": 99}),
    "host pool of nothing": lambda h, a: _node(h, "host")["ops"].append({"kind": "maxpool", "stride": [0, 0]}),
    "host is not a list": lambda h, a: _node(h, "host").update(ops=3),
    "host of numbers": lambda h, a: _node(h, "host").update(ops=[1]),
}


def shown(header: dict[str, Any], arrays: dict[str, Any]) -> Any:
    return json.dumps(header, sort_keys=True), {k: (v.shape, v.dtype, v.tobytes()) for k, v in arrays.items()}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_contents(name: str, sound: Path, tmp_path: Path) -> None:
    header, arrays = taken_apart(sound)
    before = shown(header, arrays)
    HOSTILE[name](header, arrays)
    assert shown(header, arrays) != before
    refused(put_together(tmp_path / "h.s2c", header, arrays))


@pytest.mark.parametrize("header", [[], 5, "text", None, {}, {"format": "s2c"}, {"format": "s2c", "version": 1}])
def test_hostile_headers(header: Any, tmp_path: Path) -> None:
    refused(put_together(tmp_path / "h.s2c", header, {"x": np.ones(1, np.int8)}))


def test_deeply_nested_header(tmp_path: Path) -> None:
    save_file({"x": np.ones(1, np.int8)}, str(tmp_path / "d.s2c"), metadata={"snn2chip": "[" * 100_000})
    refused(tmp_path / "d.s2c")


def test_nothing_large_is_allocated(sound: Path, tmp_path: Path) -> None:
    """A small file that declares enormous layers costs no memory to refuse or to read."""
    header, arrays = taken_apart(sound)
    _node(header, "conv").update(padding=[1 << 14, 1 << 14])
    _node(header, "tabled").update(shape=[2, (1 << 15) + 2, (1 << 15) + 2])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(put_together(tmp_path / "big.s2c", header, arrays))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


VALUES: tuple[Any, ...] = (None, True, -1, 0, 1, 2**31, 2**63, 1e300, 0.5, "", "x", [], [1], {}, {"array": "x"})


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += places(item, (*path, key))
    return found


def test_any_value_replaced_is_refused_or_still_a_program(sound: Path, tmp_path: Path) -> None:
    """Fuzz the header: each place gets hostile values; what still reads must run, print and be written again."""
    header, arrays = taken_apart(sound)
    header.pop("sha256")
    rng, path, still = random.Random(5), tmp_path / "fuzz.s2c", 0
    for place in places(header):
        changed = copy.deepcopy(header)
        at: Any = changed
        for key in place[:-1]:
            at = at[key]
        at[place[-1]] = rng.choice(VALUES)
        put_together(path, changed, arrays)
        try:
            program = files.read(path)[0]
        except FileFormatError:
            continue
        still += 1
        assert program.text()
        assert program.name
        coded = {n.name: np.zeros((program.steps, 1, *n.shape), np.int64) for n in program.inputs}
        get_backend("reference").run(program, coded)
        files.write(tmp_path / "again.s2c", program)
        assert files.read(tmp_path / "again.s2c")[0].digest() == program.digest()
    assert still > 20


def test_writing_is_all_or_nothing(tmp_path: Path) -> None:
    """A program whose notes are no JSON leaves the old file as it was."""
    path = tmp_path / "a.s2c"
    files.write(path, rich_program())
    before = path.read_bytes()
    program = random_program(3).program
    for notes in ({"x": float("nan")}, {"x": object()}):
        bad = Program(nodes=program.nodes, edges=program.edges, steps=program.steps, meta=notes)
        with pytest.raises(FileFormatError, match="plain JSON"):
            files.write(path, bad)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.s2c"]


def test_renaming_keeps_the_file_mode(tmp_path: Path) -> None:
    files.write(tmp_path / "a.s2c", rich_program())
    (tmp_path / "plain").touch()
    assert (tmp_path / "a.s2c").stat().st_mode == (tmp_path / "plain").stat().st_mode
