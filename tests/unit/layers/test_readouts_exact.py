"""What a model may return: sums and means of currents or spikes over the steps, and those of the last step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import snn2chip
from snn2chip.compiler import compile_graph
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
