"""Calibration reads its samples block by block: no tensor that it makes grows with their number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from snn2chip.errors import InputError
from snn2chip.quantize import payload_steps
from snn2chip.quantize.calibrate import calibrate, check_varied
from snn2chip.quantize.seen import Seen
from snn2chip.testing import graphs as nets


class Largest(TorchDispatchMode):
    """Bytes of the largest tensor that an operation makes, views of the samples left out."""

    def __init__(self, samples: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.own, self.bytes = torch.as_tensor(samples).untyped_storage().data_ptr(), 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in tree_leaves(out):
            if isinstance(value, torch.Tensor) and value.untyped_storage().data_ptr() != self.own:
                self.bytes = max(self.bytes, value.untyped_storage().nbytes())
        return out


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
@pytest.mark.parametrize("fields", [{}, {"fire": "excess", "reset": "clamp"}], ids=["spikes", "real payloads"])
def test_no_tensor_grows_with_the_samples(fields: dict[str, Any], dtype: Any) -> None:
    graph = nets.chain(3, **fields)
    found = []
    for samples in (64, 1024):
        x = np.random.default_rng(0).integers(0, 16, (samples, 1, 6, 6)).astype(dtype)
        with Largest(x) as seen:
            check_varied(x)
            ranges = calibrate(graph, x, block=32)
        assert ranges.samples == samples
        found.append(seen.bytes)
    assert 0 < found[1] < 1.5 * found[0]  # how many payloads there are depends on the values


def test_ranges_do_not_depend_on_blocks() -> None:
    """Whole numbers are seen as such in every block, the largest values in any."""
    graph, x = nets.chain(3), np.random.default_rng(0).integers(0, 16, (40, 1, 6, 6)).astype(np.float64)
    at_once, apart = calibrate(graph, x, block=40), calibrate(graph, x, block=7)
    assert at_once.whole == apart.whole == {"x": True}
    assert at_once.raw == apart.raw == {"x": (x.min(), x.max())}
    assert all((at_once.potential[name] == apart.potential[name]).all() for name in at_once.potential)
    x[39, 0, 5, 5] += 0.5
    assert calibrate(graph, x, block=7).whole == {"x": False}
    x[38, 0, 0, 0] = np.nan
    with pytest.raises(InputError, match="NaN"):
        calibrate(graph, x, block=7)


@pytest.mark.parametrize("where", [0, 63, 64, 199])
def test_one_sample_that_differs_is_enough(where: int) -> None:
    """Blocks end after 64 samples; the one that differs may be anywhere."""
    x = np.ones((200, 3))
    with pytest.raises(InputError, match="so they say nothing"):
        check_varied(x)
    x[:, 1] = 2
    with pytest.raises(InputError, match="are the same"):
        check_varied(x)
    x[where, 0] = 5
    check_varied(x)


def test_payloads_kept_are_few_and_evenly_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of one value each: all of them stay in equal numbers, however many there are."""
    monkeypatch.setattr(payload_steps, "MOST", 1 << 10)
    kept, few = Seen(), Seen()
    for value in range(1, 65):
        kept.join(Seen(payloads={"n": np.full(256, float(value))}))
    values, counts = np.unique(kept.payloads["n"], return_counts=True)
    assert values.tolist() == list(range(1, 65))
    assert len(kept.payloads["n"]) <= 1 << 10
    assert counts.min() == counts.max()
    for value in range(1, 4):
        few.join(Seen(payloads={"n": np.full(256, float(value))}))
    assert len(few.payloads["n"]) == 3 * 256
