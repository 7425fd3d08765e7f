"""ONNX files against the library's own reference evaluator, and what is refused."""

from __future__ import annotations

import inspect
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from snn2chip.errors import FileFormatError, UnsupportedError
from snn2chip.ir.layers import ReluLayer

onnx = pytest.importorskip("onnx", reason="needs the onnx package (extra `onnx`)")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from snn2chip.frontends.onnx import read_onnx  # noqa: E402

RNG = np.random.default_rng(7)
SHAPE = (3, 8, 8)


def number(name: str, *shape: int, kind: Any = np.float32) -> Any:
    """A stored tensor."""
    return numpy_helper.from_array(RNG.normal(size=shape).astype(kind), name)


def whole(name: str, values: list[int]) -> Any:
    """A stored tensor of indexes."""
    return numpy_helper.from_array(np.array(values, np.int64), name)


def written(
    path: Path,
    nodes: list[Any],
    weights: list[Any] = (),  # type: ignore[assignment]
    *,
    shape: tuple[Any, ...] = ("N", *SHAPE),
    opset: int = 17,
    outputs: tuple[str, ...] = ("y",),
) -> Path:
    """Save a file of these operations from `x` to the outputs."""
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        list(weights),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    onnx.save(model, str(path))
    return path


def agrees(path: Path, shape: tuple[int, ...] = SHAPE, *, features: Any = None) -> Any:
    """Read a file and compare with the evaluator on 3 samples; return the graph."""
    graph = read_onnx(path)
    x = RNG.normal(size=(3, *shape)).astype(np.float32)
    (want,) = ReferenceEvaluator(str(path)).run(None, {"x": x})
    got = graph.run(torch.from_numpy(x)).output.numpy()
    want = want if features is None else features(want)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    return graph


NODES = {
    "conv": ([("Conv", ["x", "w", "b"], {"pads": [1, 1, 1, 1], "strides": [2, 2]})], {"w": (4, 3, 3, 3), "b": (4,)}),
    "conv-same": ([("Conv", ["x", "w"], {"auto_pad": "SAME_UPPER"})], {"w": (4, 3, 3, 3)}),
    "conv-groups": ([("Conv", ["x", "w"], {"group": 3, "dilations": [2, 1]})], {"w": (6, 1, 3, 2)}),
    "relu": ([("Relu", ["x"], {})], {}),
    "average": ([("AveragePool", ["x"], {"kernel_shape": [2, 2], "strides": [2, 2]})], {}),
    "average-padded": (
        [("AveragePool", ["x"], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1})],
        {},
    ),
    "average-ceil": ([("AveragePool", ["x"], {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1})], {}),
    "maximum": ([("MaxPool", ["x"], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]})], {}),
    "global": ([("GlobalAveragePool", ["x"], {})], {}),
    "mean": ([("ReduceMean", ["x"], {"axes": [2, 3], "keepdims": 0})], {}),
    "mean-negative": ([("ReduceMean", ["x"], {"axes": [-1, -2]})], {}),
    "flatten": ([("Flatten", ["x"], {})], {}),
    "dropout": ([("Dropout", ["x"], {})], {}),
    "add": ([("Relu", ["x"], {}), ("Add", ["t0", "x"], {})], {}),
    "concat": ([("Relu", ["x"], {}), ("Concat", ["t0", "x"], {"axis": 1})], {}),
    "shift": ([("Add", ["x", "c"], {})], {"c": (3, 1, 1)}),
    "shift-left": ([("Sub", ["c", "x"], {})], {"c": (1, 3, 1, 1)}),
    "factor": ([("Mul", ["c", "x"], {})], {"c": ()}),
    "divide": ([("Div", ["x", "c"], {})], {"c": (3, 1, 1)}),
    "gemm": (
        [("Flatten", ["x"], {}), ("Gemm", ["t0", "w", "b"], {"transB": 1, "alpha": 0.5, "beta": 2.0})],
        {"w": (5, 192), "b": (5,)},
    ),
    "gemm-plain": ([("Flatten", ["x"], {}), ("Gemm", ["t0", "w", "b"], {})], {"w": (192, 5), "b": (1, 5)}),
    "matmul": (
        [("Flatten", ["x"], {}), ("MatMul", ["t0", "w"], {}), ("Add", ["t1", "b"], {})],
        {"w": (192, 5), "b": (5,)},
    ),
    "folded": (
        [("Transpose", ["w"], {"perm": [1, 0]}), ("Flatten", ["x"], {}), ("MatMul", ["t1", "t0"], {})],
        {"w": (5, 192)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NODES)
def test_operation(name: str, tmp_path: Path) -> None:
    """Every operation means what the evaluator says."""
    nodes, weights = NODES[name]
    last = len(nodes) - 1
    made = [
        helper.make_node(kind, inputs, ["y" if i == last else f"t{i}"], name=f"n{i}", **fields)
        for i, (kind, inputs, fields) in enumerate(nodes)
    ]
    agrees(written(tmp_path / "net.onnx", made, [number(k, *shape) for k, shape in weights.items()]))


def test_one_axis(tmp_path: Path) -> None:
    """Convolutions and pools over one axis."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["t"], pads=[1, 1], strides=[2]),
        helper.make_node("Relu", ["t"], ["u"]),
        helper.make_node("AveragePool", ["u"], ["y"], kernel_shape=[2], strides=[2]),
    ]
    agrees(written(tmp_path / "n.onnx", nodes, [number("w", 4, 3, 3)], shape=("N", 3, 16)), (3, 16))


def test_norm(tmp_path: Path) -> None:
    """Batch norm with its own eps."""
    weights = [number(k, 3) for k in "gbm"] + [numpy_helper.from_array(np.array([0.5, 2, 1], np.float32), "v")]
    node = helper.make_node("BatchNormalization", ["x", "g", "b", "m", "v"], ["y"], epsilon=0.01)
    agrees(written(tmp_path / "n.onnx", [node], weights))


@pytest.mark.parametrize(("opset", "top"), [(6, 6.0), (17, 6.0), (17, None)])
def test_clip(opset: int, top: float | None, tmp_path: Path) -> None:
    """Clip(0, c) is a ReLU with a ceiling, in both spellings."""
    if opset == 6:
        node, weights = helper.make_node("Clip", ["x"], ["y"], min=0.0, max=top), []
    else:
        weights = [numpy_helper.from_array(np.float32(v), k) for k, v in (("lo", 0.0), ("hi", top)) if v is not None]
        node = helper.make_node("Clip", ["x", "lo", "hi"] if top else ["x", "lo"], ["y"])
    graph = agrees(written(tmp_path / "n.onnx", [node], weights, opset=opset))
    (layer,) = graph.of_kind("relu")
    assert isinstance(layer, ReluLayer)
    assert layer.top == top


@pytest.mark.parametrize("target", [[1, -1], [-1, 192], [0, -1], [1, 192], [7, 192], [0, 192]])
def test_reshape_flattens(target: list[int], tmp_path: Path) -> None:
    """However the target was written, all features end in one axis."""
    node = helper.make_node("Reshape", ["x", "s"], ["y"])
    graph = read_onnx(written(tmp_path / "n.onnx", [node], [whole("s", target)]))
    x = torch.randn(3, *SHAPE)
    assert torch.equal(graph.run(x).output, x.flatten(1))


def test_computed_shape(tmp_path: Path) -> None:
    """x.view(x.size(0), -1) with an open batch: Shape, Gather, Unsqueeze, Concat, Reshape."""
    nodes = [
        helper.make_node("Shape", ["x"], ["a"]),
        helper.make_node("Gather", ["a", "zero"], ["b"], axis=0),
        helper.make_node("Unsqueeze", ["b", "axes"], ["c"]),
        helper.make_node("Concat", ["c", "rest"], ["d"], axis=0),
        helper.make_node("Reshape", ["x", "d"], ["y"]),
    ]
    zero = numpy_helper.from_array(np.array(0, np.int64), "zero")
    agrees(written(tmp_path / "n.onnx", nodes, [zero, whole("axes", [0]), whole("rest", [-1])]))


def test_squeeze(tmp_path: Path) -> None:
    """The two axes of a global average go; the batch stays."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["a"]),
        helper.make_node("Squeeze", ["a", "axes"], ["y"]),
    ]
    agrees(written(tmp_path / "n.onnx", nodes, [whole("axes", [3, 2])]))


def test_softmax_is_left_out(tmp_path: Path) -> None:
    """At the end it keeps the order of the answers, and the graph says so; anywhere else it is refused."""
    nodes = [helper.make_node("Flatten", ["x"], ["a"]), helper.make_node("Softmax", ["a"], ["y"], axis=-1)]
    graph = read_onnx(written(tmp_path / "n.onnx", nodes))
    assert any("Softmax" in note.text for note in graph.notes)
    again = [*nodes[:1], helper.make_node("Softmax", ["a"], ["b"]), helper.make_node("Relu", ["b"], ["y"])]
    with pytest.raises(UnsupportedError, match="may only end the network"):
        read_onnx(written(tmp_path / "m.onnx", again))


class Small(nn.Module):
    """What people export: norms, a residual sum, ReLU6, pooling, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.b = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.a(x)
        a = torch.relu(self.b(a) + a)
        return self.fc(self.pool(a).flatten(1))


def exported(model: nn.Module, path: Path, *, dynamic: bool = True) -> Path:
    """Write a module with torch's own exporter."""
    fields: dict[str, Any] = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    axes = {"x": {0: "n"}, "y": {0: "n"}} if dynamic else None
    torch.onnx.export(
        model, (torch.zeros(2, *SHAPE),), str(path), input_names=["x"], output_names=["y"], dynamic_axes=axes, **fields
    )
    return path


@pytest.mark.parametrize("dynamic", [True, False])
def test_torch_exporter(dynamic: bool, tmp_path: Path) -> None:
    """A module written by torch computes the same here."""
    torch.manual_seed(0)
    model = Small()
    for norm in (model.a[1], model.b[1]):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    model.eval()
    graph = read_onnx(exported(model, tmp_path / "n.onnx", dynamic=dynamic))
    x = torch.randn(5, *SHAPE)
    with torch.no_grad():
        torch.testing.assert_close(graph.run(x).output, model(x), rtol=1e-4, atol=1e-5)


def test_converts_like_the_module(tmp_path: Path) -> None:
    """Training-free conversion of the file gives the neurons that conversion of the module gives."""
    from snn2chip.convert import convert

    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(96, 10))
    model.eval()
    data = torch.rand(32, *SHAPE)
    one = convert(model, data[:2], method="parallel", steps=8, data=data)
    two = convert(read_onnx(exported(model, tmp_path / "n.onnx")), method="parallel", steps=8, data=data)
    torch.testing.assert_close(one.run(data).output, two.run(data).output)


def test_ceiling_bounds_the_threshold(tmp_path: Path) -> None:
    """theta of Clip(0, c) is at most c, so that the conversion saturates where the source does."""
    from snn2chip.convert.relu_to_parallel import da_qcfs

    low = numpy_helper.from_array(np.float32(0), "lo")
    high = numpy_helper.from_array(np.float32(0.25), "hi")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Clip", ["a", "lo", "hi"], ["y"]),
    ]
    graph = read_onnx(written(tmp_path / "n.onnx", nodes, [number("w", 4, 3, 3, 3), low, high]))
    (constants,) = da_qcfs(graph, steps=4, data=torch.randn(64, *SHAPE)).values()
    assert float(constants.theta.max()) == 0.25


REFUSED = {
    "LeakyRelu": (("LeakyRelu", ["x"], {}), "LeakyRelu 'n0': has no float layer"),
    "clip": (("Clip", ["x"], {}), "clips to None"),
    "pads": (("Conv", ["x", "w"], {"pads": [0, 0, 1, 1]}), "only equal pads"),
    "transposed": (("Gemm", ["x", "w"], {"transA": 1}), "transA=1"),
    "bias of samples": (("Gemm", ["x", "w2", "column"], {}), "one number per output"),
    "border": (("AveragePool", ["x"], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}), "count_include_pad"),
    "ceil": (("AveragePool", ["x"], {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}), "ceil_mode"),
    "concat": (("Concat", ["x", "x"], {"axis": 2}), "only the channels"),
    "product": (("Mul", ["x", "x"], {}), "only their sum"),
    "plane": (("Add", ["x", "plane"], {}), "one number per channel"),
    "matmul": (("MatMul", ["x", "plane"], {}), "flatten before it"),
    "reshape": (("Reshape", ["x", "mixed"], {}), "must stay first"),
    "norm": (("BatchNormalization", ["x", "c", "c", "c", "c"], {"training_mode": 1}), "training_mode=1"),
    "nowhere": (("Relu", ["z"], {}), "nothing before it makes"),
    "foreign": (("Relu", ["x"], {"domain": "com.own"}), "operators of 'com.own'"),
    "shape": (("Conv", ["x", "five"], {}), "does not fit"),
    "training": (("Dropout", ["x", "half", "true"], {}), "Dropout 'n0': drops values at random"),
    "kernel": (("Conv", ["x", "w"], {"kernel_shape": [5, 5]}), r"kernel_shape=\[5, 5\], but a weight .*\[3, 3\]"),
    "flat kernel": (("Conv", ["x", "w2"], {}), r"a weight \[192, 5\] for \[3, 8, 8\]; expected 4 axes"),
    "standing": (("Conv", ["x", "w"], {"strides": [0, 0]}), r"strides=\[0, 0\]; expected 2 whole numbers from 1"),
    "texts": (("Conv", ["x", "w"], {"strides": "a"}), "Conv 'n0': has strides='a'"),
    "group": (("Conv", ["x", "w"], {"group": "a"}), "has group='a'; expected a whole number from 1"),
    "few pads": (("Conv", ["x", "w"], {"pads": [1, 1]}), r"pads=\[1, 1\]; expected 4 whole numbers from 0"),
    "no kernel": (("MaxPool", ["x"], {}), "MaxPool 'n0': has no kernel_shape"),
    "one kernel": (("AveragePool", ["x"], {"kernel_shape": [2]}), r"kernel_shape=\[2\]; expected 2 whole numbers"),
    "empty kernel": (("AveragePool", ["x"], {"kernel_shape": [0, 0]}), r"kernel_shape=\[0, 0\]; expected"),
    "standing pool": (("MaxPool", ["x"], {"kernel_shape": [2, 2], "strides": [0, 1]}), r"strides=\[0, 1\]"),
    "bounds": (("Clip", ["x", "half", "c"], {}), "has 3 numbers as its max"),
    "old bounds": (("Clip", ["x"], {"min": 0.0, "max": 6.0}), "which are inputs since version 11"),
    "axis": (("Flatten", ["x"], {"axis": "a"}), "has axis='a'; expected a whole number"),
    "epsilon": (("BatchNormalization", ["x", "c2", "c2", "c2", "c2"], {"epsilon": "a"}), "has epsilon='a'; expected a"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path) -> None:
    """What has no exact layer is named with its operation and the reason."""
    (kind, inputs, fields), text = REFUSED[name]
    weights = [
        number("w", 4, 3, 3, 3),
        number("plane", 8, 8),
        number("w2", 192, 5),
        number("column", 3, 1),
        number("c", 3),
        number("five", 4, 5, 3, 3),
        whole("mixed", [-1, 8, 8]),
        numpy_helper.from_array(np.float32(0.5), "half"),
        numpy_helper.from_array(np.array(True), "true"),
        numpy_helper.from_array(np.ones(3, np.float32), "c2"),
    ]
    path = written(tmp_path / "n.onnx", [helper.make_node(kind, inputs, ["y"], name="n0", **fields)], weights)
    with pytest.raises(UnsupportedError, match=text):
        read_onnx(path)


@pytest.mark.parametrize(("fields", "fine"), [({}, False), ({"is_test": 1}, True)])
def test_dropout_of_old_files(fields: dict[str, int], fine: bool, tmp_path: Path) -> None:
    """Before version 7 of the operators, Dropout drops unless is_test says that it does not."""
    path = written(tmp_path / "n.onnx", [helper.make_node("Dropout", ["x"], ["y"], **fields)], opset=6)
    if fine:
        x = torch.rand(2, *SHAPE)
        assert torch.equal(read_onnx(path).run(x).output, x)
    else:
        with pytest.raises(UnsupportedError, match="is_test=0"):
            read_onnx(path)


def test_all_refusals_at_once(tmp_path: Path) -> None:
    """Every operation without a layer is listed; what only follows from another is not."""
    nodes = [
        helper.make_node("Sin", ["x"], ["a"], name="one"),
        helper.make_node("Relu", ["a"], ["b"], name="two"),
        helper.make_node("Elu", ["x"], ["y"], name="three"),
    ]
    with pytest.raises(UnsupportedError) as error:
        read_onnx(written(tmp_path / "n.onnx", nodes))
    assert ["one" in str(error.value), "'two'" in str(error.value), "three" in str(error.value)] == [True, False, True]


def test_broken_files(tmp_path: Path) -> None:
    """Damaged files are one clear error each."""
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    path = written(tmp_path / "n.onnx", nodes, [number("w", 4, 3, 3, 3)])
    whole_file = path.read_bytes()
    for name, content in {"empty": b"", "text": b"hello", "half": whole_file[: len(whole_file) // 2]}.items():
        bad = tmp_path / f"{name}.onnx"
        bad.write_bytes(content)
        with pytest.raises((FileFormatError, UnsupportedError)):
            read_onnx(bad)
    with pytest.raises(FileFormatError, match="no such file"):
        read_onnx(tmp_path / "none.onnx")
    with pytest.raises(FileFormatError, match="is a folder"):
        read_onnx(tmp_path)


def test_declared_sizes(tmp_path: Path) -> None:
    """Sizes that the file does not hold cost no memory, in weights and inputs."""
    weight = number("w", 4, 3, 3, 3)
    weight.dims[0] = 10**12
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    with pytest.raises(FileFormatError, match="the file holds less"):
        read_onnx(written(tmp_path / "a.onnx", nodes, [weight]))
    with pytest.raises(FileFormatError, match="more than"):
        read_onnx(written(tmp_path / "b.onnx", nodes, [number("w", 4, 3, 3, 3)], shape=("N", 3, 10**6, 10**6)))
    with pytest.raises(FileFormatError, match="batch fixed"):
        read_onnx(written(tmp_path / "c.onnx", nodes, [number("w", 4, 3, 3, 3)], shape=("N", 3, "H", "W")))


@pytest.mark.parametrize("name", [b"weight-w", b"result-y", b"kind-of-op"])
def test_names_that_are_no_text(tmp_path: Path, name: bytes) -> None:
    """A damaged byte in a name: the library gives it as bytes, and everything that joins names would fail."""
    node = helper.make_node("Conv", ["x", "weight-w"], ["result-y"], name="kind-of-op")
    path = written(tmp_path / "a.onnx", [node], [number("weight-w", 4, 3, 3, 3)], outputs=("result-y",))
    assert read_onnx(path).layers
    path.write_bytes(path.read_bytes().replace(name, b"\xff" + name[1:]))
    with pytest.raises(FileFormatError, match="damaged"):
        read_onnx(path)


def test_numbers_of_the_wrong_kind(tmp_path: Path) -> None:
    """Complex weights, and targets of Reshape that are no whole numbers."""
    pair = numpy_helper.from_array(np.full((4, 3, 3, 3), 1j, np.complex64), "w")
    with pytest.raises(FileFormatError, match="'w' holds complex numbers"):
        read_onnx(written(tmp_path / "a.onnx", [helper.make_node("Conv", ["x", "w"], ["y"])], [pair]))
    target = numpy_helper.from_array(np.array([-1.0, 192.5], np.float32), "shape")
    with pytest.raises(UnsupportedError, match="target of float32; expected whole numbers"):
        read_onnx(written(tmp_path / "b.onnx", [helper.make_node("Reshape", ["x", "shape"], ["y"])], [target]))


def test_not_finite(tmp_path: Path) -> None:
    """NaN and infinity in weights are refused by name."""
    weight = numpy_helper.from_array(np.full((4, 3, 3, 3), np.nan, np.float32), "w")
    with pytest.raises(FileFormatError, match="'w' holds numbers that are not finite"):
        read_onnx(written(tmp_path / "a.onnx", [helper.make_node("Conv", ["x", "w"], ["y"])], [weight]))


def test_spread_constants(tmp_path: Path) -> None:
    """Constants that a broadcast would blow up are refused before they are made."""
    nodes = [helper.make_node("Add", ["a", "b"], ["c"], name="big"), helper.make_node("Relu", ["x"], ["y"])]
    weights = [number("a", 4000, 1), number("b", 1, 4000)]
    with pytest.raises(UnsupportedError, match="spreads constants"):
        read_onnx(written(tmp_path / "a.onnx", nodes, weights))


def test_doubled_and_gathered_constants(tmp_path: Path) -> None:
    """Joins that double and gathers that multiply their constants are refused before they are made."""
    end = helper.make_node("Relu", ["x"], ["y"])
    doubled = [helper.make_node("Concat", [f"a{i}"] * 2, [f"a{i + 1}"], axis=0) for i in range(30)]
    with pytest.raises(UnsupportedError, match="Concat 'a10': makes 5,120 numbers"):
        read_onnx(written(tmp_path / "a.onnx", [*doubled, end], [number("a0", 5)]))
    gather = helper.make_node("Gather", ["w", "at"], ["c"], name="big", axis=0)
    weights = [number("w", 2, 5000), whole("at", [0] * 10_000)]
    with pytest.raises(UnsupportedError, match="Gather 'big': makes 50,000,000 numbers"):
        read_onnx(written(tmp_path / "b.onnx", [gather, end], weights))


@pytest.mark.parametrize(
    ("kind", "inputs", "fields"),
    [
        ("AveragePool", ["x"], {"kernel_shape": [0, 0]}),
        ("MaxPool", ["x"], {"kernel_shape": [2, 2], "strides": [0, 0], "ceil_mode": 1}),
        ("Conv", ["x"], {}),
        ("Gemm", ["x", ""], {}),
        ("BatchNormalization", ["x", "c", "", "c", "c"], {}),
        ("Add", ["x", ""], {}),
        ("Add", ["c", ""], {}),
        ("Gather", ["c", "c"], {"axis": 5}),
    ],
)
def test_senseless_operations(kind: str, inputs: list[str], fields: dict[str, Any], tmp_path: Path) -> None:
    """Sizes of 0 and inputs that are left out are refused like every other operation."""
    node = helper.make_node(kind, inputs, ["y"], name="n0", **fields)
    with pytest.raises(UnsupportedError, match=f"{kind} 'n0'"):
        read_onnx(written(tmp_path / "n.onnx", [node], [number("c", 3)]))


def test_many_copies_of_constants(tmp_path: Path) -> None:
    """Constants may not be multiplied by many small operations."""
    names = ["w", *(f"c{i}" for i in range(60))]
    nodes = [helper.make_node("Neg", [a], [b], name=b) for a, b in pairwise(names)]
    nodes.append(helper.make_node("Relu", ["x"], ["y"]))
    with pytest.raises(UnsupportedError, match="more from its constants than the file holds"):
        read_onnx(written(tmp_path / "a.onnx", nodes, [number("w", 1000, 500)]))


@pytest.mark.parametrize("place", ["../w.bin", "/etc/hostname", "missing.bin"])
def test_weights_elsewhere(place: str, tmp_path: Path) -> None:
    """A second file is read from the same folder only."""
    folder = tmp_path / "net"
    folder.mkdir()
    (tmp_path / "w.bin").write_bytes(bytes(432))
    weight = number("w", 4, 3, 3, 3)
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=place)
    with pytest.raises(FileFormatError, match="cannot be read"):
        read_onnx(written(folder / "n.onnx", [helper.make_node("Conv", ["x", "w"], ["y"])], [weight]))


def test_weights_beside(tmp_path: Path) -> None:
    """A second file in the same folder is read."""
    path = written(tmp_path / "n.onnx", [helper.make_node("Conv", ["x", "w"], ["y"])], [number("w", 4, 3, 3, 3)])
    model = onnx.load(str(path))
    onnx.save(model, str(path), save_as_external_data=True, location="w.bin", size_threshold=0)
    assert (tmp_path / "w.bin").exists()
    agrees(path)
