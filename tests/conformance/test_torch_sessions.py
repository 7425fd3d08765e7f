"""Streaming on torch gives, step by step, what the batch run gives: windows, delays, loops, products."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from snn2chip.api import run
from snn2chip.ir.nodes import Input, Output, Product, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.streaming import session

T, B = 4, 3
RNG = np.random.default_rng(8)


def chain(*middle: Any, edges: list[Any], read: str = "payload") -> Program:
    """`in` -> ... -> `last` -> output."""
    return Program(nodes=[Input("in", 5, -20, 20), *middle, Output("out", read)], edges=edges, steps=T)


W1, W2 = RNG.integers(-9, 10, size=(6, 5)), RNG.integers(-9, 10, size=(5, 6))

PROGRAMS = {
    "plain": chain(
        Synapse("a", "linear", W1),
        Soma("n", 6, theta=90, levels=3, leak=3500),
        Synapse("b", "linear", W2),
        Soma("last", 5, fire="none"),
        edges=[("in", "a"), ("a", "n"), ("n", "b"), ("b", "last"), ("last", "out")],
        read="potential",
    ),
    "windowed twice": chain(
        Synapse("a", "linear", W1),
        Soma("n", 6, theta=90, levels=3, window=RNG.integers(-2, 4, size=(T, T))),
        Synapse("b", "linear", W2),
        Soma("last", 5, theta=10, levels=9, window=np.ones((T, T), int), window_shift=1),
        edges=[("in", "a"), ("a", "n"), ("n", "b"), ("b", "last"), ("last", "out")],
    ),
    "delayed shortcut": chain(
        Synapse("a", "identity", 3),
        Soma("n", 5, theta=9, levels=4, reset="subtract-delayed"),
        Synapse("b", "identity"),
        Synapse("c", "identity", -2),
        Soma("last", 5, fire="excess", reset="clamp", theta=4, syn_leak=1000),
        edges=[("in", "a"), ("a", "n"), ("n", "b"), ("in", "c", 2), ("b", "last"), ("c", "last"), ("last", "out")],
    ),
    "recurrent": chain(
        Synapse("a", "linear", W1),
        Soma("n", 6, theta=60, levels=2),
        Synapse("self", "linear", RNG.integers(-5, 6, size=(6, 6))),
        Synapse("b", "linear", W2),
        Soma("last", 5, theta=11, reset="zero"),
        Synapse("back", "linear", W1),
        edges=[
            ("in", "a"),
            ("a", "n"),
            ("n", "self", 1),
            ("self", "n"),
            ("n", "b"),
            ("b", "last"),
            ("last", "back", 2),
            ("back", "n"),
            ("last", "out"),
        ],
    ),
    "gated": chain(
        Synapse("a", "identity"),
        Soma("p", 5, fire="relay", reset="drop"),
        Product("g", shift=2),
        Soma("last", 5, theta=8, levels=15),
        edges=[("in", "a"), ("a", "p"), ("p", "g"), ("in", "g", 1), ("g", "last"), ("last", "out")],
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_session_equals_batch(name: str) -> None:
    """Two samples, one after the other, with other frames at every step; all payloads and both outputs."""
    program = PROGRAMS[name]
    frames = np.random.default_rng(2).integers(-20, 21, size=(2, T, B, 5))
    batches = [run(program, x, backend="reference", time_axis=True) for x in frames]
    assert all(batch.payloads["last"].any() or batch.outputs.any() for batch in batches)
    running = session(program, backend="torch", batch=B)
    results = [running.step(frame) for sample in frames for frame in sample] + running.flush()
    seen = {soma.name: set() for soma in program.somas}
    outputs = []
    for result in results:
        for soma, (sample, step) in result.steps.items():
            if sample < 2:
                assert (result.payloads[soma] == batches[sample].payloads[soma][step]).all(), (soma, sample, step)
                seen[soma].add((sample, step))
        if result.outputs is not None:
            outputs.append(result.outputs)
    assert all(len(steps) == 2 * T for steps in seen.values())
    for got, batch in zip(outputs[:2], batches, strict=True):
        assert got.dtype == np.int64
        assert (got == batch.outputs).all()


def test_results_are_copies_of_their_own() -> None:
    """A result must not change when the session goes on."""
    program = PROGRAMS["plain"]
    running = session(program, backend="torch", batch=B)
    frames = np.random.default_rng(2).integers(-20, 21, size=(T, B, 5))
    results = [running.step(frame) for frame in frames]
    kept = [{name: payload.copy() for name, payload in r.payloads.items()} for r in results]
    final = results[-1].outputs
    assert final is not None
    before = final.copy()
    for frame in frames:
        running.step(frame)
    assert (final == before).all()
    for result, copies in zip(results, kept, strict=True):
        assert all((result.payloads[name] == copy).all() for name, copy in copies.items())


def test_reset_starts_over() -> None:
    program = PROGRAMS["recurrent"]
    running = session(program, backend="torch", batch=B)
    frames = np.random.default_rng(2).integers(-20, 21, size=(T, B, 5))
    first = [running.step(frame).payloads["last"] for frame in frames[:3]]
    running.reset()
    again = [running.step(frame).payloads["last"] for frame in frames[:3]]
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
