"""Damaged and hostile files end in one FileFormatError that names every place; nothing is read from elsewhere."""

from __future__ import annotations

import tracemalloc

import h5py
import numpy as np
import pytest

from snn2chip.errors import FileFormatError, InputError
from snn2chip.frontends.netx import import_netx


def edit(path, change):
    with h5py.File(path, "a") as file:
        change(file)
    return path


def put(file, where, value, **options):
    if where in file:
        del file[where]
    file.create_dataset(where, data=value, **options)


def sound(net, files):
    """A file with every kind of layer."""
    return net(
        files.inputs((2, 4, 4), weight=np.array([3.0]), bias=np.array([1.0]), neuron=files.neuron()),
        files.conv(np.ones((2, 2, 3, 3)), (2, 2, 2), bias=np.array([1, 2])),
        files.flatten(),
        files.dense(np.ones((3, 8)), delay=np.array([0, 1, 2]), bias=np.array([1, 2, 3])),
    )


def test_the_file_is_sound_before_it_is_damaged(net, files):
    assert [s.name for s in import_netx(sound(net, files)).somas] == ["layer0", "layer1", "layer3"]


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n", b"PK\x03\x04" + b"\0" * 600, b"x" * 5000])
def test_not_hdf5(tmp_path, content):
    path = tmp_path / "x.net"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"x\.net: damaged, truncated or not a \.net"):
        import_netx(path, steps=2)


def test_no_such_file_and_a_folder(tmp_path):
    for path in (tmp_path / "none.net", tmp_path):
        with pytest.raises(FileFormatError, match="no such file"):
            import_netx(path, steps=2)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated(net, files, share):
    path = sound(net, files)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(FileFormatError, match="truncated"):
        import_netx(path, steps=2)


def test_a_text_heap_that_would_hang_the_library(net, files):
    """The free rest of the heap given the size 0: libhdf5 would step over it for ever."""
    path = sound(net, files)
    data = bytearray(path.read_bytes())
    at = data.index(b"GCOL") + 16
    while int.from_bytes(data[at : at + 2], "little"):
        at += 16 + (int.from_bytes(data[at + 8 : at + 16], "little") + 7) // 8 * 8
    data[at + 8 : at + 16] = bytes(8)
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match="damaged text heap"):
        import_netx(path, steps=2)


def test_a_text_beyond_its_heap_that_would_crash_the_library(net, files):
    """The first text given a size of 2^40: libhdf5 would read that far."""
    path = sound(net, files)
    data = bytearray(path.read_bytes())
    at = data.index(b"GCOL") + 16
    data[at + 8 : at + 16] = (1 << 40).to_bytes(8, "little")
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match="damaged text heap"):
        import_netx(path, steps=2)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda f: f.pop("layer"), "/layer: missing"),
        (lambda f: f.move("layer/3", "layer/4"), r"/layer: entries must be numbered"),
        (lambda f: f.create_group("layer/abc"), r"/layer: entries must be numbered"),
        (lambda f: [f.pop(f"layer/{i}") for i in range(4)], r"/layer: entries must be numbered .* got none"),
        (lambda f: f.pop("layer/3/weight"), r"/layer/3 \(dense\): 'weight' is missing"),
        (lambda f: f.pop("layer/1/shape"), r"/layer/1 \(conv\): 'shape' is missing"),
        (lambda f: f.pop("layer/1/neuron"), r"/layer/1 \(conv\): 'neuron' is missing"),
        (lambda f: f.pop("layer/1/stride"), r"/layer/1 \(conv\): 'stride' is missing"),
        (lambda f: f.pop("layer/1/type"), "/layer/1/type: expected a plain dataset"),
        (lambda f: f.pop("layer/3/neuron/vDecay"), r"/layer/3 \(dense\): neuron/vDecay is missing"),
        (lambda f: put(f, "layer/1/type", 7), "/layer/1/type: expected a text, got"),
        (lambda f: put(f, "layer/3", 1.0), "/layer/3: expected a group"),
        (lambda f: put(f, "layer/3/neuron", 1.0), "/layer/3/neuron: expected a group"),
        (lambda f: put(f, "layer/3/weight", np.full((3, 8), np.nan)), "/layer/3/weight: holds NaN or infinite"),
        (lambda f: put(f, "layer/3/weight", np.full((3, 8), -np.inf)), "/layer/3/weight: holds NaN or infinite"),
        (lambda f: put(f, "layer/3/bias", np.array([1, np.nan, 3])), "/layer/3/bias: holds NaN"),
        (lambda f: put(f, "layer/3/weight", np.full((3, 8), 1e30)), "/layer/3/weight: values beyond"),
        (
            lambda f: put(f, "layer/3/weight", np.ones((3, 8), complex)),
            "/layer/3/weight: expected numbers, got complex128",
        ),
        (lambda f: put(f, "layer/3/weight", np.zeros((0, 8))), "/layer/3/weight: expected numbers"),
        (lambda f: put(f, "layer/3/weight", h5py.Empty("f8")), "/layer/3/weight: expected a plain dataset"),
        (lambda f: put(f, "layer/3/weight", "text"), "/layer/3/weight: expected numbers"),
        (lambda f: put(f, "layer/3/weight", np.ones((3, 9))), r"weight \(3, 9\) does not map 8 inputs to 3 neurons"),
        (lambda f: put(f, "layer/3/weight", np.ones(7)), r"weight \(7,\) does not map 8 inputs"),
        (lambda f: put(f, "layer/1/weight", np.ones((2, 3, 3, 3))), "does not fit 2 source channels"),
        (lambda f: put(f, "layer/1/weight", np.ones((2, 2, 3))), "do not make a convolution"),
        (lambda f: put(f, "layer/1/weight", np.ones((2, 2, 9, 9))), "larger than the padded source"),
        (
            lambda f: put(f, "layer/1/shape", [2, 2, 3]),
            r"declares neurons \(2, 2, 3\), but its synapse makes \(2, 2, 2\)",
        ),
        (lambda f: put(f, "layer/1/shape", [2, -2, 2]), "/layer/1/shape: expected up to 4 positive sizes"),
        (lambda f: put(f, "layer/1/shape", [1 << 30] * 3), "/layer/1/shape: expected up to 4 positive sizes"),
        (lambda f: put(f, "layer/1/stride", [0, 1]), "do not make a convolution"),
        (lambda f: put(f, "layer/1/groups", -1), "do not make a convolution"),
        (lambda f: put(f, "layer/1/stride", [1, 1, 1]), "stride must be one number or two, got 3"),
        (lambda f: put(f, "layer/1/padding", [0.5, 0.5]), "/layer/1/padding: expected whole numbers"),
        (lambda f: put(f, "layer/1/bias", np.ones(5)), r"bias has shape \(5,\); expected one value per channel \(2\)"),
        (lambda f: put(f, "layer/3/delay", np.ones(5)), r"delay \(5,\) fits neither 3 targets nor 8 sources"),
        (lambda f: put(f, "layer/3/delay", [-1, 0, 0]), "delay -1 is negative"),
        (lambda f: put(f, "layer/3/neuron/iDecay", 4097), "iDecay = 4097 is outside 0..4096"),
        (lambda f: put(f, "layer/3/neuron/vDecay", -1), "vDecay = -1 is outside 0..4096"),
        (lambda f: put(f, "layer/3/neuron/vThMant", -(1 << 18)), "vThMant = -262144 is outside 24 bits"),
        (lambda f: put(f, "layer/3/neuron/vThMant", [1, 2]), r"vThMant has 2 values; expected 1 or 3"),
        (lambda f: put(f, "layer/3/neuron/iDecay", 0.5), "/layer/3/neuron/iDecay: expected whole numbers"),
        (lambda f: f.pop("layer/0/shape"), r"/layer/0 \(input\): input neurons need a shape"),
        (lambda f: put(f, "layer/0/weight", [1.0, 2.0]), "the input transform needs one weight and one bias"),
    ],
)
def test_damage_is_named(net, files, change, text):
    with pytest.raises(FileFormatError, match=text):
        import_netx(edit(sound(net, files), change), steps=2)


def test_a_flatten_layer_cannot_be_left_out(net, files):
    """Without it the order of the conv's neurons is open; NetX cannot connect such layers either."""
    path = net(files.inputs((1, 2, 2)), files.conv(np.ones((1, 1, 1, 1)), (1, 2, 2)), files.dense(np.ones((1, 4))))
    with pytest.raises(
        FileFormatError, match=r"/layer/2 \(dense\): reads \(1, 2, 2\); a flatten layer must stand between"
    ):
        import_netx(path)
    with pytest.raises(FileFormatError, match=r"a conv maps \(C, H, W\) to \(C, H, W\), got \(3,\)"):
        import_netx(net(files.dense(np.ones((3, 2))), files.conv(np.ones((1, 1, 1, 1)), (1, 2, 2))))


def test_all_damage_is_in_one_error(net, files):
    def change(file):
        put(file, "layer/3/weight", np.full((3, 8), np.nan))
        put(file, "layer/1/padding", [0.5, 0.5])
        del file["layer/1/neuron"]

    with pytest.raises(FileFormatError, match="3 problems in the file") as caught:
        import_netx(edit(sound(net, files), change), steps=2)
    assert str(caught.value).count("\n") == 3


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_huge_declared_shapes_are_not_allocated(net, files, compression):
    """10^12 declared weights, and 10^8 that fit the limit but are not stored: refused without touching memory."""
    for shape, text in (((10**6, 10**6), "a file may hold"), ((10**4, 10**4), "stores only 0 bytes")):
        path = sound(net, files)
        with h5py.File(path, "a") as file:
            del file["layer/3/weight"]
            file.create_dataset("layer/3/weight", shape, "f4", chunks=(1000, 1000), compression=compression)
        tracemalloc.start()
        with pytest.raises(FileFormatError, match=text):
            import_netx(path, steps=2)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2_000_000


def test_links_to_other_files_are_not_followed(net, files, tmp_path):
    """External, soft and virtual data could show the content of files the user never named."""
    other = tmp_path / "secret.h5"
    with h5py.File(other, "w") as file:
        file["weight"] = np.ones((3, 8))
        file.create_group("layer")
    raw = tmp_path / "secret.bin"
    raw.write_bytes(np.ones(24).tobytes())
    layout = h5py.VirtualLayout((3, 8), "f8")
    layout[:] = h5py.VirtualSource(str(other), "weight", (3, 8))
    ways = {
        "external link": lambda f: f.__setitem__("layer/3/weight", h5py.ExternalLink(str(other), "weight")),
        "soft link": lambda f: f.__setitem__("layer/3/weight", h5py.SoftLink("/layer/1/weight")),
        "virtual": lambda f: f.create_virtual_dataset("layer/3/weight", layout),
        "external data": lambda f: f.create_dataset("layer/3/weight", (3, 8), "f8", external=[(str(raw), 0, 192)]),
    }
    for way in ways.values():
        path = sound(net, files)
        with h5py.File(path, "a") as file:
            del file["layer/3/weight"]
            way(file)
        with pytest.raises(FileFormatError, match="/layer/3/weight: expected a plain dataset stored in this file"):
            import_netx(path, steps=2)
    path = edit(sound(net, files), lambda f: f.pop("layer"))
    with h5py.File(path, "a") as file:
        file["layer"] = h5py.ExternalLink(str(other), "layer")
    with pytest.raises(FileFormatError, match="/layer: missing"):
        import_netx(path, steps=2)


@pytest.mark.parametrize(("t_sample", "ts"), [(0, 1), (-5, 1), (np.nan, 1), (10**9, 1), (16, 0)])
def test_unusable_sample_length(net, files, t_sample, ts):
    path = sound(net, files)
    with h5py.File(path, "a") as file:
        put(file, "simulation/tSample", t_sample)
        put(file, "simulation/Ts", ts)
    with pytest.raises((FileFormatError, InputError), match="tSample"):
        import_netx(path)
