"""A LayerGraph as JSON and named tensors: how a converted network lies in a checkpoint.

    {"steps", "layers": [{"kind", "name", ..fields}], "inputs": {name: [source, ..]}, "notes": [..]}
    a tensor is {"tensor": "layer/field"}; a soma and exact weight parts are objects of their own fields

Reading accepts what the fields declare and nothing else: no class or function is named in a file, so nothing of it
can run. The line of the user's file that a layer came from is not stored, its path in the model is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from snn2chip.errors import FileFormatError, Snn2ChipError
from snn2chip.ir.attention_layers import SecaLayer
from snn2chip.ir.channel_layers import AvgPoolLayer, BatchNormLayer, MaxPoolLayer, ScaleLayer, SumPoolLayer
from snn2chip.ir.delay_layer import DelayLayer
from snn2chip.ir.float_run import FIRES, RESETS
from snn2chip.ir.graph import LayerGraph, Note
from snn2chip.ir.layers import (
    AddLayer,
    DropoutLayer,
    FlattenLayer,
    FloatSoma,
    IdentityLayer,
    InputLayer,
    Layer,
    OutputLayer,
    ReluLayer,
)
from snn2chip.ir.linear_layers import AffineLayer, Conv2dLayer, LinearLayer, WeightParts
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.ir.said import said
from snn2chip.ir.space_layers import ConcatLayer, ResampleLayer

LAYERS: Mapping[str, type[Layer]] = {
    kind.kind: kind
    for kind in (
        AddLayer,
        AvgPoolLayer,
        BatchNormLayer,
        ConcatLayer,
        Conv2dLayer,
        DelayLayer,
        DropoutLayer,
        FlattenLayer,
        IdentityLayer,
        InputLayer,
        LinearLayer,
        MaxPoolLayer,
        NeuronLayer,
        OutputLayer,
        ReluLayer,
        ResampleLayer,
        ScaleLayer,
        SecaLayer,
        SumPoolLayer,
    )
}
MAX_SIZE = 1 << 30
"""Numbers of one layer, sample and all steps beyond which a file is taken for damaged, before memory is touched."""
TRIAL_SIZE = 1 << 26
"""Numbers up to which a network is run once on reading; a small file cannot take more than this by being read."""
MAX_STEPS = 1 << 16
_WORDS = {
    "fire": FIRES,
    "reset": RESETS,
    "v_init_rule": ("round", "half-theta", "strict"),
    "out_rounding": ("half-up", "half-even"),
}
_NOT_STORED = ("source", "trained")
_DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)


def to_parts(graph: LayerGraph) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the JSON fields of a graph and its tensors by name, both the same for equal graphs."""
    tensors: dict[str, Tensor] = {}
    layers = [{"kind": layer.kind, **_fields(layer, layer.name, tensors)} for layer in graph.layers]
    notes = [{k: v for k, v in attrs.asdict(note).items() if _plain(v)} for note in graph.notes]
    inputs = {name: list(sources) for name, sources in graph.inputs.items()}
    return {"steps": graph.steps, "layers": layers, "inputs": inputs, "notes": notes}, tensors


def from_parts(fields: Mapping[str, Any], tensors: Mapping[str, Tensor], *, path: Any) -> LayerGraph:
    """Return the graph of stored fields and tensors, if small run on zeros; FileFormatError for anything unsound."""
    left = dict(tensors)
    try:
        _exactly(fields, ("steps", "layers", "inputs", "notes"), where="the graph")
        steps = _typed(fields["steps"], "int", "steps", left)
        if not 1 <= steps <= MAX_STEPS:
            raise ValueError(f"steps={steps}, expected 1..{MAX_STEPS}")
        layers = tuple(_layer(entry, left) for entry in fields["layers"])
        inputs = {name: _names(sources) for name, sources in fields["inputs"].items()}
        notes = tuple(Note(**note) for note in fields["notes"])
        if left:
            raise ValueError(f"tensors that no layer has: {', '.join(sorted(left))}")
        graph = LayerGraph(layers=layers, inputs=inputs, steps=steps, notes=notes)
        sizes = {name: math.prod(shape) * steps for name, shape in graph.shapes.items()}
        if huge := [name for name, size in sizes.items() if size > MAX_SIZE]:
            raise ValueError(f"{', '.join(huge)}: more than {MAX_SIZE} numbers")
        if sum(sizes.values()) <= TRIAL_SIZE:
            graph.run({x.name: torch.zeros(*(() if x.frames is None else (x.frames,)), 1, *x.raw_shape)
                       for x in graph.input_layers})  # fmt: skip
    except (Snn2ChipError, *_DAMAGE) as error:
        raise FileFormatError(f"{path}: the network in this file is not sound: {said(error)}") from error
    return graph


def _fields(value: Any, key: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Fields of a layer, soma or weight parts that are set; tensors go into `tensors` under `key/field`."""
    found: dict[str, Any] = {}
    for field in attrs.fields(type(value)):
        given = getattr(value, field.name)
        if not field.init or given is None or field.name in _NOT_STORED:
            continue
        name = f"{key}/{field.name}"
        if isinstance(given, Tensor):
            tensors[name] = given.detach().cpu().contiguous().clone()
            found[field.name] = {"tensor": name}
        elif isinstance(given, Layer):
            found[field.name] = {"kind": given.kind, **_fields(given, name, tensors)}
        elif attrs.has(type(given)):
            found[field.name] = _fields(given, name, tensors)
        else:
            found[field.name] = list(given) if isinstance(given, tuple) else given
    return found


def _plain(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))


def _layer(entry: Any, tensors: dict[str, Tensor]) -> Layer:
    entry = dict(entry)
    kind = entry.pop("kind", None)
    if kind not in LAYERS:
        raise ValueError(f"layer kind {kind!r} is unknown")
    return _made(LAYERS[kind], entry, where=str(entry.get("name")), tensors=tensors)


def _made(kind: type[Any], entry: Mapping[str, Any], *, where: str, tensors: dict[str, Tensor]) -> Any:
    known = {f.name: f for f in attrs.fields(kind) if f.init and f.name not in _NOT_STORED}
    if unknown := sorted(set(entry) - set(known)):
        raise ValueError(f"{where}: unknown fields {', '.join(unknown)}")
    given = {}
    for name, value in entry.items():
        words = _WORDS.get(name) if kind is FloatSoma else None
        if words is not None and value not in words:
            raise ValueError(f"{where}: {name}={value!r} is none of {', '.join(words)}")
        given[name] = _typed(value, str(known[name].type).removesuffix(" | None"), f"{where}.{name}", tensors)
    return kind(**given)


def _typed(value: Any, declared: str, where: str, tensors: dict[str, Tensor]) -> Any:
    """Return a value of the declared type; ValueError for any other."""
    if declared == "Tensor":
        _exactly(value, ("tensor",), where=where)
        found = tensors.pop(value["tensor"])
        if found.is_floating_point() == where.endswith((".integers", ".rows", ".cols")):
            raise ValueError(f"{where}: numbers of type {found.dtype}")
        return found
    if declared == "AffineLayer | ScaleLayer":
        layer = _layer(value, tensors)
        if not isinstance(layer, (AffineLayer, ScaleLayer)):
            raise ValueError(f"{where}: {layer.kind} has no weights")
        return layer
    if declared in ("FloatSoma", "WeightParts"):
        return _made(FloatSoma if declared == "FloatSoma" else WeightParts, value, where=where, tensors=tensors)
    if declared == "Names":
        return tuple(_names(value))
    if declared in ("Shape", "Pair"):
        if not isinstance(value, list) or not all(type(n) is int and n >= 0 for n in value):
            raise ValueError(f"{where}={value!r}, expected whole numbers")
        return tuple(value)
    fine = {"str": (str,), "int": (int,), "bool": (bool,), "float": (int, float)}[declared]
    if type(value) not in fine:
        raise ValueError(f"{where}={value!r:.40}, expected {declared}")
    return value


def _names(value: Any) -> Sequence[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"inputs {value!r:.40}, expected names")
    return value


def _exactly(value: Any, keys: tuple[str, ...], *, where: str) -> None:
    if not isinstance(value, Mapping) or set(value) != set(keys):
        raise ValueError(f"{where}: expected {', '.join(keys)}, got {value!r:.60}")
