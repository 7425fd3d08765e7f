"""`X.npz` files: what is read, what is refused, and that memory stays small."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from snn2chip.data import open_npz, read_samples
from snn2chip.errors import InputError


def save(path: Path, **arrays: object) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def test_blocks_join_to_the_whole(tmp_path: Path) -> None:
    x, y = np.arange(42, dtype=np.int16).reshape(7, 3, 2), np.arange(7) % 3
    found = read_samples(save(tmp_path / "x.npz", x=x, y=y))
    assert (found.total, found.shapes, found.time_axis) == (7, {"x": (3, 2)}, False)
    blocks = list(found.blocks(3))
    assert [len(b["x"]) for b, _ in blocks] == [3, 3, 1]
    assert (np.concatenate([b["x"] for b, _ in blocks]) == x).all()
    assert np.concatenate([labels for _, labels in blocks]).tolist() == y.tolist()
    assert blocks[0][0]["x"].dtype == np.int16


def test_take_limits_samples_and_labels(tmp_path: Path) -> None:
    found = read_samples(save(tmp_path / "x.npz", x=np.arange(10)[:, None], y=np.arange(10))).take(4)
    arrays, labels = found.arrays()
    assert arrays["x"][:, 0].tolist() == [0, 1, 2, 3] == labels.tolist()
    with pytest.raises(InputError, match="holds 4 samples, 9 were asked for"):
        found.take(9)


def test_fortran_order_and_big_endian(tmp_path: Path) -> None:
    x = np.asfortranarray(np.arange(12, dtype=">i4").reshape(4, 3))
    blocks = list(read_samples(save(tmp_path / "x.npz", x=x)).blocks(3))
    assert np.concatenate([b["x"] for b, _ in blocks]).tolist() == x.tolist()


def test_several_inputs_by_name(tmp_path: Path) -> None:
    path = save(tmp_path / "x.npz", **{"x/a": np.zeros((2, 3)), "x/b": np.ones((2, 1))})
    arrays, labels = read_samples(path, inputs=("a", "b")).arrays()
    assert {name: x.shape for name, x in arrays.items()} == {"a": (2, 3), "b": (2, 1)}
    assert labels is None


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"inputs": np.zeros((2, 3))}, "needs 'x'"),
        ({"x": np.zeros((2, 3)), "y": np.zeros(3, int)}, "different numbers of samples"),
        ({"x": np.zeros((2, 3)), "y": np.zeros(2)}, "'y' must be whole numbers"),
        ({"x": np.zeros((0, 3))}, "no samples"),
        ({"x": np.array(["a", "b"])}, "array of numbers"),
        ({"x": np.array([{}, {}], dtype=object)}, "array of numbers"),
        ({"x": np.array(3)}, "array of numbers"),
    ],
)
def test_refused(tmp_path: Path, arrays: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_samples(save(tmp_path / "x.npz", **arrays))


def test_damaged_files_are_one_clear_error(tmp_path: Path) -> None:
    path = save(tmp_path / "x.npz", x=np.random.default_rng(0).integers(0, 255, (500, 20), dtype=np.uint8))
    whole = path.read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    flipped = bytearray(whole)
    for i in range(2000, 2100):
        flipped[i] ^= 0xFF
    (tmp_path / "flipped.npz").write_bytes(bytes(flipped))
    (tmp_path / "text.npz").write_text("no archive")
    np.save(tmp_path / "single.npy", np.zeros(3))
    for name in ("cut.npz", "flipped.npz", "text.npz", "single.npy", "none.npz"):
        with pytest.raises(InputError, match=name):
            read_samples(tmp_path / name).arrays()


def test_errors_of_our_own_pass_through_the_reader(tmp_path: Path) -> None:
    path = save(tmp_path / "x.npz", x=np.zeros(2))
    with pytest.raises(InputError, match=r"^mine$"), open_npz(path):
        raise InputError("mine")


def test_reading_does_not_hold_the_file_in_memory(tmp_path: Path) -> None:
    x = np.zeros((20_000, 1000), np.uint8)  # 20 MB in memory, a few kB compressed
    found = read_samples(save(tmp_path / "x.npz", x=x))
    del x
    tracemalloc.start()
    total = sum(int(b["x"].sum()) + len(b["x"]) for b, _ in found.blocks(100))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 20_000
    assert peak < 2_000_000
