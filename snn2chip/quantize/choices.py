"""What a user chooses beside the weights: how payloads, input, compare and parallel neurons are realised.

    payload_bits   4..16 bits for real payloads (EM-PF)
    input_coding   direct: values as payloads at every step    rate-floor, rate-round: evenly spread spikes
    strict         fire at v > theta instead of v >= theta
    parallel       as-is | graded: one graded step | spikes: T sorted binary spikes
    readout        auto: as the model's forward reads its steps | sum | mean | last | count, of a model that returns all

`prepared` gives the float graph of these choices: what is calibrated, lowered and held against the program.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
import torch

from snn2chip.errors import InputError, UnsupportedError
from snn2chip.ir.coded_input import RATE_CODINGS, CodedInputLayer
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import InputLayer
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.ir.program import Program
from snn2chip.ir.raw import ByStep, holds_steps
from snn2chip.passes.affine import scaled_input
from snn2chip.passes.insert_relays import InsertRelays
from snn2chip.quantize.inputs import BYTES, declared_ranges
from snn2chip.quantize.spec import QuantSpec

CODINGS = ("direct", *RATE_CODINGS)
PARALLEL = ("as-is", "graded", "spikes")
READOUTS = ("auto", "sum", "mean", "last", "count")


@attrs.frozen(kw_only=True)
class Choices:
    """See above; InputError lists every value that is none of the known ones."""

    payload_bits: int = 8
    input_coding: str | Mapping[str, str] = "direct"
    strict: bool = False
    parallel: str = "as-is"
    readout: str | Mapping[str, str] = "auto"

    def __attrs_post_init__(self) -> None:
        codings = self.input_coding.values() if isinstance(self.input_coding, Mapping) else [self.input_coding]
        bad = [f"input_coding={c!r} is none of {', '.join(CODINGS)}" for c in codings if c not in CODINGS]
        reads = self.readout.values() if isinstance(self.readout, Mapping) else [self.readout]
        bad += [f"readout={how!r} is none of {', '.join(READOUTS)}" for how in reads if how not in READOUTS]
        if self.parallel not in PARALLEL:
            bad.append(f"parallel={self.parallel!r} is none of {', '.join(PARALLEL)}")
        if not isinstance(self.strict, bool):
            bad.append(f"strict={self.strict!r} must be true or false")
        try:
            QuantSpec(payload_bits=self.payload_bits)
        except InputError as error:
            bad.append(str(error))
        if bad:
            raise InputError(bad)

    def changed(self) -> dict[str, Any]:
        """The choices that are not the default, as they are kept in a program."""
        return {k: v for k, v in attrs.asdict(self).items() if v != getattr(Choices(), k)}

    def coding_of(self, graph: LayerGraph, name: str) -> str:
        """The coding of one input; InputError for codings of inputs that are not there."""
        if not isinstance(self.input_coding, Mapping):
            return self.input_coding
        names = [layer.name for layer in graph.input_layers]
        if unknown := [str(key) for key in self.input_coding if key not in names]:
            raise InputError(f"input_coding of {', '.join(unknown)}: the inputs are {', '.join(names)}")
        return self.input_coding.get(name, "direct")

    def prepared(self, graph: LayerGraph, data: Any, *, per_step: ByStep, input_range: Any = None) -> LayerGraph:
        """Return the float graph (normal form) of these choices.

        `data` are raw calibration samples, of several inputs by name.
        Raises InputError and UnsupportedError where spikes cannot carry the input or neurons are not parallel.
        """
        from snn2chip.convert.parallel_form import parallel_form

        if self.parallel != "as-is":
            graph = parallel_form(graph, form=self.parallel)
        graph = read_by(graph, self.readout)
        for layer in graph.input_layers:
            coding = self.coding_of(graph, layer.name)
            if coding == "direct" or isinstance(layer, CodedInputLayer):
                continue
            if holds_steps(layer.name, per_step) or layer.frames is not None:
                raise InputError(
                    f"input_coding={coding!r} makes the steps of a sample, but the samples hold them already; "
                    "give one frame per sample, or input_coding='direct'"
                )
            x = data[layer.name] if isinstance(data, Mapping) else data
            known = declared_ranges(graph, input_range).get(layer.name)
            graph = coded(graph, coding=coding, spike=spike_value(x, known), input=layer.name)
        return graph


def read_by(graph: LayerGraph, readout: str | Mapping[str, str]) -> LayerGraph:
    """Return the graph (normal form) whose steps are read so; a mapping says it for single ones of several outputs.

    Raises InputError where the model itself reads its steps in another way, and where what is counted sends no spikes.
    """
    output, names = graph.output, graph.output.heads or ("out",)
    wanted = dict(readout) if isinstance(readout, Mapping) else dict.fromkeys(names, readout)
    if unknown := [str(name) for name in wanted if name not in names]:
        raise InputError(f"readout of {', '.join(unknown)}: the outputs are {', '.join(names)}")
    own = [output.how(i) for i in range(len(names))]
    asked = [wanted.get(name, "auto") for name in names]
    ways = [has if way == "auto" else way for way, has in zip(asked, own, strict=True)]
    if ways == own:
        return graph
    bad = []
    for name, way, has, source in zip(names, ways, own, graph.sources(output.name), strict=True):
        if way != has and has != "steps":
            bad.append(f"{name}: the model itself returns the {has} of its steps; return all steps to read the {way}")
        spiking = isinstance(source, NeuronLayer) and source.soma.fire in ("levels", "excess", "ladder")
        if way == "count" and not spiking:
            bad.append(f"{name}: {source.label} is a current, it sends no spikes to count; read its sum or last step")
    if bad:
        raise InputError(bad)
    sums = ["sum" if way == "steps" and len(set(ways)) > 1 else way for way in ways]  # of spikes, what is read anyway
    mixed = len(set(sums)) > 1
    changed = attrs.evolve(output, reduce="each" if mixed else sums[0], reduces=tuple(sums) if mixed else ())
    return InsertRelays().run(graph.with_layers(changed))


def spike_value(data: Any, input_range: tuple[float, float] | None) -> float:
    """The raw value V of one input spike: the top of the declared range, 255 for bytes, else the largest value seen."""
    x = np.asarray(data)
    low, top = (float(x.min()), float(x.max())) if input_range is None else input_range
    if low < 0:
        raise InputError(
            f"raw values reach down to {low:g}, spikes carry no sign; keep raw values in 0..V and give the "
            "normalisation with `normalise`, or use input_coding='direct'"
        )
    if input_range is None and BYTES[0] <= top <= BYTES[1] and bool((x == np.round(x)).all()):
        return float(BYTES[1])
    return top if top > 0 else 1.0


def coded(graph: LayerGraph, *, coding: str, spike: float, input: str | None = None) -> LayerGraph:
    """Return the graph (normal form) whose input (`input` names one of several) sends spikes worth `spike` raw units.

    An integer offset of the input moves into the biases of its readers; UnsupportedError lists those with zero
    padding, where that would not be exact.
    """
    given = graph.input if input is None else graph.layer(input)
    assert isinstance(given, InputLayer)
    fields = {f.name: getattr(given, f.name) for f in attrs.fields(type(given)) if f.init}
    bad, readers = [], []
    if given.offset is not None:
        channels = given.shape[0] if given.shape else 1
        shift = -given.offset.double().flatten().expand(channels)
        for layer in graph.users(given.name):
            moved = scaled_input(layer, torch.ones(1, dtype=torch.float64), shift, shape=given.shape)
            if moved is None:
                bad.append(
                    f"{layer.label}: pads with zeros, which mean the normalisation's mean; spikes cannot carry it at "
                    "the border. Normalise without a mean, or use input_coding='direct'"
                )
            else:
                readers.append(moved)
    if bad:
        raise UnsupportedError(bad)
    layer = CodedInputLayer(**{**fields, "offset": None}, coding=coding, spike=spike, steps=graph.steps)
    return graph.with_layers(layer, *readers)


def as_compiled(program: Program, graph: LayerGraph) -> LayerGraph:
    """The float graph with the choices that `program` was compiled with; as it is where it has them already."""
    chosen = dict(program.meta.get("choices", {}))
    if chosen.get("parallel", "as-is") != "as-is":
        from snn2chip.convert.parallel_form import parallel_form

        graph = parallel_form(graph, form=chosen["parallel"])
    graph = read_by(graph, chosen.get("readout", "auto"))
    named = {layer.name: layer for layer in graph.input_layers}
    for node in program.inputs:
        if node.coding in RATE_CODINGS and not isinstance(named.get(node.name), CodedInputLayer):
            graph = coded(graph, coding=node.coding, spike=node.scale, input=node.name)
    return graph
