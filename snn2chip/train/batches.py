"""Shuffled, augmented, normalised batches of samples that lie in memory; epoch e is a function of (seed, e) alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Generator, Tensor

from snn2chip.checkpoint_header import InputSpec
from snn2chip.errors import InputError
from snn2chip.train.augment import augmented


def generator_of(*numbers: int) -> Generator:
    """Return a generator whose draws are a function of these numbers (seed, epoch, ...) alone."""
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]
    return Generator().manual_seed(int(state >> np.uint64(1)))


class Batches:
    """An iterable of (x, y): x the model's input, y int64 `[B]`; what is left after whole batches waits an epoch.

    `raw` `[N, ...]` and `labels` `[N]` stay as they are; normalisation happens batch by batch.
    """

    def __init__(
        self, raw: Tensor, labels: Tensor, *, spec: InputSpec, batch: int, seed: int, augment: Mapping[str, float]
    ) -> None:
        if len(raw) < 2 or len(raw) != len(labels):
            raise InputError(f"training needs at least two samples and a label for each, got {len(raw)}, {len(labels)}")
        self.raw, self.labels, self.spec = raw, labels, spec
        self.batch, self.seed, self.augment = min(batch, len(raw)), seed, augment
        self.epoch = 0

    @property
    def sampler(self) -> Batches:
        """What the trainer tells the epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next pass over the data is."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.raw) // self.batch

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = generator_of(self.seed, self.epoch)
        order = torch.randperm(len(self.raw), generator=generator)
        for start in range(0, len(self) * self.batch, self.batch):
            chosen = order[start : start + self.batch]
            x = augmented(self.raw[chosen], self.augment, generator)
            yield self.spec.apply(x), self.labels[chosen]
