"""What is written is whole at every moment, whoever writes beside it, is killed in it or has left something."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from snn2chip.errors import InputError, WriteFailure
from snn2chip.writing import SUFFIX, check_writable, replacing, replacing_tree, write_text

fcntl = pytest.importorskip("fcntl", reason="locks need Linux or macOS")


def anything(folder: Path) -> None:
    """Every folder may be replaced."""


def put(folder: Path, text: str, check: Callable[[Path], None] = anything) -> None:
    with replacing_tree(folder, check=check) as part:
        for name in "abc":
            (part / name).write_text(text)


def content(folder: Path) -> set[str]:
    assert sorted(p.name for p in folder.iterdir()) == list("abc")
    return {p.read_text() for p in folder.iterdir()}


@pytest.fixture(params=["exchange", "renames"])
def ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to put a folder in the place of another."""
    if request.param == "renames":
        monkeypatch.setattr("snn2chip.writing._exchange", lambda a, b: False)
    return str(request.param)


def test_folders_replace_each_other(tmp_path: Path, ways: str) -> None:
    for text in ("first", "second"):
        put(tmp_path / "f", text)
        assert content(tmp_path / "f") == {text}
    (tmp_path / "empty").mkdir()
    put(tmp_path / "empty", "third")
    assert {p.name for p in tmp_path.iterdir()} == {"f", "empty"}


def test_what_a_dead_process_left_goes_and_what_a_living_one_holds_stays(tmp_path: Path) -> None:
    dead, alive = (tmp_path / f".f.{name}{SUFFIX}" for name in ("deadbee1", "alive_11"))
    others = [tmp_path / name for name in (f".f.x{SUFFIX}", f".f.g.abcdefgh{SUFFIX}", ".f.abcdefgh.part", "f.bak")]
    for folder in (dead, alive, *others):
        folder.mkdir()
        (folder / "f").write_text("half")
    lock = os.open(alive, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        write_text(tmp_path / "f", "whole")
    finally:
        os.close(lock)
    assert {p.name for p in tmp_path.iterdir()} == {"f", alive.name, *(p.name for p in others)}
    put(tmp_path / "f.g", "whole")
    assert not others[1].exists()


KILLED = """
import os, signal, sys
from pathlib import Path
import snn2chip.writing as writing
writing._exchange = lambda a, b: False
rename = os.rename
def dies(source, to):
    rename(source, to)
    if Path(to).parent.name == "old":
        os.kill(os.getpid(), signal.SIGKILL)
os.rename = dies
with writing.replacing_tree(sys.argv[1], check=lambda folder: None) as part:
    (part / "a").write_text("second")
"""


@pytest.mark.parametrize("fails", [False, True])
def test_killed_between_two_renames_the_earlier_folder_returns(tmp_path: Path, fails: bool) -> None:
    """Where names cannot be exchanged there is a moment without any folder: the next writer brings it back."""
    target = tmp_path / "f"
    put(target, "first")
    done = subprocess.run([sys.executable, "-c", KILLED, str(target)], check=False)
    assert done.returncode == -9
    assert not target.exists()

    def write() -> None:
        with replacing_tree(target, check=anything) as part:
            assert content(target) == {"first"}
            for name in "abc":
                (part / name).write_text("third")
            if fails:
                raise RuntimeError

    if fails:
        with pytest.raises(RuntimeError):
            write()
    else:
        write()
    assert content(target) == {"first" if fails else "third"}
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_a_file_that_came_in_the_last_moment_is_not_deleted(tmp_path: Path, ways: str) -> None:
    target = tmp_path / "f"
    put(target, "first")
    asked = []

    def check(folder: Path) -> None:
        asked.append(folder)
        if len(asked) == 2:
            (folder / "mine").write_text("years of work")
        elif (folder / "mine").exists():
            raise InputError("there is something of yours")

    with pytest.raises(InputError, match="something of yours"):
        put(target, "second", check)
    assert (target / "mine").read_text() == "years of work"
    assert (target / "a").read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


WRITER = """
import sys
from pathlib import Path
from snn2chip.writing import replacing_tree, write_text
folder, text = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for turn in range(60):
    write_text(folder / "file", f"{text}{turn} " * 2000)
    with replacing_tree(folder / "tree", check=lambda folder: None) as part:
        for name in "abc":
            (part / name).write_text(f"{text}{turn}")
"""


def test_writers_at_the_same_time_and_the_last_one_stays(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "old " * 2000)
    put(tmp_path / "tree", "old")
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    writers = [subprocess.Popen([*command, text], **pipes) for text in "xyz"]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    seen = set()
    while any(writer.poll() is None for writer in writers):
        words = (tmp_path / "file").read_text().split()
        assert len(words) == 2000
        assert len(set(words)) == 1
        seen.add(words[0])
        assert (tmp_path / "tree").is_dir()  # there is never a moment without one
    assert [writer.communicate() and writer.returncode for writer in writers] == [0, 0, 0]
    assert len(seen) > 1
    (last,) = content(tmp_path / "tree")
    assert last in {"x59", "y59", "z59"}
    assert {p.name for p in tmp_path.iterdir()} == {"file", "tree"}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_a_disk_that_refuses_is_a_write_failure_that_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (tmp_path / "f").write_text("old")

    def refuses(path: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("snn2chip.writing._sync", refuses)
    with pytest.raises(WriteFailure) as caught:
        write_text(tmp_path / "f", "new")
    assert str(caught.value) == (
        f"{tmp_path / 'f'}: cannot be written ({os.strerror(number)}); nothing was written, "
        "what was there before is unchanged"
    )
    assert caught.value.exit_code == 3
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("f", "old")]


def test_what_cannot_be_written_is_known_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(WriteFailure, match=r"Not a directory|File exists"):
        check_writable(tmp_path / "file" / "f")
    check_writable(tmp_path / "new" / "f")
    assert list((tmp_path / "new").iterdir()) == []
    with pytest.raises(WriteFailure, match="name too long"):
        check_writable(tmp_path / ("x" * 250))


def test_a_file_of_somebody_else_has_no_part_in_a_folders_failure(tmp_path: Path) -> None:
    """Reading goes wrong inside the block, too: that error speaks for itself."""
    with pytest.raises(FileNotFoundError), replacing_tree(tmp_path / "f", check=anything):
        (tmp_path / "nowhere").read_text()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(WriteFailure, match="No space"), replacing_tree(tmp_path / "f", check=anything):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_modes_are_those_of_a_plain_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with replacing(tmp_path / "f") as part:
            part.write_text("x")
            part.chmod(0o600)
        put(tmp_path / "d", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "d").stat().st_mode & 0o777 == 0o750


HDF5 = """
import resource, sys
import h5py, numpy as np
from snn2chip.interop.nir_write import write_nir
resource.setrlimit(resource.RLIMIT_FSIZE, (100, -1))
try:
    write_nir(sys.argv[1], {"a": {"type": "Input", "weight": np.arange(100_000.0)}}, [])
except OSError as error:
    print(error)
"""


def test_a_full_disk_under_an_hdf5_file_is_no_crash(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    done = subprocess.run(
        [sys.executable, "-c", HDF5, str(tmp_path / "x.nir")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == f"{tmp_path / 'x.nir'}: cannot be written (File too large); nothing was written"
    assert list(tmp_path.iterdir()) == []


def test_a_pipe_is_no_file_to_write() -> None:
    """Also where its name leads to none, as /dev/stdout does before a pipe."""
    reading, writing = os.pipe()
    try:
        with pytest.raises(InputError, match="is not a regular file"):
            write_text(f"/proc/self/fd/{writing}", "x")
    finally:
        os.close(reading)
        os.close(writing)
