"""From tape to graph: every recorded operation becomes a layer or moves axes; all refusals are collected.

Equal operations on equal sources are one layer (steps of a time loop fall together, a shared linear layer at two
places stays two layers). A neuron in single-step mode is one layer whose k-th call is step k.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Literal

import attrs

from snn2chip.frontends.torch_refusals import ADVICE, UNKNOWN, Refusal
from snn2chip.frontends.torch_tape import Op, Tape, leaves_in, map_refs, refs_in
from snn2chip.frontends.torch_values import AXIS, FRAMES, STATIC, Atom, Axes, Const, Opaque, Time, Value
from snn2chip.ir.layers import FlattenLayer, InputLayer, Layer, Shape

Layout = Literal["B", "TB", "BT", "FB", "BF"]
Rule = Callable[..., Any]
LAYOUTS: Mapping[Layout, Axes] = {
    "B": (("B",),),
    "TB": (("T",), ("B",)),
    "BT": (("B",), ("T",)),
    "FB": (("F",), ("B",)),
    "BF": (("B",), ("F",)),
}
PREFIX = {"conv2d": "conv", "batchnorm": "norm", "avgpool": "pool", "sumpool": "pool"}


class Builder:
    """Interprets one tape for one layout of every input; `problems` lists everything that was refused.

    `layouts` and `shapes` are those of the samples by input name, in the order of the tape's inputs. Their batches
    have one size.
    """

    def __init__(self, tape: Tape, *, layouts: Mapping[str, Layout], shapes: Mapping[str, Sequence[int]]) -> None:
        self.tape = tape
        self.problems: list[str] = []
        self.understood: int | None = None  # operations before the first problem
        self.values: dict[int, Value | Const | Opaque] = {}
        self.layers: dict[str, Layer] = {}
        self.inputs: dict[str, tuple[str, ...]] = {}
        self.shapes: dict[str, Shape] = {}
        self.neurons: dict[int, str] = {}  # id of a stateful neuron module -> its layer
        self.calls: dict[str, int] = {}  # calls of a single-step neuron layer so far
        self.loops: dict[str, str] = {}  # single-step neuron layer -> layer of its own spikes of the step before, or ""
        self.steps: int | None = None
        self._keys: dict[Hashable, str] = {}
        self._counts: dict[str, int] = {}
        self.layouts = dict(layouts)
        self.batch = 0
        self.frames: int | None = None
        self.averaged = False  # whether the network takes the mean of its frames
        for index, (name, layout) in zip(tape.inputs, layouts.items(), strict=True):
            self._add_input(index, name, layout, shapes[name])

    def _add_input(self, index: int, name: str, layout: Layout, shape: Sequence[int]) -> None:
        lead = LAYOUTS[layout]
        self.batch = shape[layout.index("B")]
        frames = shape[layout.index("F")] if "F" in layout else None
        self.frames = self.frames if frames is None else frames
        if "T" in layout:
            self.note_steps(shape[layout.index("T")])
        self._add_layer(name, InputLayer(name=name, shape=tuple(shape[len(lead) :]), layout=layout, frames=frames), ())
        features = tuple((i,) for i in range(len(shape) - len(lead)))
        time = AXIS if "T" in layout else FRAMES if "F" in layout else STATIC
        self.values[index] = Value(name, time, (*lead, *features))

    def interpret(self, leaf_rules: Callable[[Op], Rule | None], functions: Mapping[str, Rule]) -> None:
        """Give every tensor of the tape its meaning; collects refusals in `problems`."""
        for done, op in enumerate(self.tape.ops):
            try:
                result = self._interpret_op(op, leaf_rules(op) if op.module is not None else functions.get(op.name))
            except Refusal as refusal:
                self.refuse(op, str(refusal))
                result = None
                self.understood = done if self.understood is None else self.understood
            meant = [v for v in leaves_in(result) if isinstance(v, (Value, Const))]
            numbers = refs_in(op.result)
            if len(meant) != len(numbers):
                self.values.update(dict.fromkeys(numbers, Opaque()))
            else:
                self.values.update(zip(numbers, meant, strict=True))

    def _interpret_op(self, op: Op, rule: Rule | None) -> Any:
        constants, numbers = self.tape.constants, refs_in(op.result)
        if op.problem is not None:
            raise Refusal(op.problem)
        if numbers and all(n in constants for n in numbers):
            return [Const(constants[n]) for n in numbers]
        if rule is None:
            raise Refusal(ADVICE.get(op.name, UNKNOWN))
        args, kwargs = map_refs(op.args, self.value_of), map_refs(op.kwargs, self.value_of)
        given = leaves_in((args, kwargs))
        if any(isinstance(v, Opaque) for v in given):
            return None
        if any(isinstance(v, Value) and v.feedback for v in given) and not hasattr(op.module, "float_soma"):
            raise Refusal(
                "reads a current to which spikes of the step before were added; only a neuron can read that sum, so "
                "add what comes back last: neuron(fc(x[t]) + recurrent(s))"
            )
        if op.module is not None and not any(isinstance(v, Value) for v in given):
            raise Refusal("is applied to a constant")
        try:
            inspect.signature(rule).bind(self, op, *args, **kwargs)
        except TypeError:
            raise Refusal("is called with arguments that are not supported here") from None
        return rule(self, op, *args, **kwargs)

    def value_of(self, index: int) -> Value | Const | Opaque:
        """Return what a tensor of the tape means."""
        if index not in self.values and index in self.tape.constants:
            self.values[index] = Const(self.tape.constants[index], self.tape.names.get(index, ""))
        return self.values[index]

    def refuse(self, op: Op, text: str) -> None:
        """Add a problem with the user's layer path, the operation and the source line."""
        where = f"{op.path} ({op.owner})" if op.path else op.owner
        line = f" at {op.source}" if op.source else ""
        message = f"{where}: {op.title}{line}: {text}"
        if message not in self.problems:
            self.problems.append(message)

    # -- sizes and steps -------------------------------------------------------------------------------------

    def note_steps(self, steps: int) -> None:
        """Fix the number of steps T; Refusal if it was another before."""
        if self.steps not in (None, steps):
            raise Refusal(f"runs {steps} steps, but {self.steps} steps were seen before; all layers share one T")
        self.steps = steps

    def size(self, value: Value) -> Callable[[Atom], int]:
        """Return the size of each atom of a value."""
        shape = self.shapes[value.node]

        def size(atom: Atom) -> int:
            if isinstance(atom, int):
                return shape[atom]
            return {"B": self.batch, "F": self.frames or 1}.get(atom, self.steps or 1)

        return size

    def real_shape(self, value: Value) -> tuple[int, ...]:
        """Return the shape of the tensor a value stands for."""
        size = self.size(value)
        return tuple(math.prod(map(size, axis)) for axis in value.axes)

    def behind_neurons(self, node: str) -> bool:
        """Return whether a layer reads neurons, directly or through others."""
        return self.layers[node].kind == "neuron" or any(map(self.behind_neurons, self.inputs[node]))

    # -- layers ----------------------------------------------------------------------------------------------

    def add_layer(self, op: Op, key: Hashable, sources: Sequence[str], make: Callable[..., Layer]) -> str:
        """Return the name of the layer `make(name=, path=, source=)` on `sources`, the same one for the same key."""
        full = (key, tuple(sources))
        if full not in self._keys:
            draft = make(name="", path=op.path, source=op.source)
            prefix, name = PREFIX.get(draft.kind, draft.kind), ""
            while not name or name in self.layers:  # an input may be called so
                self._counts[prefix] = self._counts.get(prefix, 0) + 1
                name = f"{prefix}{self._counts[prefix]}"
            self._add_layer(name, attrs.evolve(draft, name=name), sources)
            self._keys[full] = name
        return self._keys[full]

    def _add_layer(self, name: str, layer: Layer, sources: Sequence[str]) -> None:
        shape, bad = layer.out_shape([self.shapes[src] for src in sources])
        if bad:
            raise Refusal("; ".join(bad))
        self.layers[name], self.inputs[name], self.shapes[name] = layer, tuple(sources), shape

    def on_features(
        self,
        op: Op,
        key: Hashable,
        value: Value,
        make: Callable[..., Layer],
        *,
        lead: int | None = 1,
        after_total: bool = True,
    ) -> Value:
        """Return the value of a stateless layer that reads `value` as `[lead axes, features]`.

        `lead`: how many axes of steps and batch it allows (None: any). `after_total`: whether it may follow a mean
        over all steps, which it may if it is affine.
        """
        axes, value = self.split(op, value)
        if lead is not None and len(axes) != lead:
            raise Refusal(
                f"gets {len(axes)} leading axes of steps and batch, expected {lead}; "
                "fold the steps into the batch with x.flatten(0, 1) first"
            )
        self.check_total(value.time, affine=after_total)
        node = self.add_layer(op, key, [value.node], make)
        return Value(node, value.time, (*axes, *_feature_axes(self.shapes[node])))

    def check_total(self, time: Time, *, affine: bool) -> None:
        """Refuse what cannot follow a sum over steps: only affine layers after a mean over all steps can."""
        if time == FRAMES:
            raise Refusal(
                "reads event frames that are not averaged yet; give every step a frame, or average them first"
            )
        if time.kind != "total":
            return
        if not affine or not self.is_complete(time) or abs(time.factor * (self.steps or 1) - 1.0) > 1e-6:
            raise Refusal(
                "comes after a sum over the steps; only linear layers after a mean over all steps can be moved "
                "before it"
            )

    def is_complete(self, time: Time) -> bool:
        """Return whether a total covers every step once."""
        return time.steps is None or time.steps == frozenset(range(self.steps or 1))

    def split(self, op: Op, value: Value) -> tuple[Axes, Value]:
        """Return (axes of steps and batch, value with its features in order behind them), flattened if need be."""
        axes = list(value.axes)
        count = max((i + 1 for i, axis in enumerate(axes) if {"T", "B"} & set(axis)), default=0)
        lead, rest = axes[:count], axes[count:]
        if not any("B" in axis for axis in lead):
            raise Refusal("lost the batch axis; record with a sample of at least two elements and keep the batch")
        if any(isinstance(atom, int) for axis in lead for atom in axis):
            raise Refusal("mixes features with steps or batch; keep the layout [T,B,...] or [T*B,...]")
        shape, size = self.shapes[value.node], self.size(value)
        order = [atom for axis in rest for atom in axis if size(atom) != 1]
        if order != [i for i, n in enumerate(shape) if n != 1]:
            raise Refusal("gets permuted features; keep the order [C,H,W]")
        real = tuple(math.prod(map(size, axis)) for axis in rest)
        node = value.node
        if real != shape:
            if real != (math.prod(shape),):
                raise Refusal(f"gets features {list(shape)} in the shape {list(real)}; flatten all of them or none")
            node = self.add_layer(op, "flatten", [node], FlattenLayer)
        return tuple(lead), Value(node, value.time, (*lead, *_feature_axes(self.shapes[node])))


def _feature_axes(shape: Shape) -> Axes:
    return tuple((i,) for i in range(len(shape)))
