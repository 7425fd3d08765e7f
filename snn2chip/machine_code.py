"""Functions compiled by numba, kept on disk where the disk takes them; whatever it does, they are compiled and run.

numba looks at a function's own bytecode and file to find it again on disk, not at what it calls. Here the names of the
files hold a digest of all sources that a function is made of: after any change it is compiled anew, and nothing of
before is ever taken for it.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile

from snn2chip.errors import MachineWarning

REMEDY = "or let NUMBA_CACHE_DIR name another folder"


def kept(function: Callable[..., Any], signature: Any = None, *, sources: tuple[str, ...]) -> Any:
    """Return `function` compiled (for one `signature` now, or for each on its first call) and kept on disk.

    `sources`: files, or folders of them, that it is made of. Warns (MachineWarning) where the disk gives nothing back
    or takes nothing; then the function is compiled by this process for itself.
    """
    made: Any = numba.njit(nogil=True, error_model="numpy")(function)
    if not hasattr(made, "enable_caching"):  # numba's compiler is switched off
        return made
    try:
        made._cache = _OnDisk(function, _digest((*sources, __file__)))
    except Exception as error:
        _tell("", f"compiled functions cannot be kept on disk ({error})", "let NUMBA_CACHE_DIR name a folder for them")
    if signature is not None:
        made.compile(signature)
        made.disable_compile()
    return made


class _OnDisk(FunctionCache):
    """numba's own files, under names with a digest; one that cannot be read or written costs time, not the run."""

    def __init__(self, function: Callable[..., Any], digest: str) -> None:
        super().__init__(function)
        impl = self._impl
        self._cache_file = IndexDataCacheFile(
            cache_path=self._cache_path,
            filename_base=f"{impl.filename_base}.{digest}",
            source_stamp=impl.locator.get_source_stamp(),
        )

    def load_overload(self, sig, target_context):
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:
            what = f"compiled functions in {self._cache_path} cannot be read ({_said(error)}) and are compiled again"
            _tell(self._cache_path, what, f"if it stays so, delete the folder {REMEDY}")
            with suppress(Exception):
                self.flush()  # written anew below
            return None

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except Exception as error:
            what = (
                f"compiled functions cannot be kept in {self._cache_path} ({_said(error)}): every process compiles them"
            )
            _tell(self._cache_path, what, f"make room there {REMEDY}")


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]


def _tell(folder: str, what: str, remedy: str) -> None:
    warnings.warn(MachineWarning(f"{what}; {remedy}", key=f"numba:{folder}"), stacklevel=3)


@lru_cache
def _digest(sources: tuple[str, ...]) -> str:
    """A name that changes with any line of `sources`; "" where they cannot be read (inside an archive)."""
    files = [file for source in map(Path, sources) for file in (sorted(source.glob("*.py")) or [source])]
    try:
        text = b"\0".join(file.read_bytes() for file in files)
    except OSError:
        return ""
    return hashlib.sha256(text).hexdigest()[:16]
