"""Models that return several tensors: an output of the program for each, in units of its own."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import snn2chip
from snn2chip.compiler import compile_graph
from snn2chip.errors import InputError, TraceError
from snn2chip.frontends.torch import trace
from snn2chip.nn import IF
from snn2chip.testing.whole import folded, spikes, whole

T = 4


class Pair(NamedTuple):
    kind: Tensor
    place: Tensor


class Heads(nn.Module):
    """Two read-outs of one body: currents of one linear layer, spikes behind another."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.fc, self.act, self.form = nn.Linear(6, 8), IF(steps=T, theta=2.0), form
        self.one, self.two, self.last = nn.Linear(8, 3), nn.Linear(8, 5), IF(steps=T, theta=2.0)

    def forward(self, x: Tensor) -> Any:
        y = self.act(folded(self.fc, x))
        one, two = folded(self.one, y), self.last(folded(self.two, y))
        if self.form == "mixed":
            return one.mean(0), two[-1]
        pair = (one[-1], two[-1]) if self.form == "last" else (one.mean(0), two.mean(0))
        return {"dict": {"kind": pair[0], "place": pair[1]}, "named": Pair(*pair)}.get(self.form, pair)


NAMES = {"tuple": ["out0", "out1"], "dict": ["kind", "place"], "named": ["kind", "place"], "last": ["out0", "out1"]}


@pytest.mark.parametrize("form", NAMES)
def test_every_returned_tensor_is_an_output(form: str) -> None:
    net, x = whole(Heads(form), seed=2), spikes(T, 6, 6)
    program, graph = compile_graph(net, x, weights="int8")
    with torch.no_grad():
        returned = net.double()(x.double())
    want = list(returned.values()) if isinstance(returned, dict) else list(returned)
    assert torch.equal(graph.run(x.double()).output, torch.cat(want, 1))
    assert [output.name for output in program.outputs] == NAMES[form]
    for backend in ("reference", "torch"):
        trace = snn2chip.run(program, np.asarray(x), backend=backend, time_axis=True)
        for output, logits in zip(program.outputs, want, strict=True):
            (source,) = (edge.src for edge in program.into[output.name])
            unit = program.meta["units"]["potential" if output.read == "potential" else "payload"][source]
            got = trace.all_outputs[output.name] * np.asarray(unit)
            np.testing.assert_array_equal(got, logits.numpy() * (1 if form == "last" else T))
            assert (got != 0).any()


def test_tensors_read_in_different_ways_are_outputs_of_their_own() -> None:
    """The mean of a current and the last step of spikes, side by side."""
    net, x = whole(Heads("mixed"), seed=2), spikes(T, 6, 6)
    program, graph = compile_graph(net, x, weights="int8")
    assert (graph.output.reduce, graph.output.reduces) == ("each", ("mean", "last"))
    with torch.no_grad():
        want = list(net.double()(x.double()))
    assert torch.equal(graph.run(x.double()).output, torch.cat(want, 1))
    for backend in ("reference", "torch"):
        ran = snn2chip.run(program, np.asarray(x), backend=backend, time_axis=True)
        for output, logits, factor in zip(program.outputs, want, (T, 1), strict=True):
            (source,) = (edge.src for edge in program.into[output.name])
            unit = np.asarray(program.meta["units"]["potential"][source])
            np.testing.assert_array_equal(ran.all_outputs[output.name] * unit, logits.numpy() * factor)
            assert (logits != 0).any()


class Steps(Heads):
    """All steps of both."""

    def forward(self, x: Tensor) -> Any:
        y = self.act(folded(self.fc, x))
        return folded(self.one, y), self.last(folded(self.two, y))


def test_how_each_output_is_read_may_be_chosen() -> None:
    net, x = whole(Steps("all"), seed=2), spikes(T, 6, 6)
    with torch.no_grad():
        one, two = net(x)
    reads = {"out0": {"sum": one.sum(0), "last": one[-1]}, "out1": {"count": (two != 0).sum(0), "sum": two.sum(0)}}
    for first, a in reads["out0"].items():
        for second, b in reads["out1"].items():
            program, _ = compile_graph(net, x, weights="int8", readout={"out0": first, "out1": second})
            ran = snn2chip.run(program, np.asarray(x), backend="reference", time_axis=True)
            units = program.meta["units"]
            (source,) = (edge.src for edge in program.into["out0"])
            np.testing.assert_array_equal(ran.all_outputs["out0"] * np.asarray(units["potential"][source]), a.numpy())
            scale = 1.0 if second == "count" else np.asarray(units["payload"]["neuron2"])
            np.testing.assert_array_equal(ran.all_outputs["out1"] * scale, b.numpy())
            assert program.meta["choices"] == {"readout": {"out0": first, "out1": second}}
    with pytest.raises(InputError, match=r"out0: linear2 .* is a current, it sends no spikes to count"):
        compile_graph(net, x, readout="count")
    with pytest.raises(InputError, match=r"readout of logits: the outputs are out0, out1"):
        compile_graph(net, x, readout={"logits": "sum"})
    with pytest.raises(InputError, match=r"out0: the model itself returns the mean of its steps; return all steps"):
        compile_graph(whole(Heads("tuple"), seed=2), x, readout="last")


def test_all_steps_beside_a_sum_are_refused() -> None:
    class Odd(Heads):
        def forward(self, x: Tensor) -> Any:
            y = self.act(folded(self.fc, x))
            return folded(self.one, y).mean(0), self.last(folded(self.two, y))

    with pytest.raises(TraceError, match=r"over the steps in different ways \(mean, steps\); return all steps of all"):
        trace(whole(Odd("odd"), seed=2), spikes(T, 6, 6))
