"""Augmentations move, mirror and thin as their lines say, the same for all channels and steps of a sample."""

from __future__ import annotations

import torch
from torch import Generator
from torch.nn.functional import pad

from snn2chip.train.augment import augmented, flip, shift, thin


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
