"""The worked examples of the integer machine give the stated numbers on every backend."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from snn2chip.registry import get_backend
from snn2chip.testing.worked import WorkedExample, worked_examples

EXAMPLES = worked_examples()
NAMES = [example.name for example in EXAMPLES]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("example", EXAMPLES, ids=NAMES)
@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_numbers_by_hand(backend: str, example: WorkedExample, batch: int) -> None:
    trace = get_backend(backend).run(example.program, example.coded(batch))
    assert "soma" in trace.payloads
    assert example.wrong(trace) == []


def test_merged_example_before_firing() -> None:
    """v before firing of the merged-membrane example: 16, 182, -23, 41, seen by never firing and by hand resets."""
    example = next(e for e in EXAMPLES if e.name == "merged-clamp")
    soma = example.program["soma"]
    from snn2chip.ir.dynamics import fired, soma_start, soma_step

    currents, seen = [2, 30, -3, 12], []
    assert [int(np.dot([1, -1, 1], f)) for f in example.frames] == currents
    state = soma_start(soma, 1)  # type: ignore[arg-type]
    for t, a in enumerate(currents):
        quiet: Any = type(soma)("q", (1,), fire="none", leak=soma.leak, gain=soma.gain, gain_shift=1, bias=soma.bias)
        before = soma_start(quiet, 1)
        before.v = state.v.copy()
        soma_step(quiet, before, np.array([[a]]), t)
        seen.append((int(before.v[0, 0]), int(fired(soma, before.v, t)[0, 0])))  # type: ignore[arg-type]
        soma_step(soma, state, np.array([[a]]), t)  # type: ignore[arg-type]
    assert seen == [(16, 0), (182, 158), (-23, 0), (41, 25)]


@pytest.mark.lava
def test_numbers_by_hand_on_lava() -> None:
    """All examples side by side in one Lava network."""
    backend: Any = get_backend("lava")
    traces = backend.run_many([(e.program, e.coded(2)) for e in EXAMPLES])
    assert len(traces) == len(EXAMPLES)
    assert [text for e, trace in zip(EXAMPLES, traces, strict=True) for text in e.wrong(trace)] == []
