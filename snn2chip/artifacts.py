"""A folder of everything that a compile or report made: written beside its place and renamed, whole or not at all.

A folder is replaced only if it is one of ours (it holds a manifest that names every file in it) or empty; what a
user put there is never deleted.

    manifest.json    format, program, command, versions, and every file with its size and SHA-256
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from snn2chip.checkpoint_tensors import file_sha256
from snn2chip.errors import InputError
from snn2chip.writing import replacing_tree

FORMAT = "snn2chip-artifacts"
VERSION = 1
MANIFEST = "manifest.json"


def replacing_folder(folder: str | os.PathLike[str]) -> AbstractContextManager[Path]:
    """Yield an empty folder beside `folder`; it takes that name only if the block succeeds, and the old one goes then.

    Raises InputError, before anything is made, for a name whose content is not ours to replace.
    """
    return replacing_tree(folder, check=check_replaceable)


def check_replaceable(folder: Path) -> None:
    """Raise InputError for a file, and for a folder with anything in it that its manifest does not name."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder}: is a file; name a folder for the artifacts")
    found = {path.name for path in folder.iterdir()}
    if not found:
        return
    own = _named(folder / MANIFEST)
    if own is None:
        raise InputError(f"{folder}: holds files that are no artifacts of snn2chip; name an empty or a new folder")
    if strange := sorted(found - own - {MANIFEST}):
        raise InputError(f"{folder}: holds {', '.join(strange[:5])}, which the artifacts would replace; move it away")


def write_manifest(folder: Path, what: Mapping[str, str], **about: Any) -> None:
    """Write the manifest of `folder`; `what` says in words what each file is. Files without words are a bug."""
    files = {}
    for path in sorted(folder.iterdir()):
        files[path.name] = {
            "what": what[path.name],
            "bytes": path.stat().st_size,
            "sha256": file_sha256(path),
        }
    text = json.dumps({"format": FORMAT, "version": VERSION, **about, "files": files}, indent=2)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def _named(manifest: Path) -> set[str] | None:
    """Files that a manifest names; None if it is none of ours."""
    try:
        found = json.loads(manifest.read_text(encoding="utf-8"))
        return set(found["files"]) if found["format"] == FORMAT else None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
