"""Damage to ONNX files: any field of any message exchanged, cleared, doubled or filled from its neighbour."""

from __future__ import annotations

import random
from typing import Any

from snn2chip.testing.fuzz.damage import FLOATS, NUMBERS
from snn2chip.testing.fuzz.values import TEXTS

OPERATORS = ("Conv", "Gemm", "MatMul", "Relu", "Clip", "Add", "Concat", "Reshape", "Flatten", "AveragePool",
             "MaxPool", "ConstantOfShape", "Expand", "Tile", "Range", "Loop", "If", "Constant", "Shape", "Gather",
             "Pad")  # fmt: skip


def onnx_damage(data: bytes, rng: random.Random) -> bytes:
    """One to three fields of a sound file damaged."""
    import onnx

    model = onnx.load_from_string(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        fields = _fields(model)
        message, field = rng.choice(fields)
        try:
            _damage(message, field, rng)
        except (ValueError, TypeError, OverflowError, UnicodeError):
            continue
    return bytes(model.SerializePartialToString())


def _fields(message: Any) -> list[tuple[Any, Any]]:
    found = []
    for field, value in message.ListFields():
        found.append((message, field))
        if field.message_type is not None:
            for item in value if field.is_repeated else (value,):
                found += _fields(item)
    return found


def _damage(message: Any, field: Any, rng: random.Random) -> None:
    value, way = getattr(message, field.name), rng.randrange(5)
    if way == 0:
        message.ClearField(field.name)
    elif field.is_repeated and way == 1:
        del value[rng.randrange(len(value))]
    elif field.message_type is not None:
        if field.is_repeated:
            item = value[rng.randrange(len(value))]
            if way < 4:
                value.add().CopyFrom(item)
            else:
                item.Clear()
        else:
            value.Clear()
    elif field.is_repeated:
        value[rng.randrange(len(value))] = _odd(field, rng)
    else:
        setattr(message, field.name, _odd(field, rng))


def _odd(field: Any, rng: random.Random) -> Any:
    kinds = {field.CPPTYPE_STRING: TEXTS, field.CPPTYPE_FLOAT: FLOATS, field.CPPTYPE_DOUBLE: FLOATS}
    if field.type == field.TYPE_BYTES:
        return bytes(rng.randrange(256) for _ in range(rng.choice((0, 1, 4, 64))))
    if field.name == "op_type":
        return rng.choice(OPERATORS)
    if field.cpp_type in kinds:
        return rng.choice(kinds[field.cpp_type])
    return rng.choice((*NUMBERS, *range(18)))
