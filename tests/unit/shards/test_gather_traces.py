"""Traces of blocks, put together as they come."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

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
