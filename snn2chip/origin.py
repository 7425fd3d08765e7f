"""What a file says about where it comes from: versions, command, SHA-256 of what was read.

Nothing of it depends on the moment, on folders, on the name of the result or on who did the work: equal work gives
equal bytes.
"""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snn2chip.ir.program import Program

PACKAGES = ("numpy", "scipy", "torch", "safetensors", "lava-nc")
WHERE_TO = ("-o", "--output", "--out", "--artifacts", "--json", "--csv", "--html", "--neurobench", "--logs")
"""Options that say where a result goes, not what it is."""
WHO_WORKS = ("--workers", "--executor", "--scheduler", "--address", "--shard", "--partial")
"""Options that say who does the work and in which pieces: no result depends on them."""
FLAGS = ("--debug",)
"""Words without a value that change no result."""
ORIGIN = "origin"
"""The array of an `.npz` file that says where it comes from."""
DROPPED = frozenset((*WHERE_TO, *WHO_WORKS))
_words: list[str] = []
_read: list[Path] = []


def begin(words: Sequence[str]) -> None:
    """Remember the command line of this process (the command does; a library has none)."""
    _words[:] = words


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Name a file that a verb reads: its hash goes into what is written inside."""
    _read.append(path)
    try:
        yield
    finally:
        _read.remove(path)


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
    """The command of this process without places of results and workers, files by their name; None in a library."""
    if not _words:
        return None
    kept, skip = [], False
    for word in _words[1:]:
        key, sign, value = word.partition("=")
        if skip or word in FLAGS or key in DROPPED or _glued(word):
            skip = not skip and key in DROPPED and not sign
            continue
        kept.append(f"{key}={by_name(value)}" if sign and not os.path.exists(word) else by_name(word))
    return shlex.join(["snn2chip", *kept])


def _glued(word: str) -> bool:
    """Whether this is `-oFILE` in one word."""
    return word.startswith("-o") and len(word) > 2


def by_name(word: str) -> str:
    """A word without the folders of the file that it names: absolute paths, and paths of what is there."""
    return Path(word).name if os.sep in word and (os.path.isabs(word) or os.path.exists(word)) else word


def data_name(data: str) -> str:
    """A data set as files and reports call it: by its name, a file X.npz without its folders."""
    return Path(data).name if data.endswith(".npz") else data


def samples_sha256(samples: Any) -> str:
    """SHA-256 of raw samples: an array, or arrays by input; their names, types, shapes and numbers."""
    import hashlib

    import numpy as np

    found = hashlib.sha256()
    for name, x in sorted(samples.items()) if isinstance(samples, Mapping) else [("x", samples)]:
        array = np.ascontiguousarray(x)
        found.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        found.update(array.reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def hashes(*paths: str | os.PathLike[str] | None) -> dict[str, str]:
    """SHA-256 of files by their name; what is None or no file is left out."""
    from snn2chip.checkpoint_tensors import file_sha256

    return {Path(path).name: file_sha256(path) for path in paths if path is not None and Path(path).is_file()}


def made_from(program: Program) -> dict[str, Any]:
    """The notes of a program that name what it was made of: model, method, data, seed, hash of the checkpoint."""
    plain = {k: v for k, v in program.meta.items() if isinstance(v, (str, int, float)) and k != "name"}
    return {k: data_name(v) if k == "data" and isinstance(v, str) else v for k, v in plain.items()}


def about(program: Program) -> dict[str, Any]:
    """`program` (its digest) and `made_from`: what a file made of a program says besides its `origin`."""
    return {"program": program.digest(), "made_from": made_from(program)}


def origin(*paths: str | os.PathLike[str] | None) -> dict[str, Any]:
    """`versions`, `command` and `inputs` (hashes of `paths` and of what is `reading`) of this process."""
    return {"versions": versions(), "command": command(), "inputs": hashes(*_read, *paths)}


def origin_of(program: Program, *paths: str | os.PathLike[str] | None) -> dict[str, Any]:
    """`about` the program and `origin`: what a result made of a program says."""
    return {**about(program), **origin(*paths)}


def as_array(about: Mapping[str, Any]) -> dict[str, Any]:
    """`about` as the array `origin` of an `.npz` file: JSON, one text."""
    import json

    import numpy as np

    return {ORIGIN: np.array(json.dumps(about, sort_keys=True))}
