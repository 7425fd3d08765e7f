"""Sound inputs of every door, small and made here: each is taken in before anything is damaged."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

IDENTITY = {"recipe": {"name": "digits", "epochs": 2}, "data": "0" * 64, "init": None}
"""What a run that goes on from a resume file says about itself."""


@lru_cache(maxsize=1)
def small_model() -> Any:
    """A perceptron with one layer of neurons."""
    import torch

    from snn2chip.checkpoint import build_model

    torch.manual_seed(0)
    return build_model("mlp", args={"input_shape": [1, 2, 3], "hidden": [5], "classes": 3})


@lru_cache(maxsize=1)
def small_program() -> Any:
    """A program of two layers from spikes."""
    from snn2chip.ir.nodes import Input, Output, Synapse
    from snn2chip.ir.program import Program
    from snn2chip.ir.soma import Soma

    rng = np.random.default_rng(3)
    nodes: list[Any] = [
        Input("in", (6,), 0, 1, coding="steps"),
        Synapse("w1", "linear", rng.integers(-60, 90, (5, 6))),
        Soma("n1", (5,), theta=64 * 50 + 1, leak=3000, gain=64, bias=640, reset="zero", payload_bits=1),
        Synapse("w2", "linear", rng.integers(-60, 90, (3, 5))),
        Soma("n2", (3,), fire="none"),
        Output("out", "potential"),
    ]
    return Program(nodes=nodes, edges=[(a.name, b.name) for a, b in pairwise(nodes)], steps=4)


def _written(folder: Path, name: str, write: Callable[[Path], Any]) -> bytes:
    path = folder / name
    write(path)
    data = path.read_bytes()
    path.unlink()
    return data


def programs(folder: Path) -> list[bytes]:
    """Random programs, one with golden vectors, one with a mapping."""
    from snn2chip.golden import save_program
    from snn2chip.mapping.assign import map_program
    from snn2chip.testing.programs import random_program

    made = [random_program(seed).program for seed in (1, 2, 5, 11)]
    mapped = map_program(small_program(), "loihi2").attached()
    plain = [_written(folder, "a.s2c", lambda path, p=p: save_program(p, path)) for p in (*made, mapped)]  # type: ignore[misc]
    return [*plain, _written(folder, "a.s2c", lambda path: save_program(small_program(), path, golden=2))]


def _header(**more: Any) -> Any:
    from snn2chip.checkpoint_header import CheckpointHeader, InputSpec

    args = {"input_shape": [1, 2, 3], "hidden": [5], "classes": 3}
    spec = InputSpec(shape=(1, 2, 3), scale=1 / 16)
    plain = {"model": "mlp", "args": args, "method": "lmht", "T": 2, "L": 2, "input": spec, "classes": ("a", "b", "c")}
    return CheckpointHeader(**{**plain, **more})


def checkpoints(folder: Path) -> list[bytes]:
    """A zoo model and a converted network with its layers."""
    from snn2chip.checkpoint import save_checkpoint, save_graph
    from snn2chip.checkpoint_header import InputSpec
    from snn2chip.testing.float_graphs import net
    from snn2chip.testing.graphs import chain

    neurons = [m for m in small_model().modules() if hasattr(m, "levels")]
    header = _header(L=neurons[0].levels, T=neurons[0].steps)
    made = [_written(folder, "a.safetensors", lambda path: save_checkpoint(path, small_model(), header))]
    for graph in (net("lif", 1)[0], chain(2)):
        head = _header(input=InputSpec(shape=graph.input.shape), classes=tuple(map(str, range(graph_classes(graph)))))
        made.append(_written(folder, "a.safetensors", lambda path, g=graph, h=head: save_graph(path, g, h)))  # type: ignore[misc]
    return made


def graph_classes(graph: Any) -> int:
    """How many classes a network tells apart."""
    return int(graph.shapes[graph.output.name][0])


def _saved(value: Any, **options: Any) -> bytes:
    import torch

    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


def state_dicts(folder: Path) -> list[bytes]:
    """A plain state_dict."""
    return [_saved(small_model().state_dict())]


def old_state_dicts(folder: Path) -> list[bytes]:
    """The same in the form before zip archives."""
    return [_saved(small_model().state_dict(), _use_new_zipfile_serialization=False)]


def foreign_files(folder: Path) -> list[bytes]:
    """State dicts of others: wrapped, prefixed, plain."""
    state = {f"module.{name}": value for name, value in small_model().state_dict().items()}
    return [_saved({"model": state, "epoch": 3}), _saved(state)]


def resume_files(folder: Path) -> list[bytes]:
    """A resume file with what it says about its run."""
    from snn2chip.train.resume import KEY

    return [_saved({KEY: {"identity": json.dumps(IDENTITY), "epoch": 1, "done": 7}, "state": {}})]


def _npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def _rng() -> Any:
    return np.random.default_rng(7)


def sample_files(folder: Path) -> list[bytes]:
    """Samples with and without labels, of three types."""
    x = _rng().integers(0, 16, (20, 2, 3))
    return [_npz(x=x.astype(np.uint8), y=np.arange(20) % 3), _npz(x=x / 16.0), _npz(x=np.asfortranarray(x))]


def mnist_files(folder: Path) -> list[bytes]:
    """Pixels and labels."""
    return [_npz(x_test=_rng().integers(0, 255, (20, 5, 5)).astype(np.uint8), y_test=(np.arange(20) % 10).astype("u1"))]


def cifar_files(folder: Path) -> list[bytes]:
    """One mosaic of 1000 pictures."""
    from PIL import Image

    stream = io.BytesIO()
    Image.new("RGB", (40 * 32, 25 * 32), (10, 20, 30)).save(stream, "webp")
    webp = np.frombuffer(stream.getvalue(), np.uint8)
    labels = (np.arange(1000) % 10).astype("u1")
    return [_npz(webp=webp, offsets=np.array([0, len(webp)]), y=labels, classes=np.array(["a", "b"]))]


def event_files(folder: Path) -> list[bytes]:
    """Three recordings of N-MNIST."""
    n, rng = 90, _rng()
    arrays = {f"ev_{k}_test": rng.integers(0, 34 if k in "xy" else 2, n).astype("u1") for k in "xyp"}
    arrays["ev_dt_test"] = rng.integers(0, 9000, n).astype("u2")
    return [_npz(**arrays, offsets_test=np.array([0, 30, 60, 90]), label_test=np.array([1, 2, 3], "u1"))]


def trace_files(folder: Path) -> list[bytes]:
    """What another simulator recorded of the small program."""
    import snn2chip
    from snn2chip.checks.outside import write_trace

    x = _rng().integers(0, 2, (4, 3, 6))
    trace = snn2chip.run(small_program(), x, backend="reference", record="all", time_axis=True)
    return [_written(folder, "a.npz", lambda path: write_trace(path, trace))]


def idx_files(folder: Path) -> list[bytes]:
    """Two pictures as MNIST has them; their labels lie beside them."""
    place = folder / "set"
    place.mkdir(exist_ok=True)
    (place / "t10k-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01\0\0\0\x02\1\2")
    return [b"\0\0\x08\x03\0\0\0\x02\0\0\0\x04\0\0\0\x04" + bytes(range(32))]


def event_bytes(folder: Path) -> list[bytes]:
    """Events of 40 bits."""
    return [bytes(n % 34 if i % 5 < 2 else n % 256 for i, n in enumerate(range(100)))]


def dvs_files(folder: Path) -> list[bytes]:
    """One recording of CIFAR10-DVS; nine more lie beside it, so that it is one of the tests."""
    rng = _rng()
    made = _npz(**{k: rng.integers(0, 128 if k in "xy" else 2 if k == "p" else 9000, 40) for k in "txyp"})
    place = folder / "set" / "a"
    place.mkdir(parents=True, exist_ok=True)
    for index in range(9):
        (place / f"0{index}.npz").write_bytes(made)
    return [made]


def pictures(folder: Path) -> list[bytes]:
    """A small picture in two formats."""
    from PIL import Image

    made: list[bytes] = []
    for kind in ("png", "png"):
        stream = io.BytesIO()
        Image.new("RGB" if not made else "L", (9, 7)).save(stream, kind)
        made.append(stream.getvalue())
    return made


def nir_files(folder: Path) -> list[bytes]:
    """Networks as other frameworks write them (our own notes taken out), one with its notes, one that hears itself, a
    program."""
    import h5py

    from snn2chip.interop.nir_graph import export_graph
    from snn2chip.interop.nir_program import export_program
    from snn2chip.testing.float_graphs import net

    def stripped(path: Path, kind: str) -> None:
        export_graph(net(kind, 1)[0], path)
        with h5py.File(path, "r+") as file:
            del file["node/metadata"]

    def recurrent(path: Path) -> None:
        from snn2chip.interop.nir_write import write_nir

        rng = _rng()
        lif: dict[str, Any] = {"tau": 4e-4, "r": 4.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0}
        nodes: dict[str, Any] = {
            "input": {"type": "Input", "shape": np.array([4])},
            "fc": {"type": "Affine", "weight": rng.normal(size=(5, 4)), "bias": rng.normal(size=5)},
            "lif": {"type": "LIF", **{key: np.full(5, value) for key, value in lif.items()}},
            "back": {"type": "Affine", "weight": rng.normal(size=(5, 5)), "bias": rng.normal(size=5)},
            "output": {"type": "Output", "shape": np.array([5])},
        }
        write_nir(path, nodes, [*pairwise(("input", "fc", "lif", "output")), ("lif", "back"), ("back", "lif")])

    made = [_written(folder, "a.nir", lambda path, k=k: stripped(path, k)) for k in ("lif", "hard")]  # type: ignore[misc]
    made.append(_written(folder, "a.nir", recurrent))
    made.append(_written(folder, "a.nir", lambda path: export_graph(net("lif", 2, residual=True)[0], path)))
    return [*made, _written(folder, "a.nir", lambda path: export_program(small_program(), path))]


def netx_files(folder: Path) -> list[bytes]:
    """A dense network, a convolution before a dense layer, sigma-delta neurons with a loop; a pool and an average."""
    import h5py

    from snn2chip.interop.netx import export_netx

    def pooled(path: Path) -> None:
        export_netx(_conv(), path)
        with h5py.File(path, "r+") as file:
            layers = file["layer"]
            last = len(layers)
            for index in range(last - 1, 1, -1):
                layers.move(str(index), str(index + 1))
            pool, average = layers.create_group("2"), layers.create_group(str(last + 1))
            layers.copy("1/neuron", pool)
            fields = {"shape": [4, 3, 2], "weight": np.ones((1, 1, 1, 1)), "stride": [1, 1], "padding": [0, 0]}
            for key, value in {**fields, "dilation": [1, 1]}.items():
                pool.create_dataset(key, data=value)
            average.create_dataset("shape", data=[3, 1, 1])
            for group, kind in ((pool, b"pool"), (average, b"average")):
                group.create_dataset("type", (1,), "S10", [kind])

    made = [_written(folder, "a.net", partial(export_netx, p)) for p in (small_program(), _conv(), _changes())]
    return [*made, _written(folder, "a.net", pooled)]


def _conv() -> Any:
    from snn2chip.ir.nodes import Input, Output, Synapse
    from snn2chip.ir.program import Program
    from snn2chip.ir.soma import Soma

    rng = np.random.default_rng(4)
    nodes: list[Any] = [
        Input("in", (2, 5, 4), 0, 1, coding="steps"),
        Synapse("c1", "conv2d", rng.integers(-60, 90, (4, 2, 3, 3)), padding=1, stride=2),
        Soma("n1", (4, 3, 2), theta=80, bias=np.array([3, -2, 0, 9]), reset="zero", payload_bits=1),
        Synapse("fc", "linear", rng.integers(-60, 90, (3, 24))),
        Soma("n2", (3,), fire="none"),
        Output("out", "potential"),
    ]
    return Program(nodes=nodes, edges=[(a.name, b.name) for a, b in pairwise(nodes)], steps=4)


def _changes() -> Any:
    """An encoder, a layer of sigma-delta neurons that hears itself, a sum."""
    from snn2chip.ir.nodes import Input, Output, Synapse
    from snn2chip.ir.program import Edge, Program
    from snn2chip.ir.soma import Soma

    rng = np.random.default_rng(5)
    fields: dict[str, Any] = {"fire": "delta", "reset": "keep", "leak": 0}
    nodes: list[Any] = [
        Input("in", (2, 3, 2), -50, 50, coding="steps"),
        Synapse("one", "identity"),
        Soma("enc", (2, 3, 2), gain=64, theta=128, **fields),
        Synapse("w", "linear", rng.integers(-20, 20, (4, 12))),
        Soma("n", (4,), theta=4096, syn_leak=4096, v_min=0, delta_shift=6, bias=4096 * np.arange(4), **fields),
        Synapse("last", "linear", rng.integers(-20, 20, (2, 4))),
        Soma("sum", (2,), fire="none"),
        Output("out", "potential"),
    ]
    late = ("w", "last")
    edges = [Edge(a.name, b.name, int(b.name in late)) for a, b in pairwise(nodes)]
    back = Synapse("back", "linear", rng.integers(-9, 9, (4, 4)))
    return Program(nodes=[*nodes, back], edges=[*edges, Edge("n", "back", 1), Edge("back", "n")], steps=4)


def onnx_files(folder: Path) -> list[bytes]:
    """A small convolutional network with a branch, a pool, a norm and a reshape."""
    from onnx import TensorProto, helper, numpy_helper

    rng = _rng()

    def number(name: str, *shape: int) -> Any:
        return numpy_helper.from_array(abs(rng.normal(size=shape)).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "s", "s", "s", "s"], ["n"]),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("Conv", ["r", "w2"], ["c2"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c2", "r"], ["a"]),
        helper.make_node("Relu", ["a"], ["r2"]),
        helper.make_node("AveragePool", ["r2"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Reshape", ["p", "to"], ["f"]),
        helper.make_node("Gemm", ["f", "g"], ["y"], transB=1),
    ]
    to = numpy_helper.from_array(np.array([0, -1], np.int64), "to")
    weights = [
        number("w", 3, 2, 3, 3),
        number("b", 3),
        number("s", 3),
        number("w2", 3, 3, 3, 3),
        number("g", 4, 12),
        to,
    ]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, 4, 4])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])
    graph = helper.make_graph(nodes, "small", [given], [made], weights)
    return [helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()]


def recipes(folder: Path) -> list[bytes]:
    """Recipes of the zoo, partial ones too."""
    from importlib import resources

    place = resources.files("snn2chip_models") / "recipes"
    names = ("digits", "mnist", "cifar10-small-hybrid", "empf-cifar10-resnet18-seca", "nmnist", "digits-int4")
    return [(place / f"{name}.toml").read_bytes() for name in names]


def targets(folder: Path) -> list[bytes]:
    """A whole target, and one that builds on another."""
    from importlib import resources

    whole = (resources.files("snn2chip.mapping") / "targets" / "loihi2.toml").read_bytes()
    own = b'base = "loihi2"\nname = "mine"\ntitle = "of my own"\n[sources]\nmine = "measured"\n'
    return [whole, own]


def widths(folder: Path) -> list[bytes]:
    """Widths by layer."""
    return [b'weights = "int8"\nbias_correction = true\nrounding = "fitted"\n[layers."layer1.*"]\nweights = "int4"\n']


def manifests(folder: Path) -> list[bytes]:
    """The manifest of an empty folder of artifacts."""
    from snn2chip.artifacts import FORMAT, VERSION

    files = {"page.html": {"what": "a page", "bytes": 0, "sha256": "0" * 64}}
    return [json.dumps({"format": FORMAT, "version": VERSION, "files": files}).encode()]


def values(folder: Path) -> list[bytes]:
    """Values of environment variables."""
    return [b"", b"3:9", b"/nowhere", b"data"]


def words(folder: Path) -> list[bytes]:
    """Words of the command line."""
    return [b"json:loads", b"-4,4", b"digits", b"int8", b"31", b"zero"]
