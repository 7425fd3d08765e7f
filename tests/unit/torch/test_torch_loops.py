"""Feedback loops through the compiled pass: state goes on from step to step, in every layout, of every kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from snn2chip_backends.torch import fused, loop

from snn2chip.api import run
from snn2chip.ir.nodes import Input, Output, Synapse
from snn2chip.ir.program import Edge, Program
from snn2chip.ir.soma import Soma

STATES: dict[str, dict[str, Any]] = {
    "plain": {"theta": 40},
    "saturating": {"theta": 8_000_000, "gain": 30_000},
    "current": {"theta": 90, "syn_leak": 3000, "leak": 4000},
    "delayed": {"theta": 60, "reset": "subtract-delayed"},
    "graded": {"theta": [[30], [50], [40], [30], [20]], "levels": 5, "out_gain": 3, "out_shift": 1, "out_max": 6},
    "dropped": {"theta": 35, "reset": "drop"},
}


def recurrent(shape: tuple[int, ...], delay: int, **soma: Any) -> Program:
    """One population that hears itself, behind a graded input; spikes and payloads out."""
    rng = np.random.default_rng(0)
    size = int(np.prod(shape))
    return Program(
        nodes=[
            Input("in", shape, -3, 9, coding="steps"),
            Synapse("w", "identity", rng.integers(-9, 20, size=shape[0])),
            Synapse("r", "linear", rng.integers(-30, 31, size=(size, size)), shape=shape),
            Soma("n", shape, bias=rng.integers(-4, 5, size=shape[0]), **soma),
            Output("spikes", "count"),
            Output("sum", "payload"),
        ],
        edges=[
            Edge("in", "w"),
            Edge("w", "n"),
            Edge("n", "r", delay=delay),
            Edge("r", "n"),
            *(Edge("n", name) for name in ("spikes", "sum")),
        ],
        steps=5,
    )


@pytest.mark.parametrize("kind", STATES)
@pytest.mark.parametrize(("shape", "delay"), [((3, 2, 2), 1), ((12,), 2)])
def test_loops_equal_the_reference(
    shape: tuple[int, ...], delay: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    make = loop._made
    monkeypatch.setattr(loop, "_made", lambda *given: made.append(make(*given)) or made[-1])
    monkeypatch.setattr(fused, "RUN", 5)  # several runs of neurons in a population
    program = recurrent(shape, delay, **STATES[kind])
    x = np.random.default_rng(1).integers(-3, 10, size=(5, 4, *shape))
    for record in ("all", "outputs", "outputs"):
        expected, got = (run(program, x, backend=name, record=record) for name in ("reference", "torch"))
        assert got.counts == expected.counts
        for name, values in expected.all_outputs.items():
            assert (got.all_outputs[name] == values).all()
        if record == "all":
            assert (got.payloads["n"] == expected.payloads["n"]).all()
            assert (got.potentials["n"] == expected.potentials["n"]).all()
    assert expected.counts.totals["spikes"] > 0
    assert (expected.counts.totals["saturations"] > 0) == (kind == "saturating")
    if fused.compiled_pass() is not None:
        assert all(isinstance(soma, loop._Compiled) for soma in made)
