"""Data sets by name: digits everywhere, the others from packed files or the usual folders."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import sys
import types
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from snn2chip.data import DATA_NAMES, find_data, load_data, open_data
from snn2chip.data.packed import add_events
from snn2chip.errors import EnvironmentFault, InputError

REAL = os.environ.get("SNN2CHIP_DATA", "")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SNN2CHIP_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_digits_are_the_stratified_split() -> None:
    x_train, y_train = load_data("digits")
    x_test, y_test = load_data("digits", split="test")
    assert (x_train.shape, x_test.shape) == ((1347, 1, 8, 8), (450, 1, 8, 8))
    assert x_test.dtype.kind == "u"
    assert (int(x_test.min()), int(x_test.max())) == (0, 16)
    counts = np.bincount(y_test)
    assert counts.sum() == 450
    assert counts.min() >= 43
    assert np.bincount(y_train).min() >= 130
    both = np.concatenate([x_train, x_test]).reshape(1797, -1)
    from sklearn.datasets import load_digits

    assert sorted(map(bytes, both)) == sorted(map(bytes, load_digits().data.astype(np.uint8)))


@pytest.mark.parametrize("name", [n for n in DATA_NAMES if n != "digits"])
def test_a_missing_data_set_says_where_to_put_it(root: Path, name: str) -> None:
    assert find_data(name) is None
    with pytest.raises(InputError, match=r"put .* into .*SNN2CHIP_DATA"):
        open_data(name, steps=4)


def test_unknown_names_splits_and_steps(root: Path) -> None:
    with pytest.raises(InputError, match="known: digits, mnist"):
        open_data("minst")
    with pytest.raises(InputError, match="split"):
        open_data("digits", split="validation")
    with pytest.raises(InputError, match="frames"):
        open_data("nmnist")


def test_packed_greyscale(root: Path) -> None:
    x = np.arange(3 * 28 * 28).reshape(3, 28, 28).astype(np.uint8)
    np.savez(root / "mnist.npz", x_test=x, y_test=np.array([5, 0, 4], np.uint8), x_train=x, y_train=np.zeros(3, int))
    found = open_data("mnist")
    arrays, labels = found.arrays()
    assert (arrays["x"] == x[:, None]).all()
    assert labels.tolist() == [5, 0, 4]
    assert found.take(2).arrays()[0]["x"].shape == (2, 1, 28, 28)


def test_packed_mosaics_are_decoded_in_order(root: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2000, 32, 32, 3), dtype=np.uint8)
    sheets = []
    for part in (pixels[:1000], pixels[1000:]):
        sheet = part.reshape(25, 40, 32, 32, 3).swapaxes(1, 2).reshape(800, 1280, 3)
        stream = io.BytesIO()
        Image.fromarray(sheet).save(stream, "PNG", compress_level=1)
        sheets.append(stream.getvalue())
    offsets = np.cumsum([0, *map(len, sheets)])
    data = np.frombuffer(b"".join(sheets), np.uint8)
    names = np.array([f"c{i}" for i in range(10)])
    np.savez(root / "cifar10_test.npz", webp=data, offsets=offsets, y=np.arange(2000) % 10, classes=names)
    blocks = [b["x"] for b, _ in open_data("cifar10").blocks(700)]
    assert [len(b) for b in blocks] == [700, 700, 600]
    assert (np.concatenate(blocks) == pixels.transpose(0, 3, 1, 2)).all()


def test_events_fall_into_their_frames() -> None:
    frames = np.zeros((4, 2, 3, 3), np.int32)
    add_events(
        frames,
        np.array([0, 24, 25, 99, 400]),
        np.array([0, 1, 1, 2, 2]),
        np.array([0, 2, 2, 1, 1]),
        np.array([0, 1, 1, 0, 0]),
        length=100,
    )
    assert frames.sum() == 5
    assert frames[0, 0, 0, 0] == 1
    assert frames[0, 1, 2, 1] == 1
    assert frames[1, 1, 2, 1] == 1
    assert frames[3, 0, 1, 2] == 2  # 99 and, beyond the end, 400


def test_packed_events(root: Path) -> None:
    arrays = {
        "ev_x_test": np.array([1, 2, 3], np.uint8),
        "ev_y_test": np.array([4, 5, 6], np.uint8),
        "ev_p_test": np.array([0, 1, 1], np.uint8),
        "ev_dt_test": np.array([10, 60_000, 5], np.uint16),
        "offsets_test": np.array([0, 2, 3]),
        "label_test": np.array([7, 2], np.uint8),
    }
    np.savez(root / "nmnist_small.npz", **arrays)
    found = open_data("nmnist", steps=10)
    assert found.time_axis
    x, labels = found.arrays()
    assert x["x"].shape == (2, 10, 2, 34, 34)
    assert labels.tolist() == [7, 2]
    assert {tuple(map(int, i)) for i in np.argwhere(x["x"])} == {(0, 0, 0, 4, 1), (0, 1, 1, 5, 2), (1, 0, 1, 6, 3)}


def _idx(array: np.ndarray) -> bytes:
    head = bytes((0, 0, 8, array.ndim)) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return head + array.astype(np.uint8).tobytes()


@pytest.mark.parametrize("packed", [False, True])
def test_torchvision_idx_folder(root: Path, packed: bool) -> None:
    x = np.random.default_rng(0).integers(0, 256, (4, 28, 28))
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name, array in (("t10k-images-idx3-ubyte", x), ("t10k-labels-idx1-ubyte", np.arange(4))):
        if packed:
            (raw / f"{name}.gz").write_bytes(gzip.compress(_idx(array)))
        else:
            (raw / name).write_bytes(_idx(array))
    found, labels = load_data("fashion_mnist", split="test")
    assert (found == x[:, None]).all()
    assert labels.tolist() == [0, 1, 2, 3]
    huge = bytes((0, 0, 8, 3)) + bytes(4) + b"\xff" * 8  # no pictures of 2^32 x 2^32
    for damaged in (_idx(x)[:-1], huge):
        (raw / "train-images-idx3-ubyte").write_bytes(damaged)
        with pytest.raises(InputError, match="not an idx file"):
            load_data("fashion_mnist")


def test_torchvision_cifar_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("torchvision.datasets", reason="reading this folder is torchvision's own work")
    folder = root / "cifar-100-python"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3072), dtype=np.uint8)
    contents = {
        "test": {"data": pixels, "fine_labels": [5, 0, 99]},
        "meta": {"fine_label_names": [f"c{i}" for i in range(100)]},
    }
    sums = {}
    for name, content in contents.items():
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        sums[name] = hashlib.md5(data).hexdigest()
    monkeypatch.setattr(datasets.CIFAR100, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(datasets.CIFAR100, "train_list", [])
    monkeypatch.setattr(datasets.CIFAR100, "meta", {**datasets.CIFAR100.meta, "md5": sums["meta"]})
    found = open_data("cifar100")
    assert (found.arrays()[0]["x"] == pixels.reshape(3, 3, 32, 32)).all()
    assert found.labels.tolist() == [5, 0, 99]
    assert found.classes[99] == "c99"
    (folder / "test").write_bytes(b"something else")
    with pytest.raises(InputError, match="incomplete or damaged"):
        open_data("cifar100")


def test_tonic_event_folder(root: Path) -> None:
    folder = root / "NMNIST" / "Test"
    for digit in ("0", "1"):
        (folder / digit).mkdir(parents=True)
    t = 200_000  # 5 bytes an event: x, y, polarity and the three bytes of the time
    event = bytes((3, 9, 0x80 | t >> 16, t >> 8 & 255, t & 255))
    (folder / "1" / "00001.bin").write_bytes(event + bytes((0, 0, 0, 0, 7)))
    found = open_data("nmnist", steps=31)
    x, labels = found.arrays()
    assert labels.tolist() == [1]
    assert {tuple(map(int, i)) for i in np.argwhere(x["x"])} == {(0, 20, 1, 9, 3), (0, 0, 0, 0, 0)}
    (folder / "0" / "00000.bin").write_bytes(b"123456")
    with pytest.raises(InputError, match="5-byte events"):
        open_data("nmnist", steps=31).arrays()


def test_dvs_folder_splits_each_class(root: Path) -> None:
    for name in ("airplane", "cat"):
        folder = root / "CIFAR10DVS" / "events_np" / name
        folder.mkdir(parents=True)
        for i in range(10):
            events = {"t": np.array([50, 149]), "x": np.array([i, i]), "y": np.array([0, 1]), "p": np.array([0, 1])}
            np.savez(folder / f"{i}.npz", **events)
    train, test = (open_data("cifar10_dvs", split=s, steps=2) for s in ("train", "test"))
    assert (train.total, test.total) == (18, 2)
    arrays, labels = test.arrays()
    assert labels.tolist() == [0, 1]
    assert {tuple(map(int, i)) for i in np.argwhere(arrays["x"])} == {
        (n, *frame) for n in (0, 1) for frame in ((0, 0, 0, 9), (1, 1, 1, 9))
    }
    small, _ = open_data("cifar10_dvs48", split="test", steps=2).arrays()
    assert small["x"].shape == (2, 2, 2, 48, 48)
    assert {tuple(map(int, i)) for i in np.argwhere(small["x"])} == {  # 9*48 // 128 = 3
        (n, *frame) for n in (0, 1) for frame in ((0, 0, 0, 3), (1, 1, 0, 3))
    }


def test_dvs_recordings_come_through_tonics_data_class(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "CIFAR10DVS").mkdir()
    monkeypatch.setitem(sys.modules, "tonic.datasets", None)
    with pytest.raises(EnvironmentFault, match="pip install tonic"):
        open_data("cifar10_dvs", steps=2)

    class CIFAR10DVS:  # what tonic's class offers: paths in any order, labels, structured events
        classes: ClassVar[dict[str, int]] = {"airplane": 0, "cat": 1}

        def __init__(self, save_to: str) -> None:
            assert Path(save_to, type(self).__name__) == root / "CIFAR10DVS"  # where it looks
            assert self._check_exists()  # otherwise it would download
            self.data = [f"{c}/{i}.aedat4" for i in reversed(range(10)) for c in self.classes] if filled else []
            self.targets = [self.classes[path.split("/")[0]] for path in self.data]

        def _check_exists(self) -> bool:
            return False

        def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
            i = int(Path(self.data[index]).stem)
            dtype = [("t", np.uint64), ("x", np.uint16), ("y", np.uint16), ("p", bool)]
            return np.array([(50, 10 * i, 0, False), (149, 10 * i, 100, True)], dtype), self.targets[index]

    module = types.ModuleType("tonic.datasets")
    module.CIFAR10DVS = CIFAR10DVS  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tonic", types.ModuleType("tonic"))
    monkeypatch.setitem(sys.modules, "tonic.datasets", module)
    filled = False
    with pytest.raises(InputError, match="no recordings"):
        open_data("cifar10_dvs", steps=2)
    filled = True
    train, test = (open_data("cifar10_dvs48", split=s, steps=2) for s in ("train", "test"))
    assert (train.total, test.total, test.classes[1]) == (18, 2, "cat")
    arrays, labels = test.arrays()
    assert labels.tolist() == [0, 1]
    assert {tuple(map(int, i)) for i in np.argwhere(arrays["x"])} == {  # 90*48 // 128 = 33, 100*48 // 128 = 37
        (n, *frame) for n in (0, 1) for frame in ((0, 0, 0, 33), (1, 1, 37, 33))
    }


def test_picture_folders_are_resized_and_cropped(root: Path) -> None:
    for name, colour in (("n01", (255, 0, 0)), ("n02", (0, 0, 255))):
        folder = root / "imagenet200" / "val" / name
        folder.mkdir(parents=True)
        Image.new("RGB", (300, 500), colour).save(folder / "a.png")
    found = open_data("imagenet200")
    arrays, labels = found.arrays()
    assert arrays["x"].shape == (2, 3, 64, 64)
    folder.parent.parent.rename(root / "imagenet")
    assert open_data("imagenet").arrays()[0]["x"].shape == (2, 3, 224, 224)
    (root / "imagenet").rename(root / "imagenet200")
    assert arrays["x"].dtype == np.uint8
    assert labels.tolist() == [0, 1]
    assert (arrays["x"][0, 0] == 255).all()
    assert (arrays["x"][1, 2] == 255).all()
    (root / "imagenet200" / "val" / "n01" / "a.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="not a readable picture"):
        found.arrays()
    with pytest.raises(InputError, match="no such folder"):
        open_data("imagenet200", split="train")


@pytest.mark.data
@pytest.mark.skipif(not REAL, reason="needs the real data sets: set SNN2CHIP_DATA")
@pytest.mark.parametrize(
    ("name", "total", "first"),
    [
        ("mnist", 10_000, [7, 2, 1, 0]),
        ("fashion_mnist", 10_000, [9, 2, 1, 1]),
        ("cifar10", 10_000, [3, 8, 8, 0]),
        ("nmnist", 100, [7, 2, 1, 0]),
    ],
)
def test_real_data_sets(name: str, total: int, first: list[int]) -> None:
    found = open_data(name, steps=10 if name == "nmnist" else None)
    arrays, labels = found.take(4).arrays()
    assert found.total == total
    assert labels.tolist() == first
    assert len(arrays["x"]) == 4
    assert arrays["x"].any()
