"""Output files of an emitted package: whole, or not there."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np


def write_npz(path: Path, arrays: dict[str, Any]) -> None:
    """Write `path` beside its place and rename it: it is the old file or the whole new one; a device is written to."""
    if path.exists() and not path.is_file():
        with open(path, "wb") as file:
            file.write(_packed(arrays))
        return
    path = path.resolve()  # a link stays a link; of a pipe the name behind it would be none
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            file.write(_packed(arrays))
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _packed(arrays: dict[str, Any]) -> bytes:
    """An `.npz` file's bytes; NumPy seeks while it writes one, which pipes and devices cannot."""
    image = io.BytesIO()
    np.savez_compressed(image, **arrays)
    return image.getvalue()
