"""Values of an ONNX file: results of layers with known shapes, and arithmetic on constants.

Shapes count the batch as 1 (`known_shape`), so that what exporters compute from them to flatten a value comes out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from snn2chip.frontends.torch_refusals import Refusal
from snn2chip.ir.layers import Shape

FOLDED = frozenset(
    ("Add", "Cast", "Concat", "Constant", "Div", "Gather", "Identity", "Mul", "Neg", "Reshape", "Shape", "Slice",
     "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze")
)  # fmt: skip
"""Operations computed where all their values are constants: none makes more numbers than its largest value has
(broadcasts, joins and gathers are checked), so a small file stays small."""
SMALL = 1 << 12
"""Numbers that a join or a gather may always make: shapes and indexes."""


@attrs.frozen(kw_only=True)
class Data:
    """The result of a layer; `shape` leaves the batch out."""

    layer: str
    shape: Shape


def as_float(value: NDArray[Any]) -> torch.Tensor:
    """Return a constant as float32 or float64; Refusal for integers of a quantised file and other types."""
    if value.dtype.kind in "iub":
        if value.size > 1:
            raise Refusal(f"has a constant of {value.dtype}; only float networks can be converted")
        return torch.tensor(float(value.reshape(())))
    kind = np.float64 if value.dtype == np.float64 else np.float32
    return torch.from_numpy(np.array(value, dtype=kind, order="C"))


def known_shape(x: Data, attributes: Mapping[str, Any]) -> NDArray[Any]:
    """Return the shape of a value as ONNX counts it, the batch as 1."""
    full = [1, *x.shape]
    return np.array(full[attributes.get("start", 0) : attributes.get("end", len(full))], dtype=np.int64)


def folded(node: Any, values: Sequence[Any], *, opset: int) -> NDArray[Any]:
    """Return the result of an operation on constants."""
    sizes = [v.size for v in values if isinstance(v, np.ndarray)]
    if node.op_type in ("Add", "Sub", "Mul", "Div"):
        made = math.prod(np.broadcast_shapes(*(v.shape for v in values)))
        if made > max(sizes):
            raise Refusal(f"spreads constants to {made} numbers")
    if node.op_type in ("Concat", "Gather"):
        made = sum(sizes) if node.op_type == "Concat" else _gathered(node, values)
        if made > max(SMALL, *sizes):
            raise Refusal(f"makes {made:,} numbers of constants that hold {max(sizes):,}")
    return _evaluated(node, values, opset=opset)


def _gathered(node: Any, values: Sequence[Any]) -> int:
    """Return how many numbers a Gather makes: one slice of its data per index."""
    axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
    return values[0].size // max(values[0].shape[axis], 1) * values[1].size


def reshaped(x: Data, kind: str, given: Any, attributes: Mapping[str, Any]) -> Shape:
    """Return the features of a value behind Reshape, Squeeze or Unsqueeze; Refusal where the batch does not stay first.

    `given` is the target or the axes. In a target the first number stands for the batch, whatever it is: it may have
    been computed from a batch of 1 (`known_shape`) or be the batch the file was exported with.
    """
    array = None if given is None else np.asarray(given).reshape(-1)
    if array is not None and array.dtype.kind not in "iu":
        raise Refusal(f"has a target of {array.dtype}; expected whole numbers")
    numbers = None if array is None else [int(n) for n in array]
    if kind == "Reshape":
        if not numbers or (numbers[0] == -1 and -1 in numbers[1:]):
            raise Refusal(f"has the target {numbers}; the batch must stay first")
        keep = not attributes.get("allowzero", 0)
        out = [x.shape[i] if n == 0 and keep and i < len(x.shape) else n for i, n in enumerate(numbers[1:])]
        known, size = math.prod(n for n in out if n != -1), math.prod(x.shape)
        out = [size // max(known, 1) if n == -1 else n for n in out]
        if math.prod(out) != size:
            raise Refusal(f"reads {list(x.shape)} as {out}; the batch must stay first, unmixed")
        return tuple(out)
    axes = numbers if numbers is not None else list(attributes.get("axes", []))
    rank = 1 + len(x.shape) + (len(axes) if kind == "Unsqueeze" else 0)
    places = sorted({a % rank for a in axes}) if axes else [i + 1 for i, n in enumerate(x.shape) if n == 1]
    if 0 in places:
        raise Refusal("moves the batch; it must stay first")
    if kind == "Squeeze":
        if any(x.shape[a - 1] != 1 for a in places):
            raise Refusal(f"drops the axes {places} of [N, {', '.join(map(str, x.shape))}], which are not all 1")
        return tuple(n for i, n in enumerate(x.shape, 1) if i not in places)
    rest = iter(x.shape)
    return tuple(1 if i in places else next(rest) for i in range(1, rank))


def _evaluated(node: Any, values: Sequence[Any], *, opset: int) -> NDArray[Any]:
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    names = [name for name in dict.fromkeys(node.input) if name]
    given = {name: value for name, value in zip(node.input, values, strict=False) if name}
    untyped = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in names]
    out = helper.make_tensor_value_info(node.output[0], TensorProto.UNDEFINED, None)
    single = helper.make_graph([node], "one", untyped, [out])
    model = helper.make_model(single, opset_imports=[helper.make_opsetid("", opset)])
    try:
        (result,) = ReferenceEvaluator(model).run([node.output[0]], given)
    except Exception as error:  # the evaluator raises whatever its operators raise
        raise Refusal(f"cannot be computed from its constants: {error}") from error
    return np.asarray(result)
