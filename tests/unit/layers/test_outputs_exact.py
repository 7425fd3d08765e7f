"""Models that return several tensors: an output of the program for each, in units of its own."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import snn2chip
from snn2chip.compiler import compile_graph
from snn2chip.errors import TraceError
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


def test_tensors_read_in_different_ways_are_refused() -> None:
    with pytest.raises(TraceError, match=r"over the steps in different ways \(last, mean\)"):
        trace(whole(Heads("mixed"), seed=2), spikes(T, 6, 6))
