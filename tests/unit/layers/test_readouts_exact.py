"""What a model may return: sums and means of currents or spikes over the steps, and those of the last step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import snn2chip
from snn2chip.checks.usable import usable_backends
from snn2chip.compiler import compile_graph
from snn2chip.errors import InputError, QuantizeError
from snn2chip.nn import IF, MHT
from snn2chip.testing.whole import assert_exact, folded, spikes, whole

T = 4
READS = {
    "sum": lambda y: y.sum(0),
    "mean": lambda y: y.mean(0),
    "last": lambda y: y[-1],
}


class Returns(nn.Module):
    """Currents, spikes or levels, read over the steps in some way."""

    def __init__(self, what: str, how: str) -> None:
        super().__init__()
        self.fc, self.act, self.head = nn.Linear(6, 8), IF(steps=T, theta=2.0), nn.Linear(8, 3)
        self.what, self.how = what, how
        self.last = MHT(steps=T, levels=3, theta=2.0) if what == "levels" else IF(steps=T, theta=2.0)

    def forward(self, x: Tensor) -> Tensor:
        y = folded(self.head, self.act(folded(self.fc, x)))
        return READS[self.how](y if self.what == "currents" else self.last(y))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("what", ["currents", "spikes", "levels"])
@pytest.mark.parametrize("how", READS)
def test_read_over_the_steps(what: str, how: str) -> None:
    program = assert_exact(whole(Returns(what, how), seed=2), spikes(T, 6, 6))
    counted = what != "currents" and how != "last"
    assert [output.read for output in program.outputs] == ["payload" if counted else "potential"]


def test_the_last_step_is_not_the_sum() -> None:
    """The read-out of the last step forgets the steps before: the integers are those of the last payload alone."""
    net, x = whole(Returns("levels", "last"), seed=2), spikes(T, 6, 6)
    program, _ = compile_graph(net, x, weights="int8")
    trace = snn2chip.run(program, np.asarray(x), backend="reference", time_axis=True)
    sent = trace.payloads["neuron2"]
    assert (sent[:-1] != 0).any()
    ratio = trace.outputs[sent[-1] != 0] / sent[-1][sent[-1] != 0]
    assert len(set(ratio.tolist())) == 1
    assert (trace.outputs[sent[-1] == 0] == 0).all()
    with torch.no_grad():
        np.testing.assert_array_equal(net(x).numpy(), 2.0 * sent[-1])


class All(Returns):
    """All steps, for the compiler to read."""

    def forward(self, x: Tensor) -> Tensor:
        y = folded(self.head, self.act(folded(self.fc, x)))
        return y if self.what == "currents" else self.last(y)


CHOSEN = {
    "sum": lambda y: y.sum(0),
    "mean": lambda y: y.sum(0),
    "last": lambda y: y[-1],
    "count": lambda y: (y != 0).sum(0),
}


@pytest.mark.parametrize("what", ["currents", "spikes", "levels"])
@pytest.mark.parametrize("how", CHOSEN)
def test_a_model_that_returns_all_steps_is_read_as_chosen(what: str, how: str) -> None:
    """Counts are of steps with a spike, whatever its level; sums are of payloads."""
    net, x = whole(All(what, how), seed=2), spikes(T, 6, 6)
    if (what, how) == ("currents", "count"):
        with pytest.raises(InputError, match="sends no spikes to count"):
            compile_graph(net, x, readout=how)
        return
    program, graph = compile_graph(net, x, weights="int8", readout=how)
    with torch.no_grad():
        y = net(x)
    want = CHOSEN[how](y).numpy()  # type: ignore[no-untyped-call]
    (output,) = program.outputs
    (source,) = (edge.src for edge in program.into[output.name])
    units = program.meta["units"]["potential" if output.read == "potential" else "payload"][source]
    unit = 1.0 if how == "count" else np.asarray(units)
    for backend in usable_backends(program)[0] if how == "count" else ("reference", "torch"):
        ran = snn2chip.run(program, np.asarray(x), backend=backend, time_axis=True)
        np.testing.assert_array_equal(ran.outputs * unit, want, err_msg=backend)
    np.testing.assert_array_equal(graph.run(x).output.numpy() * (T if how == "mean" else 1), want)
    if what == "levels":
        assert (y.sum(0) != 2.0 * (y != 0).sum(0)).any(), "no spike has two levels, which proves nothing"


def test_all_steps_of_spikes_are_summed_and_of_currents_refused() -> None:
    x = spikes(T, 6, 6)
    program, _ = compile_graph(whole(All("levels", ""), seed=2), x, weights="int8")
    assert [output.read for output in program.outputs] == ["payload"]
    with pytest.raises(QuantizeError, match=r"returns every step.*choose how they are read \(readout='sum', 'last'\)"):
        compile_graph(whole(All("currents", ""), seed=2), x)
