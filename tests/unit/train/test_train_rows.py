"""Raw training samples: the smallest type in memory, or rows read when asked for; the batches are the same."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
import torch

from snn2chip.checkpoint import InputSpec
from snn2chip.data.samples import from_arrays
from snn2chip.errors import InputError
from snn2chip.train import rows
from snn2chip.train.batches import Batches
from snn2chip.train.rows import Rows, compact, rows_of


def samples(values):
    return from_arrays("own", values, np.arange(len(values)))


@pytest.mark.parametrize(
    ("low", "high", "kind"),
    [
        (0, 255, torch.uint8),
        (0, 256, torch.int16),
        (-1, 9, torch.int16),
        (0, 40000, torch.int32),
        (0, 2**40, torch.int64),
    ],
)
def test_whole_numbers_take_the_smallest_type(low, high, kind):
    x = np.array([[low], [high], [1]], np.int64)
    got = rows_of(samples(x))
    assert isinstance(got, torch.Tensor)
    assert got.dtype == kind
    assert got.tolist() == x.tolist()


def test_real_numbers_are_float32_and_parts_of_different_size_one_type():
    assert rows_of(samples(np.array([[0.5], [1.5]]))).dtype == torch.float32
    x = np.zeros((5000, 1), np.int64)
    x[4999] = 1000  # in the second part that is read
    got = rows_of(samples(x))
    assert got.dtype == torch.int16
    assert got[4999].item() == 1000
    assert compact(np.zeros((0, 2), np.int32)).dtype == np.int32


def test_rows_read_when_asked_for_are_the_same(monkeypatch):
    x = np.random.default_rng(0).integers(0, 256, (50, 1, 4, 4)).astype(np.uint8)
    whole = rows_of(samples(x))
    monkeypatch.setattr(rows, "IN_MEMORY", 100)
    lazy = rows_of(samples(x))
    assert isinstance(lazy, Rows)
    assert len(lazy) == 50
    make = {"spec": InputSpec(shape=(1, 4, 4)), "batch": 7, "seed": 3, "augment": {"shift": 1}}
    pairs = [list(Batches(raw, torch.arange(50), **make)) for raw in (whole, lazy)]
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(*pairs, strict=True))
    assert isinstance(rows_of(attrs.evolve(samples(x), rows=None)), torch.Tensor)  # cannot be read from anywhere


def test_one_input_only():
    two = attrs.evolve(samples(np.zeros((3, 1))), shapes={"a": (1,), "b": (1,)})
    with pytest.raises(InputError, match="expected one input, got a, b"):
        rows_of(two)


def test_values_that_may_not_be_written_become_their_own():
    frozen = np.arange(6, dtype=np.uint8)
    frozen.flags.writeable = False
    for values in (frozen, frozen.astype(np.float32)):
        values.flags.writeable = False
        own = compact(values)
        assert own.flags.writeable
        assert (own == values).all()
