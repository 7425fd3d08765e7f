"""Trained nets that come with the zoo: a checkpoint `NAME.safetensors` and its program `NAME.s2c` with golden vectors.

On the command line `zoo:NAME.s2c` stands for the file wherever a file is named.
"""

from __future__ import annotations

from pathlib import Path

from snn2chip.errors import InputError

FOLDER = Path(__file__).parent / "zoo"


def shipped_names() -> tuple[str, ...]:
    """Return the names of all shipped files."""
    return tuple(sorted(path.name for path in FOLDER.glob("*") if path.suffix in (".s2c", ".safetensors")))


def shipped(name: str) -> Path:
    """Return where the shipped file `name` lies; InputError that lists the known ones."""
    if name not in shipped_names():
        raise InputError(f"the zoo ships no file {name!r}; it has {', '.join(shipped_names())}")
    return FOLDER / name
