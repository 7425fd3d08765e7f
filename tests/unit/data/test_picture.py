"""Pictures whose files say something else than they hold."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from snn2chip.data import picture
from snn2chip.errors import InputError

Image = pytest.importorskip("PIL.Image", reason="pillow is not installed")


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def test_a_picture_is_read_from_a_file_and_from_bytes(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)
    (tmp_path / "a.png").write_bytes(png(pixels))
    for source in (tmp_path / "a.png", io.BytesIO(png(pixels))):
        assert (np.asarray(picture.open_picture(source, what="a")) == pixels).all()


def test_a_damaged_length_takes_no_memory(tmp_path: Path) -> None:
    """The chunk of pixels ends early, and the next one says that two gigabytes follow."""
    whole = png(np.zeros((7, 9, 3), np.uint8))
    start = whole.index(b"IDAT") - 4
    path = tmp_path / "a.png"
    path.write_bytes(whole[:start] + (2**31 - 1).to_bytes(4, "big") + b"IDAT" + whole[start + 8 : start + 14])
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="not a readable picture"):
            picture.open_picture(path, what="a")
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()


def test_a_file_too_large_for_a_picture_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(np.zeros((7, 9, 3), np.uint8)))
    monkeypatch.setattr(picture, "LARGEST", path.stat().st_size - 1)
    with pytest.raises(InputError, match=r"a: has [0-9]+ bytes; a picture has [0-9]+ at most"):
        picture.open_picture(path, what="a")
