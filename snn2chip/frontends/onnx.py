"""ONNX files of ordinary networks, read into a `LayerGraph` for training-free conversion.

    Conv, Gemm, MatMul, BatchNormalization, Relu, Clip(0, c), AveragePool, GlobalAveragePool, MaxPool, ReduceMean,
    Add, Concat, Flatten, Reshape, Identity, Dropout, constant arithmetic; Softmax at the very end is left out

The batch is the first axis of every value. A network read here has no neurons: `snn2chip convert` gives it some.
Everything that has no place in such a network is refused, all of it in one error. Weights may lie in a second file
beside the first (the library checks that it stays in that folder); nothing in either can run.
Source: ONNX operator schemas, https://onnx.ai/onnx/operators.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from snn2chip.errors import EnvironmentFault, FileFormatError, UnsupportedError
from snn2chip.frontends.onnx_reader import Reader
from snn2chip.frontends.onnx_rules import RULES
from snn2chip.frontends.torch_refusals import Refusal
from snn2chip.ir.graph import LayerGraph, Note
from snn2chip.ir.layers import InputLayer, Shape

MAX_NUMBERS = 1 << 30
"""Numbers of one value beyond which a file is taken for damaged, before memory is touched."""


def read_onnx(path: str | os.PathLike[str]) -> LayerGraph:
    """Return the graph of an ONNX file with one input `[N, ...]`.

    Raises FileFormatError for a damaged file, UnsupportedError that lists every operation without a float layer,
    EnvironmentFault without the `onnx` package.
    """
    model = _load(path)
    graph = model.graph
    reader = Reader(opset=_opset(model, path))
    try:
        _weights(reader, graph)
        given = _input(reader, graph)
    except (Refusal, ValueError, TypeError, KeyError, MemoryError) as error:
        raise FileFormatError(f"{path}: {_line(error)}") from error
    for node in graph.node:
        reader.take(node, RULES)
    layers, inputs = reader.layers, reader.inputs
    reader.finish([value.name for value in graph.output])
    if reader.problems:
        raise UnsupportedError([f"{path}: {text}" for text in dict.fromkeys(reader.problems)])
    notes = tuple(Note(by="onnx", layer=name, text=text) for name, text in reader.notes)
    try:
        made = LayerGraph(layers=(given, *layers), inputs=inputs, steps=1, notes=notes)
    except UnsupportedError:
        raise
    except Exception as error:  # shapes that do not fit, or a cycle: the file's fault, whatever class says so
        raise FileFormatError(f"{path}: the network in this file is not sound: {_line(error)}") from error
    if huge := [name for name, shape in made.shapes.items() if math.prod(shape) > MAX_NUMBERS]:
        raise FileFormatError(f"{path}: {', '.join(huge)}: more than {MAX_NUMBERS} numbers in one sample")
    return made


def _load(path: str | os.PathLike[str]) -> Any:
    """The parsed file with its weights."""
    try:
        import onnx
        from onnx.external_data_helper import load_external_data_for_model
    except ImportError as error:
        raise EnvironmentFault("ONNX files need the onnx package: pip install 'snn2chip[onnx]'") from error
    from google.protobuf.message import DecodeError

    file = Path(path)
    if not file.is_file():
        raise FileFormatError(f"{path}: {'is a folder' if file.is_dir() else 'no such file'}")
    try:
        model = onnx.load(str(file), load_external_data=False)
    except (DecodeError, ValueError, OSError, RuntimeError) as error:
        raise FileFormatError(f"{path}: damaged or not an ONNX file ({_line(error)})") from error
    if not model.graph.node:
        raise FileFormatError(f"{path}: damaged or not an ONNX file (it has no operations)")
    if any(isinstance(name, bytes) for name in _names(model.graph)):
        raise FileFormatError(f"{path}: damaged (it holds names that are no text)")
    try:
        load_external_data_for_model(model, str(file.parent))
    except Exception as error:  # the library raises its own, OSError, ValueError and RuntimeError
        raise FileFormatError(f"{path}: its weights cannot be read: {_line(error)}") from error
    return model


def _names(graph: Any) -> Iterator[Any]:
    """All names in a graph; the library gives one that is no UTF-8 as bytes."""
    for value in (*graph.input, *graph.output, *graph.initializer):
        yield value.name
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)


def _opset(model: Any, path: str | os.PathLike[str]) -> int:
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if not versions or not 1 <= versions[0] <= 1 << 20:
        raise FileFormatError(f"{path}: names no version of the ONNX operators")
    return int(versions[0])


def _weights(reader: Reader, graph: Any) -> None:
    from onnx import numpy_helper

    if graph.sparse_initializer:
        raise Refusal("sparse initializers are not read; store the weights dense")
    for tensor in graph.initializer:
        stored = len(tensor.raw_data) or sum(
            len(getattr(tensor, field)) for field in ("float_data", "int32_data", "int64_data", "double_data",
                                                      "uint64_data", "string_data")
        )  # fmt: skip
        if math.prod(tensor.dims) > stored * 8 or any(n < 0 for n in tensor.dims):
            raise ValueError(f"weight {tensor.name!r} declares {list(tensor.dims)}, the file holds less")
        value = numpy_helper.to_array(tensor)
        reader.stored += value.nbytes
        reader.constant(tensor.name, value)


def _input(reader: Reader, graph: Any) -> InputLayer:
    found = [value for value in graph.input if value.name not in reader.values]
    if len(found) != 1:
        names = ", ".join(value.name for value in found)
        raise Refusal(f"expected one input, found {len(found)} ({names}); a network for conversion takes one tensor")
    (value,) = found
    dims = value.type.tensor_type.shape.dim
    shape: Shape = tuple(int(d.dim_value) for d in dims[1:])
    if not shape or min(shape) < 1 or len(shape) > 3:
        shown = [d.dim_param or d.dim_value for d in dims]
        raise Refusal(
            f"input {value.name!r} has shape {shown}; expected [N, features], [N, C, L] or [N, C, H, W] with all sizes "
            "but the batch fixed (export with a sample, without dynamic sizes)"
        )
    if math.prod(shape) > MAX_NUMBERS:
        raise ValueError(f"input {value.name!r} declares {list(shape)}, more than {MAX_NUMBERS} numbers")
    reader.start(value.name, shape)
    return InputLayer(name="input", path=value.name, shape=shape)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
