"""Functions compiled by numba run whatever becomes of the files that they are kept in."""

from __future__ import annotations

import gc
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from snn2chip.errors import MachineWarning

numba = pytest.importorskip("numba", reason="numba is not installed")

from numba.core.caching import IndexDataCacheFile  # noqa: E402

from snn2chip import machine_code  # noqa: E402

KERNEL = """
from numba import types
from snn2chip.machine_code import kept

def triple(x):
    return {factor} * x

def start(now, **sources):
    return kept(triple, types.int64(types.int64) if now else None, **sources)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where numba keeps what it has compiled."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kept"))
    numba.config.reload_config()
    yield tmp_path / "kept"
    monkeypatch.undo()
    numba.config.reload_config()


@pytest.fixture
def compiled(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A function of a module of its own, as a new process would compile it; with what its file is told apart by.

    Nothing of an earlier one is left over: numba takes from it what it would have to read.
    """
    path, part = tmp_path / "kernel_of_a_test.py", tmp_path / "part.py"

    def make(*, now: bool = True, factor: int = 3, inner: str = "") -> Any:
        path.write_text(KERNEL.format(factor=factor))
        part.write_text(inner)
        machine_code._digest.cache_clear()
        gc.collect()
        module: Any = ModuleType(path.stem)
        monkeypatch.setitem(sys.modules, path.stem, module)
        exec(compile(path.read_text(), str(path), "exec"), module.__dict__)
        return module.start(now, sources=(str(part),))

    return make


def hits(function: Any) -> int:
    return sum(function.stats.cache_hits.values())


def files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("now", [True, False], ids=["one signature", "by call"])
def test_what_is_kept_is_found_again(compiled: Any, folder: Path, now: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, second = compiled(now=now), compiled(now=now)
        assert first(5) == second(5) == 15
    assert (hits(first), hits(second)) == (0, 1)
    assert [p.suffix for p in files(folder)] == [".nbc", ".nbi"]


@pytest.mark.parametrize("now", [True, False], ids=["one signature", "by call"])
@pytest.mark.parametrize("damage", ["half of it", "nothing", "zeros", "no file", "a folder"])
@pytest.mark.parametrize("suffix", [".nbc", ".nbi"])
def test_a_damaged_file_is_written_anew(compiled: Any, folder: Path, suffix: str, damage: str, now: bool) -> None:
    compiled(now=now)(1)
    (damaged,) = (p for p in files(folder) if p.suffix == suffix)
    whole = damaged.read_bytes()
    if damage in ("half of it", "nothing"):
        os.truncate(damaged, len(whole) // 2 if damage == "half of it" else 0)
    elif damage == "zeros":
        damaged.write_bytes(bytes(len(whole)))
    else:
        damaged.unlink()
    if damage == "a folder":
        damaged.mkdir()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert compiled(now=now)(5) == 15
    texts = [str(w.message) for w in told if issubclass(w.category, MachineWarning)]
    assert all(str(folder) in text and "NUMBA_CACHE_DIR" in text for text in texts)
    if damage == "a folder":
        assert texts
        return
    assert bool(texts) == (damage != "no file")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = compiled(now=now)
        assert again(5) == 15
    assert hits(again) == 1, "written anew"


@pytest.mark.parametrize("part", ["_save_data", "_save_index", "_load_index"])
@pytest.mark.parametrize("now", [True, False], ids=["one signature", "by call"])
def test_a_full_disk_costs_the_files_alone(
    compiled: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, part: str, now: bool
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(IndexDataCacheFile, part, full)
    with pytest.warns(MachineWarning, match="No space left on device") as told:
        assert compiled(now=now)(5) == 15
    assert all(str(folder) in str(w.message) and "NUMBA_CACHE_DIR" in str(w.message) for w in told)


def test_no_place_to_keep_anything(compiled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(*_: Any) -> None:
        raise RuntimeError("cannot cache function 'triple': no locator available")

    monkeypatch.setattr(machine_code, "_OnDisk", nowhere)
    with pytest.warns(MachineWarning, match="no locator available.*NUMBA_CACHE_DIR"):
        assert compiled()(5) == 15


def test_a_file_in_the_place_of_the_folder(compiled: Any, folder: Path) -> None:
    folder.write_text("")
    assert compiled()(5) == 15


def test_other_sources_are_compiled_anew(compiled: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where only what a function calls has changed, and where the disk was full between index and data."""
    assert compiled(inner="a = 1")(5) == 15
    other = compiled(inner="a = 2")
    assert hits(other) == 0
    assert hits(compiled(inner="a = 1")) == hits(compiled(inner="a = 2")) == 1
    with monkeypatch.context() as patch:
        patch.setattr(IndexDataCacheFile, "_save_data", lambda *_: 1 / 0)
        with pytest.warns(MachineWarning):
            assert compiled(factor=7, inner="a = 1")(5) == 35
    assert compiled(factor=7, inner="a = 3")(5) == 35


def test_sources_that_cannot_be_read_have_no_digest(tmp_path: Path) -> None:
    assert machine_code._digest((str(tmp_path / "nothing"),)) == ""


def test_all_compiled_functions_are_kept_so() -> None:
    from snn2chip_backends.torch.passes.entries import tape

    from snn2chip.nn.fused import at_once_kernels, clip_kernels, compiled, excess_kernels, level_kernels

    assert isinstance(tape._cache, machine_code._OnDisk)
    kernels = (at_once_kernels, clip_kernels, compiled, excess_kernels, level_kernels)
    found = [
        f for m in kernels for f in vars(m).values() if hasattr(f, "enable_caching") and f.__module__ == m.__name__
    ]
    kept = [f for f in found if isinstance(f._cache, machine_code._OnDisk)]
    assert len(kept) >= 8
    assert {f.py_func.__name__ for f in found} - {f.py_func.__name__ for f in kept} == {"_dot", "_total"}
