"""An epoch is a function of seed and epoch; it uses every sample at most once, normalised as the spec says."""

from __future__ import annotations

import pytest
import torch

from snn2chip.checkpoint import InputSpec
from snn2chip.errors import InputError
from snn2chip.train.batches import Batches


def batches(n=11, batch=3, seed=0, time=False, augment=None):
    raw = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).repeat(1, 1, 2, 2)
    if time:
        raw = raw.unsqueeze(1).repeat(1, 4, 1, 1, 1)
    spec = InputSpec(shape=(1, 2, 2), mean=1, std=2, time=time)
    return Batches(raw, torch.arange(n), spec=spec, batch=batch, seed=seed, augment=augment or {})


def labels(source):
    return [y.tolist() for _, y in source]


def test_whole_batches_without_repeats_and_the_rest_waits():
    source = batches()
    seen = [n for part in labels(source) for n in part]
    assert len(source) == 3
    assert len(seen) == len(set(seen)) == 9
    source.set_epoch(1)
    both = set(seen) | {n for part in labels(source) for n in part}
    assert len(both) > 9


def test_x_belongs_to_y_and_is_normalised():
    for x, y in batches():
        assert torch.equal(x, ((y - 1) / 2).view(-1, 1, 1, 1).expand(-1, 1, 2, 2))


def test_event_batches_have_the_steps_first():
    x, y = next(iter(batches(time=True)))
    assert x.shape == (4, 3, 1, 2, 2)
    assert torch.equal(x[2, :, 0, 0, 0], (y - 1) / 2)


def test_epochs_repeat_and_differ():
    first, second = batches(), batches()
    assert labels(first) == labels(first) == labels(second)
    second.set_epoch(1)
    assert labels(first) != labels(second)
    assert labels(batches(seed=1)) != labels(first)
    second.set_epoch(0)
    assert labels(first) == labels(second)


def test_a_small_set_is_one_batch():
    assert [len(y) for _, y in batches(n=5, batch=64)] == [5]


def test_training_needs_samples_and_a_label_for_each():
    with pytest.raises(InputError, match="two samples"):
        batches(n=1)
    spec = InputSpec(shape=(1,))
    with pytest.raises(InputError, match="label for each"):
        Batches(torch.zeros(4, 1), torch.zeros(3), spec=spec, batch=2, seed=0, augment={})


def test_processes_share_every_batch():
    whole, parts = batches(n=12, batch=4), []
    for rank in range(2):
        part = batches(n=12, batch=4)
        part.share(rank=rank, world=2)
        parts.append(labels(part))
    for y, first, second in zip(labels(whole), *parts, strict=True):
        assert (first, second) == (y[::2], y[1::2])
    with pytest.raises(InputError, match="batches of 4 cannot be shared by 3"):
        whole.share(rank=0, world=3)


def test_a_batch_is_a_function_of_its_number_also_with_augmentation():
    make = {"augment": {"shift": 1, "cutout": 1}}
    source = batches(**make)
    want = {(e, i): source[e, i][0] for e in (1, 0) for i in (2, 0, 1)}
    other = batches(**make)
    for epoch in (0, 1):
        other.set_epoch(epoch)
        for index, (x, _) in enumerate(other):
            assert torch.equal(x, want[epoch, index])


def test_beginning_behind_some_batches_of_an_epoch():
    source, late = batches(), batches()
    late.begin(epoch=1, done=2)
    source.set_epoch(1)
    assert labels(late) == labels(source)[2:]
    for epoch in (2, 3):
        late.set_epoch(epoch)
        source.set_epoch(epoch)
        assert labels(late) == labels(source)
    assert len(late) == 3
