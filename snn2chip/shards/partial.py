"""Results kept shard by shard, so that a call that was interrupted goes on: one file per shard, whole or not there.

    FOLDER/<key>/about.json                       program, samples and options that the key stands for
    FOLDER/<key>/<start>-<stop>.npz               what samples start..stop-1 gave

The key is a hash of program, samples, options, versions and sources: results of anything else are never mixed in.
Each file is sealed with its key, its samples and its SHA-256: one that was damaged, or copied over another, is worth
nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs

from snn2chip.errors import FileFormatError, InputError
from snn2chip.origin import versions
from snn2chip.shards.plan import Shard
from snn2chip.shards.trees import seal, unpack, unseal
from snn2chip.sources import source_digest
from snn2chip.writing import clean_folder, make_folder, replacing, write_text

FORMAT = "snn2chip-shards-2"
ABOUT = "about.json"
PACKAGES = ("numpy", "torch", "triton", "numba", "lava-nc", "lava-dl", "torchvision")
NAME = re.compile(r"(\d+)-(\d+)\.npz\Z")


@attrs.frozen
class Partial:
    """Files of one piece of work; `fields` are the names in each of its results (none: any)."""

    folder: Path
    fields: Collection[str] = ()

    @classmethod
    def of(cls, folder: Path, identity: Mapping[str, Any], fields: Collection[str] = ()) -> Partial:
        """The place of the work that `identity` describes, made if it is new; InputError for a file of that name.

        Raises WriteFailure where the disk does not take it.
        """
        about = {"format": FORMAT, "versions": _versions(), **identity}
        text = json.dumps(about, sort_keys=True, indent=2) + "\n"
        own = folder / hashlib.sha256(text.encode()).hexdigest()[:24]
        if os.path.exists(folder) and not os.path.isdir(folder):
            raise InputError(f"{folder}: is a file; name a folder for partial results")
        make_folder(own)
        if not (own / ABOUT).exists():
            write_text(own / ABOUT, text)
        return cls(own, fields)

    def ranges(self) -> list[tuple[int, int]]:
        """Samples whose results are here."""
        found = (NAME.match(path.name) for path in self.folder.iterdir())
        return sorted((int(m[1]), int(m[2])) for m in found if m)

    def path(self, start: int, stop: int) -> Path:
        """Where the results of these samples are kept."""
        return self.folder / f"{start:09d}-{stop:09d}.npz"

    def read(self, start: int, stop: int) -> Any:
        """What these samples gave, or None: a file that is damaged is worth nothing, its shard runs again."""
        try:
            return self.opened(start, stop)
        except (OSError, FileFormatError):
            return None

    def opened(self, start: int, stop: int) -> dict[str, Any]:
        """What these samples gave; FileFormatError for a file that is damaged or another's, OSError for none."""
        path = self.path(start, stop)
        try:
            tree = unpack(unseal(path.read_bytes(), self.mark(start, stop)))
        except FileFormatError as error:
            raise FileFormatError(f"{path}: {error}") from error
        if not isinstance(tree, dict) or (self.fields and set(tree) != set(self.fields)):
            raise FileFormatError(f"{path}: must hold {', '.join(self.fields) or 'results by name'}")
        return tree

    def mark(self, start: int, stop: int) -> str:
        """What is written into the file of these samples."""
        return f"snn2chip shard {self.folder.name} {start:012d} {stop:012d}"

    def write(self, shard: Shard, data: bytes) -> None:
        """Keep the results of a shard."""
        with replacing(self.path(shard.start, shard.stop)) as part:
            part.write_bytes(seal(data, self.mark(shard.start, shard.stop)))

    def remove(self) -> None:
        """Delete what this work has kept, and the folders if nothing else lies in them."""
        for start, stop in self.ranges():
            self.path(start, stop).unlink(missing_ok=True)
        (self.folder / ABOUT).unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            clean_folder(self.folder)
        for folder in (self.folder, self.folder.parent):
            with suppress(OSError):
                folder.rmdir()


def _versions() -> dict[str, str]:
    """What computes: this program's own sources, Python and the packages that results go through."""
    return {**versions(PACKAGES), "source": source_digest()}


def clear(folder: Path) -> None:
    """Delete everything that `Partial` has kept in `folder`, and the folder if nothing else lies in it."""
    if folder.is_dir():
        for own in folder.iterdir():
            if (own / ABOUT).is_file():
                Partial(own).remove()
