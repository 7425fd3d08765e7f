"""The one way in which files and folders are written: beside their place, and renamed when they are whole.

    .NAME.RANDOM.snn2chip-part/NAME        what is being written to NAME
    .NAME.RANDOM.snn2chip-part/old/NAME    the folder that it replaces, where a file system cannot exchange two names

At every moment NAME is the earlier file or folder or the new one, whole. A process that is killed leaves its workspace;
the next one that writes NAME removes it. Who writes holds a lock on its workspace, so that two processes may write one
NAME at the same time: each result is whole, and the last one stays.
"""

from __future__ import annotations

import ctypes
import errno
import io
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from snn2chip.errors import InputError, WriteFailure

try:
    import fcntl
except ImportError:  # no locks on this system: what others left is not removed
    fcntl = None  # type: ignore[assignment]

SUFFIX = ".snn2chip-part"
_WORKSPACE = re.compile(rf"\.(.+)\.[a-z0-9_]{{8}}{re.escape(SUFFIX)}", re.DOTALL)
OLD = "old"
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST)
_TRIES = 100


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a path of the same name in a folder beside `path`; it takes the place of `path` if the block succeeds.

    Raises InputError for what is no regular file, WriteFailure where the disk does not take it.
    """
    given = Path(path)
    target = given.resolve()  # a link stays a link; what it points to is replaced
    if given.exists() and not given.is_file():
        raise InputError(f"{path}: is not a regular file; name a file to write")
    with _told(path, everything=True), _workspace(target) as space:
        part = space / target.name
        yield part
        os.chmod(part, _mode(space))  # some writers keep their files to themselves
        _sync(part)
        os.replace(part, target)
        _sync(target.parent)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file whole or not at all (see `replacing`)."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_npz(path: str | os.PathLike[str], arrays: Mapping[str, Any]) -> None:
    """Write a compressed `.npz` file whole or not at all (see `replacing`)."""
    with replacing(path) as part:
        put_npz(part, arrays)


def put_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write a compressed `.npz` file in place; made in memory, since an archive on a full disk complains twice."""
    import numpy as np

    image = io.BytesIO()
    np.savez_compressed(image, **arrays)
    path.write_bytes(image.getbuffer())


@contextmanager
def replacing_tree(path: str | os.PathLike[str], *, check: Callable[[Path], None]) -> Iterator[Path]:
    """Yield an empty folder beside `path` that takes that name if the block succeeds; the one before is deleted.

    `check` raises for a folder that must not be replaced; it is asked before the block and about what was replaced.
    Raises WriteFailure where the disk does not take it, and what `check` raises.
    """
    target = Path(path).resolve()
    check(target)
    with _told(path, everything=False), _workspace(target) as space:
        part = space / target.name
        os.mkdir(part)
        yield part
        for file in sorted(part.rglob("*")):
            _sync(file)
        check(target)
        _put(part, target, check)
        _sync(target.parent)


def make_folder(path: str | os.PathLike[str]) -> None:
    """Make a folder and those above it, where there are none; WriteFailure where the disk does not take it."""
    with _told(path, everything=True):
        os.makedirs(path, exist_ok=True)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise WriteFailure now if nothing can be written to `path`, before the work whose result it would be."""
    with _told(path, everything=True), _workspace(Path(path).resolve()):
        pass


@contextmanager
def _told(path: str | os.PathLike[str], *, everything: bool) -> Iterator[None]:
    """Turn what a disk answers into WriteFailure; without `everything` only what can be no other file's fault."""
    try:
        yield
    except WriteFailure:
        raise
    except OSError as error:
        if not everything and error.errno not in NO_ROOM:
            raise
        raise WriteFailure(_words(path, error.strerror or str(error))) from error
    except Exception as error:
        if type(error).__name__ != "SafetensorError":
            raise
        raise WriteFailure(_words(path, str(error))) from error


def _words(path: str | os.PathLike[str], why: str) -> str:
    there = ", what was there before is unchanged" if os.path.lexists(path) else ""
    return f"{os.fspath(path)}: cannot be written ({why}); nothing was written{there}"


@contextmanager
def _workspace(target: Path) -> Iterator[Path]:
    """A locked folder beside `target`, removed at the end; what killed processes left goes first."""
    target.parent.mkdir(parents=True, exist_ok=True)
    clean_folder(target.parent, only=target.name)
    for _ in range(_TRIES):
        space = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=SUFFIX, dir=target.parent))
        lock = _lock(space, wait=True)
        if _is(space, lock):  # else somebody removed it between the two lines before
            break
        if lock is not None:
            os.close(lock)
    try:
        yield space
    finally:
        _remove(space, target)
        if lock is not None:
            os.close(lock)


def _mode(space: Path) -> int:
    """The mode of a new file here: what the umask leaves, without changing it for other threads."""
    descriptor = os.open(space / "mode", os.O_CREAT | os.O_WRONLY, 0o666)
    try:
        return stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)


def _is(space: Path, lock: int | None) -> bool:
    try:
        there = os.stat(space)
    except FileNotFoundError:
        return False
    return lock is None or os.path.samestat(there, os.fstat(lock))


def _lock(space: Path, *, wait: bool) -> int | None:
    """An open, locked descriptor of a workspace; None where another process holds it or there are no locks."""
    if fcntl is None:
        return None
    try:
        descriptor = os.open(space, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def clean_folder(folder: Path, *, only: str | None = None) -> None:
    """Remove workspaces of dead processes (`only` those of one name) from a folder.

    A folder that one had moved away without putting another in its place returns.
    """
    for entry in os.listdir(folder):
        found = _WORKSPACE.fullmatch(entry)
        if found is None or only not in (None, found[1]):
            continue
        space = folder / entry
        lock = _lock(space, wait=False)
        if lock is None:
            continue
        _remove(space, folder / found[1])
        os.close(lock)


def _remove(space: Path, target: Path) -> None:
    """Delete a workspace; a folder that was moved into it without another in its place returns."""
    old = space / OLD
    if (old / target.name).exists():
        if not os.path.lexists(target):
            with suppress(OSError):  # another process was quicker
                os.rename(old / target.name, target)
        else:
            os.rename(old, Path(tempfile.mkdtemp(dir=space)) / OLD)  # half deleted, it must not return
    shutil.rmtree(space, ignore_errors=True)


def _put(part: Path, target: Path, check: Callable[[Path], None]) -> None:
    """Let the folder `part` take the name `target`, whatever others do to that name meanwhile."""
    for _ in range(_TRIES):
        try:
            os.rename(part, target)  # nothing there, or an empty folder
            return
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
        with suppress(FileNotFoundError):
            if _exchange(part, target):
                try:
                    check(part)
                except BaseException:
                    _exchange(part, target)
                    raise
                return
            old = part.parent / OLD / target.name
            _move_away(old, target)
            check(old)
    raise OSError(errno.EBUSY, "other processes keep writing there")


def _move_away(old: Path, target: Path) -> None:
    """Move the folder `target` into the workspace; `_remove` brings it back if nothing takes its place."""
    if old.exists():
        os.rename(old.parent, Path(tempfile.mkdtemp(dir=old.parents[1])) / OLD)
    os.makedirs(old.parent, exist_ok=True)
    os.rename(target, old)


def _exchange(a: Path, b: Path) -> bool:
    """Exchange two names in one step (Linux); False where the system or the file system cannot."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    names = os.fsencode(a), os.fsencode(b)
    if call(_AT_FDCWD, names[0], _AT_FDCWD, names[1], ctypes.c_uint(_RENAME_EXCHANGE)) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM):
        return False
    raise OSError(number, os.strerror(number), os.fspath(a), None, os.fspath(b))


def _sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk; some file systems refuse that for folders."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise
    finally:
        os.close(descriptor)
