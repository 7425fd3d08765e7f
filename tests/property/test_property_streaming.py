"""Streaming one step at a time gives the integers of the batch run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import snn2chip
from snn2chip import Output, Program, Soma, Synapse
from snn2chip.errors import InputError
from snn2chip.ir.nodes import Host, Input
from snn2chip.streaming import StepResult, session
from snn2chip.testing.cases import Case, covering_cases
from snn2chip.testing.edges import edge_cases
from snn2chip.testing.programs import random_program


def frame(node: Input | Host, raw: Any, t: int) -> Any:
    return raw[t] if node.coding == "steps" else raw


def stream(case: Case, backend: str, rounds: int = 2) -> list[StepResult]:
    """Feed the case's samples `rounds` times without a pause, then flush."""
    batch = next(iter(case.coded.values())).shape[1]
    live = session(case.program, backend=backend, batch=batch)
    results = []
    for _ in range(rounds):
        for t in range(case.program.steps):
            frames = {n.name: frame(n, case.raw[n.name], t) for n in case.program.inputs}
            results.append(live.step(frames))
    return results + live.flush()


def compare_streamed(case: Case, results: list[StepResult], rounds: int = 2) -> None:
    met: dict[str, set[tuple[int, int]]] = {s.name: set() for s in case.program.somas}
    for result in results:
        for name, payload in result.payloads.items():
            sample, t = result.steps[name]
            if sample < rounds:
                met[name].add((sample, t))
                assert (payload == case.expected.payloads[name][t]).all(), (case.name, name, sample, t)
    every = {(n, t) for n in range(rounds) for t in range(case.program.steps)}
    assert all(seen == every for seen in met.values())
    outputs = [r.outputs for r in results if r.outputs is not None][:rounds]
    if case.program.outputs:
        assert len(outputs) == rounds
        assert all((np.asarray(o) == case.expected.outputs).all() for o in outputs)


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize("seed", range(25))
def test_random_programs(seed: int, backend: str) -> None:
    case = random_program(7000 + seed)
    compare_streamed(case, stream(case, backend))


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_conformance_programs(backend: str) -> None:
    """Windows, residual paths, loops, long delays, hosts, every coding."""
    for case in (*covering_cases()[::3], *edge_cases()):
        compare_streamed(case, stream(case, backend))


def test_reset_forgets_everything() -> None:
    case = random_program(7003)
    live = session(case.program, backend="reference", batch=next(iter(case.coded.values())).shape[1])
    frames = {n.name: frame(n, case.raw[n.name], 0) for n in case.program.inputs}
    first = live.step(frames)
    live.reset()
    again = live.step(frames)
    assert first.steps == again.steps
    assert all((again.payloads[k] == v).all() for k, v in first.payloads.items())


def test_flush_between_samples_changes_nothing() -> None:
    """A window of 3 steps lags by 2, which is no multiple of T: the next sample must start at its own first step."""
    window = np.array([[1, 1, 0], [0, 1, 1], [1, 0, 1]])
    program = Program(
        nodes=[
            Input("x", (1,), 0, 9, coding="steps"),
            Synapse("w", "identity"),
            Soma("s", (1,), theta=4, levels=3, window=window),
            Output("o", "payload"),
        ],
        edges=[("x", "w"), ("w", "s"), ("s", "o")],
        steps=3,
    )
    x = np.array([[3, 0, 6], [5, 2, 1], [9, 9, 0]])
    batch = snn2chip.run(program, x.T[..., None], backend="reference", time_axis=True)
    session = snn2chip.session(program, backend="reference")
    for sample, frames in enumerate(x):
        results = [session.step([[value]]) for value in frames] + session.flush()
        got = {at: int(r.payloads["s"][0, 0]) for r in results for name, at in r.steps.items() if name == "s"}
        assert got == {(sample, t): int(batch.payloads["s"][t, sample, 0]) for t in range(3)}
        assert [int(r.outputs[0, 0]) for r in results if r.outputs is not None] == [int(batch.outputs[sample, 0])]
    session.step([[1]])
    with pytest.raises(InputError, match="middle of a sample"):
        session.flush()
