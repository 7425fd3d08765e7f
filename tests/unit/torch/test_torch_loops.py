"""Feedback loops through the compiled pass: state goes on from step to step, in every layout, of every kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from snn2chip_backends.torch import fused, loop

from snn2chip.api import run
from snn2chip.ir.nodes import Input, Output, Product, Synapse
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


@pytest.mark.parametrize("outer", ["linear", "identity", "product"])
def test_currents_of_a_loop_are_read_outside_too(outer: str) -> None:
    """A synapse or product inside a loop also feeds a soma that is not in it."""
    back = (
        Product("r", shift=1)
        if outer == "product"
        else Synapse("r", outer, [[1, -2], [3, 1]] if outer == "linear" else -2)
    )
    program = Program(
        nodes=[
            Input("in", (2,), -3, 9, coding="steps"),
            Synapse("w", "identity"),
            back,
            Soma("n", (2,), fire="relay", reset="drop", out_max=50),
            Soma("outside", (2,), fire="relay", reset="drop"),
            Output("out", "payload"),
        ],
        edges=[
            *(("in", "w"), ("w", "n"), ("n", "r", 1), ("r", "n"), ("w", "outside"), ("r", "outside")),
            *((("n", "r", 2),) if outer == "product" else ()),
            ("outside", "out"),
        ],
        steps=6,
    )
    x = np.random.default_rng(2).integers(-3, 10, size=(6, 3, 2))
    ours, truth = (run(program, x, backend=name, time_axis=True) for name in ("torch", "reference"))
    assert (ours.payloads["n"] == truth.payloads["n"]).all()
    assert (ours.payloads["outside"] == truth.payloads["outside"]).all()
    assert (truth.payloads["outside"][1:] != x[1:]).any()
