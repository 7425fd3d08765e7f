"""The end of building: what the returned tensor is, which layers it needs, and the finished graph."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import attrs

from snn2chip.frontends.torch_build import Builder
from snn2chip.frontends.torch_refusals import Refusal
from snn2chip.frontends.torch_tape import Op, map_refs
from snn2chip.frontends.torch_values import Atom, Axes, Axis, Time, Value
from snn2chip.ir.channel_layers import ScaleLayer
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import OutputLayer

_BATCH: Axis = ("B",)


@attrs.frozen(kw_only=True, eq=False)
class Built:
    """A graph and what the tape's tensors mean in it; `one_step`: forward runs one step, the user loops over it."""

    graph: LayerGraph
    values: Mapping[int, Value]
    sizes: Mapping[Atom, int]
    one_step: bool


def finish(builder: Builder, *, owner: str, steps: int | None = None) -> Built | None:
    """Return the graph of an interpreted tape, or None with the reasons in `builder.problems`.

    `steps` is the T of a network in which nothing happens in time; else the network says it itself.
    """
    op = Op(
        target=finish,
        name="output",
        title="the returned value",
        module=None,
        args=(),
        kwargs={},
        result=None,
        path="",
        owner=owner,
        source="",
    )
    if builder.problems:
        return None
    try:
        return _finish(builder, op, steps)
    except Refusal as refusal:
        builder.refuse(op, str(refusal))
        return None


def _finish(builder: Builder, op: Op, wanted: int | None) -> Built:
    returned = map_refs(builder.tape.output, builder.value_of)
    heads, results = _heads(returned)
    if not results or not all(isinstance(result, Value) for result in results):
        raise Refusal("must be tensors that depend on the input: the logits, or a tuple or dict of them")
    if builder.steps is None:
        timed = [v.time.steps for v in builder.values.values() if isinstance(v, Value) and v.time.steps]
        builder.steps = max(1 + max(steps) for steps in timed) if timed else wanted or 1
    steps = builder.steps
    nodes, found = [], []
    for result in results:
        axes, value = builder.split(op, result)
        reduce, one_step = _reduce(builder, axes, value.time)
        found.append((reduce, one_step))
        node, factor = value.node, 1.0
        if value.time.kind == "total":
            factor = value.time.factor * (steps if reduce == "mean" else 1)
        if abs(factor - 1.0) > 1e-6:
            node = builder.add_layer(op, ("scale", factor), [node], partial(ScaleLayer, factor=factor))
        nodes.append(node)
    ways, one_step = tuple(reduce for reduce, _ in found), found[0][1]
    if len(set(found)) > 1 and "steps" in ways:
        shown = ", ".join(sorted(set(ways)))
        raise Refusal(
            f"reads its tensors over the steps in different ways ({shown}); return all steps of all of them or of none"
        )
    mixed = len(set(ways)) > 1
    output = OutputLayer(name="output", reduce="each" if mixed else ways[0], heads=heads, reduces=ways if mixed else ())
    layers = {**builder.layers, "output": output}
    inputs = {**builder.inputs, "output": tuple(nodes)}
    kept = _reachable(inputs, tuple(builder.layouts))
    calls = {name: n for name, n in builder.calls.items() if name in kept and n != (1 if one_step else steps)}
    if calls:
        shown = ", ".join(f"{builder.layers[name].label} {n} times" for name, n in calls.items())
        raise Refusal(f"needs every single-step neuron called once in each of {steps} steps, got {shown}")
    graph = LayerGraph(
        layers=tuple(layer for name, layer in layers.items() if name in kept),
        inputs={name: sources for name, sources in inputs.items() if name in kept},
        steps=steps,
    )
    values = {i: v for i, v in builder.values.items() if isinstance(v, Value) and v.node in kept}
    return Built(graph=graph, values=values, sizes={"T": steps, "B": builder.batch}, one_step=one_step)


def _heads(returned: Any) -> tuple[tuple[str, ...], list[Any]]:
    """Names and values of what a model returns: no name for a single tensor."""
    if isinstance(returned, dict):
        return tuple(str(key) for key in returned), list(returned.values())
    if isinstance(returned, (tuple, list)):
        names = getattr(returned, "_fields", None) or tuple(f"out{i}" for i in range(len(returned)))
        return tuple(names), list(returned)
    return (), [returned]


def _reduce(builder: Builder, axes: Axes, time: Time) -> tuple[str, bool]:
    steps = builder.steps or 1
    if time.kind == "frames":
        builder.check_total(time, affine=True)
    if time.kind == "axis" or axes == ((), _BATCH):
        if axes != (("T",), _BATCH) and not (axes == ((), _BATCH) and steps == 1):
            raise Refusal("has its steps and batch in another layout; return [T,B,...] or [B,...]")
        return "steps", False
    if axes != (_BATCH,):
        raise Refusal("has its batch in another layout; return [T,B,...] or [B,...]")
    if time.kind == "total":
        if not builder.is_complete(time):
            raise Refusal(f"sums only the steps {sorted(time.steps or ())} of {steps}; sum all of them")
        return ("mean" if steps == 1 or abs(time.factor * steps - 1.0) <= 1e-6 else "sum"), False
    if time.kind == "static" or steps == 1:
        return "mean", False
    if time.step == steps - 1:
        return "last", False
    if time.step == 0 and set(builder.layouts.values()) == {"B"} and builder.calls:
        return "steps", True  # single-step neurons, called once: the user's own loop runs the steps
    raise Refusal(f"is step {time.step} of {steps}; return all steps, their mean, their sum or the last one")


def _reachable(inputs: Mapping[str, tuple[str, ...]], given: tuple[str, ...]) -> set[str]:
    kept: set[str] = set()
    todo = ["output"]
    while todo:
        name = todo.pop()
        if name not in kept:
            kept.add(name)
            todo += inputs[name]
    if len(given) == 1 and given[0] not in kept:
        raise Refusal("does not depend on the input")
    if unread := [name for name in given if name not in kept]:
        raise Refusal(f"does not depend on the inputs {', '.join(unread)}; leave them out of forward")
    return kept
