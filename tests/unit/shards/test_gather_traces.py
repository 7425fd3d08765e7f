"""Traces of blocks, put together as they come."""

from __future__ import annotations

import weakref
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from snn2chip_backends.torch import TorchBackend

from benchmarks.networks import mlp, pixels
from snn2chip.api import run
from snn2chip.ir.program import Program
from snn2chip.trace import Trace, gather_traces


def block(start: int, stop: int, *, shared: bool) -> Trace:
    x = np.arange(start, stop, dtype=np.int64).reshape(-1, 1)
    every = {"first": x if shared else x.copy(), "second": -x}
    payloads = {"soma": np.stack([x, x + 1000]).astype(np.int32)}
    return Trace(
        backend="b",
        steps=2,
        samples=len(x),
        outputs=x,
        all_outputs=every,
        payloads=payloads,
        counts=len(x),
        notes=["n"],
    )


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("sizes", [[5], [2, 2], [1, 2, 4], [4, 2, 1], [3] * 7 + [2], [1, 5, 1, 1, 9, 2]])
def test_blocks_of_any_sizes_keep_their_order(sizes: list[int], shared: bool) -> None:
    ends = np.cumsum([0, *sizes]).tolist()
    found = gather_traces(block(a, b, shared=shared) for a, b in pairwise(ends))
    want = np.arange(ends[-1]).reshape(-1, 1)
    assert found.samples == found.counts == ends[-1]
    assert np.array_equal(found.outputs, want)
    assert np.array_equal(found.all_outputs["first"], want)
    assert np.array_equal(found.all_outputs["second"], -want)
    assert np.array_equal(found.payloads["soma"], np.stack([want, want + 1000]))
    assert found.notes == ["n"]
    assert (found.all_outputs["first"] is found.outputs) == shared  # a result is held once


def test_a_run_for_outputs_keeps_few_blocks_at_a_time() -> None:
    """The traces of 64 blocks, each with counts of its own, are not all there at the end; the answer is that of one."""
    program = mlp((20, 30, 10), steps=2)
    x = pixels(program, 64)
    alive: list[weakref.ref[Trace]] = []
    most: list[int] = []

    class Watched(TorchBackend):
        def run(self, program: Program, inputs: Any, *, record: str = "all") -> Trace:
            most.append(sum(made() is not None for made in alive))
            trace = super().run(program, inputs, record=record)
            alive.append(weakref.ref(trace))
            return trace

    got, want = run(program, x, backend=Watched(), record="outputs", block=1), run(program, x, record="outputs")
    assert len(most) == 64
    assert max(most) <= 8
    assert (got.outputs == want.outputs).all()
    assert got.counts == want.counts
