"""Files of finished shards: whatever is in them, the result is that of the samples, or the shard runs again."""

from __future__ import annotations

import io
import json
import tracemalloc
import zipfile

import numpy as np
import pytest
from numpy.lib import format as npy
from shard_jobs import Around, Sums

from snn2chip.errors import FileFormatError
from snn2chip.shards.gather import gather
from snn2chip.shards.partial import Partial
from snn2chip.shards.plan import Shard
from snn2chip.shards.trees import pack, seal, unpack
from snn2chip.shards.workers import Workers

SHARD = 30


def kept(folder):
    """The folder of `Sums`, all its shards stored."""
    list(gather(Sums(), Workers(shard=SHARD, partial=folder)))
    return Partial.of(folder, Sums().identity(), Sums.fields)


def again(folder, log):
    """Samples in the results of a second call, and how many shards ran for it."""
    counted = Around(Sums(), "none", str(log))
    trees = [tree for _, tree in gather(counted, Workers(shard=SHARD, partial=folder))]
    assert sum(tree["sum"] for tree in trees) == 150 * 149 // 2
    return [i for tree in trees for i in tree["samples"]], counted.ran()


def archive(**members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return stream.getvalue()


def array(x=b"", *, shape=None):
    """The bytes of a `.npy` file, which may declare another shape."""
    stream = io.BytesIO()
    x = np.frombuffer(x, np.uint8)
    npy.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape or x.shape})
    return stream.getvalue() + x.tobytes()


def text(words, **more):
    return archive(**{"tree.npy": array(words.encode()), **more})


def encrypted():
    """One bit of a sound archive: members are said to be encrypted."""
    data = bytearray(pack({"samples": [0], "sum": 0}))
    data[data.index(b"PK\1\2") + 8] ^= 1
    return bytes(data)


HOSTILE = {
    "nothing": b"",
    "a bare array": array(b"123"),
    "no npy": archive(tree="hello"),
    "no npy in npy": archive(**{"tree.npy": "hello"}),
    "10^12 numbers": archive(**{"tree.npy": array(b"xx", shape=(10**12,))}),
    "10^12 numbers in a result": text(
        json.dumps({"samples": {"$array": ["a0", "uint8"]}, "sum": 0}), **{"a0.npy": array(b"xx", shape=(10**12,))}
    ),
    "a list": text("[1, 2]"),
    "other names": text('{"a": 1}'),
    "no names": text("{}"),
    "nested": text("[" * 100_000),
    "nested and closed": text("[" * 100_000 + "]" * 100_000),
    "no text": archive(**{"tree.npy": array(b"\xff\xfe")}),
    "objects": text(json.dumps({"samples": {"$array": ["a0", "O"]}, "sum": 0}), **{"a0.npy": array(b"12345678")}),
    "wide texts": text(json.dumps({"samples": {"$array": ["a0", "U99999999"]}, "sum": 0}), **{"a0.npy": array(b"1")}),
    "no array": text('{"samples": {"$array": 3}, "sum": 0}'),
    "encrypted": encrypted(),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_cannot_be_read_runs_again(tmp_path, name):
    """As it is, and sealed as if it had been written so."""
    part = kept(tmp_path / "kept")
    for data in (HOSTILE[name], seal(HOSTILE[name], part.mark(30, 60)) if HOSTILE[name] else b"\0"):
        part.path(30, 60).write_bytes(data)
        tracemalloc.start()
        with pytest.raises(FileFormatError):
            part.opened(30, 60)
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
        tracemalloc.stop()
        assert again(tmp_path / "kept", tmp_path / f"log{len(data)}") == (list(range(150)), 1)
        assert part.opened(30, 60) == {"samples": list(range(30, 60)), "sum": sum(range(30, 60))}


def test_every_flipped_bit_is_seen(tmp_path):
    part = kept(tmp_path / "kept")
    path = part.path(0, 30)
    data = path.read_bytes()
    for bit in range(0, 8 * len(data), 37):
        bad = bytearray(data)
        bad[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bytes(bad))
        assert part.read(0, 30) is None
    path.write_bytes(data)
    assert part.read(0, 30) is not None


def test_a_file_in_the_place_of_another_runs_again(tmp_path):
    """Of other samples, of other work: their bytes are sound, but not what this place holds."""
    part = kept(tmp_path / "kept")
    part.path(60, 90).write_bytes(part.path(0, 30).read_bytes())
    other = Partial.of(tmp_path / "kept", {"sums": "others"})
    other.write(Shard(0, 90, 120), pack({"samples": [1], "sum": 1}))
    part.path(90, 120).write_bytes(other.path(90, 120).read_bytes())
    assert again(tmp_path / "kept", tmp_path / "log") == (list(range(150)), 2)


def test_a_stored_file_is_an_archive_of_arrays_still(tmp_path):
    part = kept(tmp_path / "kept")
    with np.load(part.path(0, 30)) as file:
        assert file.files == ["tree"]
    assert unpack(part.path(0, 30).read_bytes())["sum"] == sum(range(30))
