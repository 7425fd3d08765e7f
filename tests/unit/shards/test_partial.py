"""Files of finished shards: whatever is in them, the result is that of the samples, or the shard runs again."""

from __future__ import annotations

import io
import json
import time
import tracemalloc
import warnings
import zipfile

import attrs
import numpy as np
import pytest
from numpy.lib import format as npy
from shard_jobs import Around, Sums

from snn2chip.errors import FileFormatError, InputError, WriteFailure
from snn2chip.shards import pool
from snn2chip.shards.checking import CheckJob
from snn2chip.shards.gather import gather
from snn2chip.shards.guarded import call
from snn2chip.shards.measuring import FloatFile, MeasureJob
from snn2chip.shards.opened import Engine, NamedFile
from snn2chip.shards.partial import Partial
from snn2chip.shards.plan import Shard, cut
from snn2chip.shards.running import RunJob
from snn2chip.shards.trees import pack, seal, unpack
from snn2chip.shards.workers import Pool, Workers
from snn2chip.sources import source_digest

SHARD = 30
THREADS = Pool(lanes=2, backend="threading", options={})


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


def test_stored_shards_are_read_when_their_turn_comes(tmp_path, monkeypatch):
    kept(tmp_path / "kept")
    read, whole = [], Partial.read
    monkeypatch.setattr(Partial, "read", lambda self, a, b: read.append(a) or whole(self, a, b))
    trees = gather(Sums(), Workers(shard=SHARD, partial=tmp_path / "kept"))
    for count in range(1, 6):
        next(trees)
        assert read == [0, 30, 60, 90, 120][:count]


@pytest.mark.parametrize("workers", [None, THREADS])
def test_shards_damaged_meanwhile_run_beside_those_that_never_ran(tmp_path, workers):
    """Damage is found at a turn, in the middle of the others' results, and all of it at once."""
    part = kept(tmp_path / "kept")
    part.path(60, 90).unlink()
    counted = Around(Sums(), "none", str(tmp_path / "log"))
    moved = []
    shards = cut(150, size=SHARD)
    trees = pool.results(counted, shards, workers, partial=part, advance=moved.append)
    found = [next(trees)[1]]
    for start in (30, 90, 120):
        part.path(start, start + 30).write_bytes(b"PK")
    found += [tree for _, tree in trees]
    assert [i for tree in found for i in tree["samples"]] == list(range(150))
    assert sorted(map(int, (tmp_path / "log").read_text().split())) == [1, 2, 3, 4]
    assert sum(moved) == 150
    assert all(part.read(s.start, s.stop) is not None for s in shards)


def test_results_that_come_early_wait_on_the_disk(tmp_path, monkeypatch):
    """The first shard ends last: the others are in their files until their turn, and one that is lost runs again."""
    part = Partial.of(tmp_path / "kept", Sums().identity(), Sums.fields)
    counted = Around(Sums(), "none", str(tmp_path / "log"))
    held, whole = [], pool.unpack
    monkeypatch.setattr(pool, "unpack", lambda data: held.append(whole(data)["samples"][0]) or whole(data))
    monkeypatch.setattr(pool, "_outcomes", lambda job, shards, pool: (call(job, s) for s in reversed(shards)))
    trees = pool.results(counted, cut(150, size=SHARD), None, partial=part, advance=None)
    assert next(trees)[0].start == 0
    assert held == [0]
    part.path(90, 120).unlink()
    assert [tree["samples"][0] for _, tree in trees] == [30, 60, 90, 120]
    assert (counted.ran(3), counted.ran()) == (2, 6)


def test_a_call_that_ends_early_says_nothing_of_its_own_machinery(tmp_path, capfd):
    """Neither when it is left nor when the disk takes nothing more: no advice of joblib's, no warning."""

    class Full(Partial):
        def write(self, shard, data):
            time.sleep(0.3)  # others end meanwhile
            raise WriteFailure("full")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trees = pool.results(Sums(), cut(150, size=5), THREADS, advance=None)
        next(trees)
        time.sleep(0.3)
        trees.close()
        with pytest.raises(WriteFailure, match="full"):
            list(pool.results(Sums(), cut(150, size=5), THREADS, partial=Full(tmp_path), advance=None))
    assert capfd.readouterr() == ("", "")


def test_no_more_processes_than_shards_or_than_the_machine_can_hold(monkeypatch):
    import joblib

    asked, config = [], joblib.parallel_config

    def noted(n_jobs, **more):
        asked.append(n_jobs)
        return config(n_jobs=n_jobs, **more)

    monkeypatch.setattr(joblib, "parallel_config", noted)
    for size, lanes in ((30, 12), (10, 12), (150, 12), (10, 3)):
        list(pool.results(Sums(), cut(150, size=size), attrs.evolve(THREADS, lanes=lanes), advance=None))
    assert asked == [5, 12, 2, 3]
    monkeypatch.setattr(joblib, "cpu_count", lambda: 6)
    assert Workers(count=24).count == 24
    for given in ({}, {"executor": "ray"}):
        with pytest.raises(InputError, match=r"at most 24 on this machine \(4 for each of its processors\), got 25"):
            Workers(count=25, **given)
    assert Workers(count=4096, executor="dask", address="tcp://a:1").count == 4096
    assert Workers(count=4096, executor="ray", address="a:1").count == 4096


def test_results_of_other_code_are_not_taken(tmp_path, monkeypatch, small, words):
    """The key changes with this program's sources, Python, packages, a user's network and a backend of others."""
    from importlib.metadata import EntryPoint

    from snn2chip import registry
    from snn2chip.shards import partial

    def key(job):
        source_digest.cache_clear()
        return Partial.of(tmp_path / "kept", job.identity()).folder.name

    def changed(job, *places):
        before = key(job)
        with monkeypatch.context() as patch:
            for owner, name, value in places:
                patch.setattr(owner, name, value)
            return key(job) != before

    whole = partial.versions
    assert not changed(Sums())
    assert changed(Sums(), (partial, "source_digest", lambda: "another"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mybackend.py").write_text("")
    (tmp_path / "mynet.py").write_text("")
    for package in ("python", "torch", "numpy", "lava-nc", "lava-dl", "numba"):
        assert changed(Sums(), (partial, "versions", lambda asked, package=package: {**whole(asked), package: "0"}))
        assert package == "python" or package in partial.PACKAGES
    entry = EntryPoint(name="mine", value="mybackend:Backend", group=registry.GROUP)
    monkeypatch.setattr(registry, "_entries", lambda: {"mine": entry})
    mine = RunJob(**words, engine=Engine("mine"))
    checked = CheckJob(**words, engines=(Engine("torch"), Engine("mine")))
    measured = MeasureJob(
        **words, counting=None, float_file=FloatFile(file=NamedFile.of(small.checkpoint), model="mynet:make")
    )
    for job, file in ((mine, "mybackend.py"), (checked, "mybackend.py"), (measured, "mynet.py")):
        before = key(job)
        (tmp_path / file).write_text((tmp_path / file).read_text() + "x = 1\n")
        assert key(job) != before
    source_digest.cache_clear()


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file" / "kept", tmp_path / ("x" * 300)):
        with pytest.raises(WriteFailure, match=r": cannot be written \(.*\); nothing was written"):
            list(gather(Sums(), Workers(partial=folder)))
    with pytest.raises(InputError, match="is a file; name a folder"):
        list(gather(Sums(), Workers(partial=tmp_path / "file")))
