"""Float fidelity: the integer program against the trained float network, measured on data.

Two runs per layer tell its own error from an inherited one: `free` (each integer layer is fed by the integer
layers before it) and `forced` (teacher forcing: each integer layer is fed the float network's own payloads, rounded
to the unit in which they are sent). Truth is the float value itself, never rounded to the unit of what is measured:
a relay in a coarse unit shows its error. Predictions are those of the user's model where it is given.
Nothing here is a statement about backends; those are compared with `==` in `compare`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
from torch import nn

from snn2chip.api import by_step, raw_samples
from snn2chip.checks.fidelity_outputs import labels_by_output
from snn2chip.checks.fidelity_result import Fidelity, LayerFidelity, OutputFidelity
from snn2chip.checks.fidelity_sums import Predict, Sums
from snn2chip.checks.float_side import module_side
from snn2chip.errors import InputError
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.program import Program
from snn2chip.ir.raw import count, part
from snn2chip.ir.soma import Soma
from snn2chip.quantize.choices import as_compiled
from snn2chip.quantize.payload_steps import with_payloads

__all__ = ["Fidelity", "LayerFidelity", "OutputFidelity", "Pair", "Predict", "fidelity"]

BLOCK = 64
"""Samples at a time; sums of floats are taken over these blocks, in their order."""


def fidelity(
    program: Program,
    graph: LayerGraph | nn.Module,
    inputs: Any,
    *,
    labels: Any = None,
    time_axis: bool = False,
    block: int = BLOCK,
    model: Predict | None = None,
    same_payloads: bool = False,
) -> Fidelity:
    """Compare `program` with the float network it was lowered from on raw samples `[N, ...]` (`[T, N, ...]` by step).

    `graph` is that network: the module that was compiled, or its float graph. `model` gives the real model's logits
    `[n, classes]` of raw samples (`[T, n, ...]` with `time_axis`): accuracy and agreement are then its own, and the
    graph serves the layers only; a module is its own `model`. `same_payloads`: real payloads of the float network are
    rounded to the program's codes, and answers are that network's own. Samples of several inputs, and labels of several
    outputs, are given by name. Raises InputError if the program was not
    lowered from this graph or the labels do not fit.
    """
    x = raw_samples(program, inputs)
    stepped = by_step(program, x, time_axis=time_axis)
    time_axis = stepped if isinstance(stepped, bool) else time_axis
    if not isinstance(graph, LayerGraph):
        graph, own = module_side(program, graph, x, time_axis=time_axis)
        model = own if model is None else model
    pair = Pair.of(program, graph, model=model, same_payloads=same_payloads)
    return pair.result(pair.blocks(x, labels=labels, time_axis=time_axis, block=block))


@attrs.frozen(kw_only=True)
class Pair:
    """A program and the float network that it was lowered from, ready to be compared block by block."""

    program: Program
    graph: LayerGraph
    pairs: Sequence[tuple[str, str]]
    model: Predict | None

    @classmethod
    def of(
        cls, program: Program, graph: LayerGraph, *, model: Predict | None = None, same_payloads: bool = False
    ) -> Pair:
        """The pair; InputError if the program was not lowered from this graph."""
        graph = as_compiled(program, graph)
        if same_payloads:
            graph, model = with_payloads(program, graph), None
        names: Mapping[str, str] = program.meta.get("layers", {})
        shapes = {**graph.shapes, **_heads(graph)}
        pairs = [(name, names[name]) for name in names if name in shapes and names[name] in program.by_name]
        if not any(isinstance(program[node], Soma) for _, node in pairs):
            raise InputError("this program was not lowered from this float graph; compile it again to measure fidelity")
        other = [f"{n}: {shapes[n]}, in the program {program.shapes[node]}" for n, node in pairs
                 if shapes[n] != program.shapes[node]]  # fmt: skip
        if other or graph.steps != program.steps:
            where = "; ".join(other) or f"it runs {graph.steps} steps, the program {program.steps}"
            raise InputError(f"the float model is another network than the one that was compiled: {where}")
        return cls(program=program, graph=graph, pairs=pairs, model=model)

    def blocks(self, inputs: Any, *, labels: Any = None, time_axis: bool = False, block: int = BLOCK) -> Iterator[Sums]:
        """The sums of every `block` samples."""
        x = raw_samples(self.program, inputs)
        stepped = by_step(self.program, x, time_axis=time_axis)
        time_axis = stepped if isinstance(stepped, bool) else time_axis
        total = count(x, stepped)
        y = labels_by_output(self.program, labels, total)
        for start in range(0, total, block):
            cut = slice(start, start + block)
            labelled = {name: values[cut] for name, values in y.items()}
            sums = Sums(model=self.model)
            sums.add(self.program, self.graph, self.pairs, part(x, start, start + block, stepped), labelled, time_axis)
            yield sums

    def result(self, blocks: Iterable[Sums]) -> Fidelity:
        """The averages over blocks, added in the order given."""
        whole = Sums(model=self.model)
        for sums in blocks:
            whole.join(sums)
        return whole.result(self.program, self.pairs)


def _heads(graph: LayerGraph) -> dict[str, tuple[int, ...]]:
    """Shapes of the read-outs of several outputs, under the names that lowering gives them."""
    output = graph.output
    sources = graph.inputs[output.name]
    return {f"{output.name}.{head}": graph.shapes[src] for head, src in zip(output.heads, sources, strict=False)}
