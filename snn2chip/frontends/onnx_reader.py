"""The operations of an ONNX file one after the other: values by name, layers in order, every refusal collected.

A value is a constant (NumPy) or a layer's result `[N, *shape]`. Operations on constants alone are computed by the
library's reference evaluator, those of them that cannot grow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from snn2chip.errors import Snn2ChipError
from snn2chip.frontends.onnx_values import FOLDED, Data, as_float, folded, known_shape
from snn2chip.frontends.torch_refusals import Refusal
from snn2chip.ir.layers import Layer, OutputLayer, Shape

Value = Data | NDArray[Any]
LEAST_ROOM = 1 << 24
"""Bytes that may always be computed from constants."""
Rule = Callable[["Reader", "Call"], Value]
NAMES = {"conv2d": "conv", "batchnorm": "norm", "avgpool": "pool", "maxpool": "pool"}


@attrs.frozen(kw_only=True)
class Call:
    """One operation of the file: its values (None where left out) and attributes."""

    node: Any
    values: tuple[Value | None, ...]
    attributes: Mapping[str, Any]

    @property
    def title(self) -> str:
        """The operation as messages name it."""
        return f"{self.node.op_type} {self.node.name or self.node.output[0]!r}"

    def get(self, name: str, default: Any) -> Any:
        """Return an attribute, or its default."""
        return self.attributes.get(name, default)

    def data(self, index: int = 0) -> Data:
        """Return an input that comes from a layer."""
        value = self.values[index]
        if not isinstance(value, Data):
            raise Refusal(f"input {index + 1} is a constant; it must come from the network's input")
        return value

    def number(self, index: int) -> torch.Tensor | None:
        """Return a constant input as float, None if it is left out."""
        value = self.values[index] if index < len(self.values) else None
        if isinstance(value, Data):
            raise Refusal(f"input {index + 1} is computed by the network; it must be a constant")
        return None if value is None else as_float(value)

    def weight(self, index: int) -> torch.Tensor:
        """Return a constant input that may not be left out."""
        value = self.number(index)
        if value is None:
            raise Refusal(f"has no input {index + 1}")
        return value

    def whole(self, name: str, default: int, *, least: int | None = None) -> int:
        """Return an attribute that is one whole number."""
        value = self.get(name, default)
        if not isinstance(value, int) or (least is not None and value < least):
            raise Refusal(
                f"has {name}={value!r}; expected a whole number" + ("" if least is None else f" from {least}")
            )
        return value

    def real(self, name: str, default: float) -> float:
        """Return an attribute that is one finite number."""
        value = self.get(name, default)
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise Refusal(f"has {name}={value!r}; expected a number")
        return float(value)

    def wholes(self, name: str, default: Sequence[int], *, least: int) -> list[int]:
        """Return an attribute that is a list of whole numbers, as many as its default has."""
        value = self.get(name, default)
        listed = isinstance(value, Sequence) and not isinstance(value, str)
        if not listed or len(value) != len(default) or any(not isinstance(n, int) or n < least for n in value):
            shown = list(value) if listed else value
            raise Refusal(f"has {name}={shown!r}; expected {len(default)} whole numbers from {least}")
        return list(value)

    def only(self, **allowed: Any) -> None:
        """Refuse attributes that have another value than the allowed one."""
        bad = [f"{k}={self.get(k, v)}" for k, v in allowed.items() if self.get(k, v) != v]
        if bad:
            raise Refusal(f"has {', '.join(bad)}, which has no exact layer here")


class Reader:
    """Collects the layers of a file; `problems` lists all that was refused."""

    def __init__(self, *, opset: int) -> None:
        self.opset = opset
        self.values: dict[str, Value | None] = {}
        self.layers: list[Layer] = []
        self.inputs: dict[str, tuple[str, ...]] = {}
        self.shapes: dict[str, Shape] = {}
        self.problems: list[str] = []
        self.notes: list[tuple[str, str]] = []
        self.stored, self.computed = 0, 0  # bytes of constants in the file, and of those computed from them
        self._counts: dict[str, int] = {}
        self._last: dict[str, str] = {}  # results that only the end of the network may read

    def constant(self, name: str, value: NDArray[Any]) -> None:
        """Note a stored tensor; ValueError for numbers that are not finite, or complex."""
        if value.dtype.kind == "c":
            raise ValueError(f"weight {name!r} holds complex numbers")
        if value.dtype.kind == "f" and not bool(np.isfinite(value).all()):
            raise ValueError(f"weight {name!r} holds numbers that are not finite")
        self.values[name] = value

    def start(self, name: str, shape: Shape) -> None:
        """Note the network's input."""
        self.shapes["input"] = shape
        self.values[name] = Data(layer="input", shape=shape)

    def take(self, node: Any, rules: Mapping[str, Rule]) -> None:
        """Give the results of one operation their meaning."""
        from onnx import helper

        names = [name for name in node.output if name]
        try:
            fields = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            fields = {k: v.decode(errors="replace") if isinstance(v, bytes) else v for k, v in fields.items()}
            if node.domain not in ("", "ai.onnx"):
                raise Refusal(f"belongs to the operators of {node.domain!r}")
            if missing := [name for name in node.input if name and name not in self.values]:
                raise Refusal(f"reads {', '.join(missing)}, which nothing before it makes")
            if taken := [name for name in names if name in self.values]:
                raise Refusal(f"makes {', '.join(taken)} once more")
            values = tuple(self.values[name] if name else None for name in node.input)
            if any(value is None for value, name in zip(values, node.input, strict=True) if name):
                self.values.update(dict.fromkeys(names))
                return  # follows from another problem
            if late := [name for name in node.input if name in self._last]:
                raise Refusal(f"reads {late[0]}, the result of {self._last[late[0]]}; that may only end the network")
            result = self._result(Call(node=node, values=values, attributes=fields), rules)
            self.values.update(dict.fromkeys(names))
            self.values[names[0]] = result
        except (Refusal, Snn2ChipError, ValueError, LookupError, ArithmeticError, RuntimeError,
                AttributeError, TypeError) as error:  # fmt: skip
            title = f"{node.op_type} {node.name or (names or ['?'])[0]!r}"
            text = " ".join(str(error).split())[:300]
            if not isinstance(error, (Refusal, Snn2ChipError)):
                text = f"its inputs and attributes are none that {node.op_type} has ({text})"
            self.problems.append(f"{title}: {text}")
            self.values.update({name: None for name in names if name not in self.values})

    def _result(self, call: Call, rules: Mapping[str, Rule]) -> Value:
        kind = call.node.op_type
        if kind == "Shape" and isinstance(call.values[0], Data):
            return known_shape(call.values[0], call.attributes)
        if kind == "Constant" or (kind in FOLDED and not any(isinstance(v, Data) for v in call.values)):
            value = folded(call.node, call.values, opset=self.opset)
            self.computed += value.nbytes
            if self.computed > max(LEAST_ROOM, 2 * self.stored):
                raise Refusal("computes more from its constants than the file holds; export with constants folded")
            self.constant(call.node.output[0], value)
            return value
        if kind not in rules:
            raise Refusal(f"has no float layer; known operations are {', '.join(sorted({*rules, *FOLDED}))}")
        return rules[kind](self, call)

    def add(self, call: Call, kind: type[Layer], sources: Sequence[Data], **fields: Any) -> Data:
        """Append a layer and return its value."""
        prefix = NAMES.get(kind.kind, kind.kind)
        self._counts[prefix] = self._counts.get(prefix, 0) + 1
        name = f"{prefix}{self._counts[prefix]}"
        layer = kind(name=name, path=call.node.name or call.node.output[0], source=call.node.op_type, **fields)
        shape, bad = layer.out_shape([s.shape for s in sources])
        if bad:
            raise Refusal("; ".join(bad))
        self.layers.append(layer)
        self.inputs[name] = tuple(s.layer for s in sources)
        return Data(layer=name, shape=shape)

    def ends(self, call: Call, x: Data) -> Data:
        """Leave an operation out that keeps the order of the answers; nothing may read it."""
        self._last[call.node.output[0]] = call.title
        self.notes.append((x.layer, f"{call.title} is left out: it keeps the order of the answers"))
        return x

    def finish(self, names: Sequence[str]) -> None:
        """Append the output layer."""
        found = [self.values.get(name) for name in names]
        if not names or any(name not in self.values for name in names):
            self.problems.append(f"the outputs {', '.join(names) or '(none)'} are made by no operation")
            return
        sources = [value for value in found if isinstance(value, Data)]
        if len(sources) < len(names):
            if not self.problems:
                self.problems.append("an output is a constant")
            return
        heads = tuple(names) if len(names) > 1 else ()
        self.layers.append(OutputLayer(name="output", reduce="mean", heads=heads))
        self.inputs["output"] = tuple(s.layer for s in sources)
