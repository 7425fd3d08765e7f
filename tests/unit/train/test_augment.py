"""Augmentations move, mirror and thin as their lines say, the same for all channels and steps of a sample."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import pytest
import torch
from torch import Generator
from torch.nn.functional import pad

from snn2chip.errors import EnvironmentFault, InputError
from snn2chip.train.augment import augmented, cutout, drop_steps, flip, roll, shift, thin
from snn2chip.train.pictures import autoaugment, mixed, resized_crop

needs_torchvision = pytest.mark.skipif(find_spec("torchvision") is None, reason="needs the extra snn2chip[train]")


def draw(seed=0):
    return Generator().manual_seed(seed)


def test_shift_moves_each_sample_as_one_piece_by_up_to_n_and_fills_with_zero():
    x = torch.arange(1, 40 * 3 * 2 * 5 * 4 + 1).view(40, 3, 2, 5, 4)  # [B, T, C, H, W], no zero inside
    y = shift(x, 1, draw())
    seen = set()
    for before, after in zip(x, y, strict=True):
        padded = pad(before, (1, 1, 1, 1))
        places = [(i, j) for i in range(3) for j in range(3) if torch.equal(padded[..., i : i + 5, j : j + 4], after)]
        assert len(places) == 1
        seen |= set(places)
    assert len(seen) == 9  # every move of -1..1 in both directions occurs among 40 samples


def test_shift_of_zero_changes_nothing():
    x = torch.randint(0, 9, (3, 1, 4, 4))
    assert torch.equal(shift(x, 0, draw()), x)


def test_flip_mirrors_all_none_or_some_samples():
    x = torch.randint(0, 9, (200, 2, 3, 4), dtype=torch.uint8)
    assert torch.equal(flip(x, 1.0, draw()), x.flip(-1))
    assert torch.equal(flip(x, 0.0, draw()), x)
    some = flip(x, 0.5, draw())
    mirrored = [torch.equal(a, b.flip(-1)) and not torch.equal(a, b) for a, b in zip(some, x, strict=True)]
    kept = [torch.equal(a, b) for a, b in zip(some, x, strict=True)]
    assert all(m or k for m, k in zip(mirrored, kept, strict=True))
    assert 70 < sum(kept) < 130


def test_thin_drops_events_and_never_adds_any():
    x = torch.full((400, 2, 10, 10), 4, dtype=torch.uint8)
    y = thin(x, 0.5, draw())
    assert ((y >= 0) & (y <= 4) & (y == y.round())).all()
    rate = y.float().mean((1, 2, 3)) / 4
    assert abs(float(rate.mean()) - 0.75) < 0.02  # 1 - p*E[u], u uniform
    assert rate.std() > 0.1  # one rate per sample: 0.5/sqrt(12) = 0.144
    assert torch.equal(thin(x, 0.0, draw()), x.float())


def test_the_same_generator_state_draws_the_same():
    x = torch.randint(0, 9, (8, 1, 6, 6))
    chosen = {"shift": 2, "flip": 0.5, "thin": 0.3}
    assert torch.equal(augmented(x, chosen, draw(3)), augmented(x, chosen, draw(3)))
    assert not torch.equal(augmented(x, chosen, draw(3)), augmented(x, chosen, draw(4)))


def test_roll_goes_around_the_borders():
    x = torch.arange(60 * 2 * 4 * 5).view(60, 2, 4, 5)
    moves = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    seen = set()
    for before, after in zip(x, roll(x, 1, draw()), strict=True):
        places = [m for m in moves if torch.equal(torch.roll(before, m, (-2, -1)), after)]
        assert len(places) == 1
        seen |= set(places)
    assert len(seen) == 9
    assert torch.equal(roll(x, 0, draw()), x)


def test_dropped_steps_are_one_stretch_of_at_most_the_share():
    x = torch.ones(300, 8, 1, 2, 2)
    y = drop_steps(x, 0.5, draw())
    lengths = set()
    for sample in y:
        kept = sample.flatten(1).amin(1)
        assert torch.equal(kept, sample.flatten(1).amax(1))  # whole steps
        gone = (kept == 0).nonzero().flatten().tolist()
        assert gone == list(range(gone[0], gone[-1] + 1)) if gone else True
        lengths.add(len(gone))
    assert lengths == {0, 1, 2, 3, 4}
    with pytest.raises(InputError, match="frames of events"):
        drop_steps(torch.ones(2, 3, 4, 4), 0.5, draw())


def test_cutout_is_a_square_around_any_pixel_cut_by_the_border():
    x = torch.ones(400, 2, 5, 6)
    masks = {}
    for row in range(5):
        for column in range(6):
            mask = torch.ones(5, 6)
            mask[max(row - 2, 0) : row + 2, max(column - 2, 0) : column + 2] = 0
            masks[tuple(mask.flatten().tolist())] = (row, column)
    seen = set()
    for sample in cutout(x, 4, draw()):
        assert torch.equal(sample[0], sample[1])
        seen.add(tuple(sample[0].flatten().tolist()))
    assert seen == set(masks)


@needs_torchvision
def test_autoaugment_is_torchvisions_policy_and_leaves_the_global_generator_alone():
    from torchvision.transforms import AutoAugmentPolicy, v2

    x = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    got = autoaugment(x, "cifar10", draw(2))
    assert torch.equal(torch.get_rng_state(), before)
    policy = v2.AutoAugment(AutoAugmentPolicy.CIFAR10)
    with torch.random.fork_rng():
        torch.manual_seed(int(torch.randint(2**62, (), generator=draw(2))))
        want = torch.stack([policy(picture) for picture in x])
    assert torch.equal(got, want)
    assert not torch.equal(got, x)
    assert not torch.equal(got, autoaugment(x, "cifar10", draw(3)))
    for wrong in (x.float(), x[:, :2], x.unsqueeze(1)):
        with pytest.raises(InputError, match="for pictures"):
            autoaugment(wrong, "cifar10", draw())


@needs_torchvision
def test_a_resized_crop_keeps_the_shape_and_shows_a_part():
    x = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(20, 1, 1, 1)
    y = resized_crop(x, 0.1, draw())
    assert y.shape == x.shape
    assert y.dtype == x.dtype
    spans = [int(sample.max()) - int(sample.min()) for sample in y]
    assert min(spans) < 200
    assert len(set(spans)) > 5


@needs_torchvision
def test_mixup_shares_pictures_and_labels_alike():
    x, labels = torch.rand(6, 2, 4, 5), torch.tensor([0, 1, 2, 3, 4, 5])
    y, shares = mixed(x, labels, {"mixup": 0.8}, draw(), classes=6)
    own = shares[torch.arange(6), labels]
    assert torch.allclose(own, own[0].expand(6))
    share = own[0].double()
    assert 0 < share < 1
    assert torch.allclose(y.double(), share * x.double() + (1 - share) * x.roll(1, 0).double(), atol=1e-6)
    assert torch.allclose(shares.sum(1), torch.ones(6))
    assert torch.allclose(shares[torch.arange(6), labels.roll(1)], 1 - own, atol=1e-6)


@needs_torchvision
@pytest.mark.parametrize("shape", [(6, 3, 8, 8), (6, 4, 2, 8, 8)])
def test_cutmix_cuts_one_rectangle_and_shares_labels_by_its_area(shape):
    x, labels = torch.rand(shape), torch.arange(6)
    areas = set()
    for seed in range(8):
        y, shares = mixed(x, labels, {"cutmix": 1.0}, draw(seed), classes=6)
        other = (y != x).flatten(1, -3)  # [6, planes, 8, 8]
        assert torch.equal(torch.where(y != x, x.roll(1, 0), x), y)
        assert torch.equal(other, other[:1, :1].expand_as(other))
        area = float(other[0, 0].float().mean())
        assert torch.allclose(shares[torch.arange(6), labels], torch.tensor(1 - area))
        areas.add(area)
    assert len(areas) > 3


@needs_torchvision
def test_with_both_each_takes_a_part_of_the_batches_and_without_labels_stay():
    x, labels = torch.rand(4, 1, 8, 8) + 1, torch.arange(4)
    kinds = []
    for seed in range(60):
        y, _ = mixed(x, labels, {"mixup": 1.0, "cutmix": 1.0}, draw(seed), classes=4)
        kinds.append(bool(((y == x) | (y == x.roll(1, 0))).all()))
    assert 15 < sum(kinds) < 45
    y, same = mixed(x, labels, {"mixup": 0, "flip": 0.5}, draw(), classes=4)
    assert y is x
    assert same is labels


def test_without_torchvision_the_error_says_what_to_install(monkeypatch):
    for name in list(sys.modules):
        if name.startswith("torchvision"):
            monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "torchvision.transforms", None)
    with pytest.raises(EnvironmentFault, match="pip install"):
        mixed(torch.rand(2, 1, 4, 4), torch.tensor([0, 1]), {"mixup": 1.0}, draw(), classes=2)
