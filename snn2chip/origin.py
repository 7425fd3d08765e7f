"""What a file says about where it comes from: versions, command, SHA-256 of what was read.

Nothing of it depends on the moment, on folders or on the name of the result: equal work gives equal bytes.
"""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snn2chip.ir.program import Program

PACKAGES = ("numpy", "scipy", "torch", "safetensors", "lava-nc")
WHERE_TO = ("-o", "--output", "--out", "--artifacts", "--json", "--csv", "--html", "--neurobench")
"""Options that say where a result goes, not what it is."""
_words: list[str] = []
_read: list[Path] = []


def begin(words: Sequence[str]) -> None:
    """Remember the command line of this process (the command does; a library has none)."""
    _words[:] = words
    _read.clear()


def reads(path: Path) -> None:
    """Name a file that the command of this process reads: its hash goes into what is written from now on."""
    _read.append(path)


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Versions of snn2chip, Python and those of `packages` that are installed."""
    import snn2chip

    found = {"snn2chip": snn2chip.__version__, "python": platform.python_version()}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def command() -> str | None:
    """The command of this process without places of results, files by their name only; None in a library."""
    if not _words:
        return None
    kept, skip = [], False
    for word in _words[1:]:
        if skip or word in WHERE_TO or word.partition("=")[0] in WHERE_TO:
            skip = word in WHERE_TO
            continue
        kept.append(Path(word).name if os.sep in word and os.path.exists(word) else word)
    return shlex.join(["snn2chip", *kept])


def hashes(*paths: str | os.PathLike[str] | None) -> dict[str, str]:
    """SHA-256 of files by their name; what is None or no file is left out."""
    from snn2chip.checkpoint_tensors import file_sha256

    return {Path(path).name: file_sha256(path) for path in paths if path is not None and Path(path).is_file()}


def made_from(program: Program) -> dict[str, Any]:
    """The notes of a program that name what it was made of: model, method, data, seed, hash of the checkpoint."""
    return {k: v for k, v in program.meta.items() if isinstance(v, (str, int, float)) and k != "name"}


def about(program: Program) -> dict[str, Any]:
    """`program` (its digest) and `made_from`: what a file made of a program says besides its `origin`."""
    return {"program": program.digest(), "made_from": made_from(program)}


def origin(*paths: str | os.PathLike[str] | None) -> dict[str, Any]:
    """`versions`, `command` and `inputs` (hashes of `paths` and of what `reads` named) of this process."""
    return {"versions": versions(), "command": command(), "inputs": hashes(*_read, *paths)}
