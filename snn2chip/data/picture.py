"""Pictures from anywhere, decoded only where the sizes they declare are those of pictures."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import IO, Any

from snn2chip.errors import InputError

MOST = 1 << 25
"""Pixels of one picture."""
LONGEST = 64
"""How many times longer than wide, or wider than long, a picture may be."""


LARGEST = 1 << 28
"""Bytes of one file."""


def open_picture(file: Path | IO[bytes], *, what: str) -> Any:
    """The picture in `file` as RGB; InputError, which begins with `what`, for anything else."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(_held(file, what)) as image:
                w, h = image.size
                if not 0 < w * h <= MOST or max(w, h) > LONGEST * min(w, h):
                    raise InputError(f"{what}: declares {w} x {h} pixels")
                return image.convert("RGB")
    except InputError:
        raise
    except Exception as error:  # every decoder raises its own
        text = " ".join(str(error).split())[:200]
        raise InputError(f"{what}: not a readable picture ({text})") from error


def _held(file: Path | IO[bytes], what: str) -> IO[bytes]:
    """A file in memory: asked for gigabytes by a damaged length, one on disk makes room for them before it reads."""
    if not isinstance(file, Path):
        return file
    if (size := file.stat().st_size) > LARGEST:
        raise InputError(f"{what}: has {size:,} bytes; a picture has {LARGEST:,} at most")
    return io.BytesIO(file.read_bytes())
