"""Shuffled, augmented, normalised batches; batch i of epoch e is a function of (seed, e, i) alone.

    order       a permutation drawn from (seed, e); what is left after whole batches waits an epoch
    batch       rows order[i*B : (i+1)*B], augmented with draws from (seed, e, stream, i)

So a run that starts again in the middle of an epoch sees what it would have seen, and so do worker processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from snn2chip.checkpoint_header import InputSpec
from snn2chip.errors import InputError
from snn2chip.train.augment import augmented, augmented_input
from snn2chip.train.pictures import mixed

STEPS, AUGMENT, GLOBAL = 1, 2, 3
"""Streams of random numbers besides the order: steps of online training, augmentation, the global generators."""


def number_of(*numbers: int) -> int:
    """Return 63 random bits that are a function of these numbers (seed, epoch, ...) alone."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator_of(*numbers: int) -> Generator:
    """Return a generator whose draws are a function of these numbers alone."""
    return Generator().manual_seed(number_of(*numbers))


class Batches:
    """An iterable of (x, y): x the model's input, y int64 `[B]`, or shares `[B, classes]` with Mixup or CutMix.

    `raw` `[N, ...]` (a tensor, or anything that gives one for an index tensor) and `labels` `[N]` stay as they are.
    `rank` of `world` processes takes its part of every batch. Raises InputError for too few samples, or a batch that
    does not divide.
    """

    def __init__(
        self,
        raw: Any,
        labels: Tensor,
        *,
        spec: InputSpec,
        batch: int,
        seed: int,
        augment: Mapping[str, float | str],
        classes: int = 0,
    ) -> None:
        if len(raw) < 2 or len(raw) != len(labels):
            raise InputError(f"training needs at least two samples and a label for each, got {len(raw)}, {len(labels)}")
        self.raw, self.labels, self.spec = raw, labels, spec
        self.batch, self.seed, self.augment, self.classes = min(batch, len(raw)), seed, augment, classes
        self.epoch, self.rank, self.world = 0, 0, 1
        self._begin = (0, 0)
        self._order: tuple[int, Tensor] | None = None

    @property
    def sampler(self) -> Batches:
        """What the trainer tells the epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next pass over the data is."""
        self.epoch = epoch

    def begin(self, *, epoch: int, done: int) -> None:
        """Go on in `epoch` behind its first `done` batches; later epochs are whole."""
        self.epoch, self._begin = epoch, (epoch, done)

    def share(self, *, rank: int, world: int) -> None:
        """Take part `rank` of `world` of every batch; InputError when batches do not divide."""
        if self.batch % world:
            raise InputError(f"batches of {self.batch} cannot be shared by {world} processes; choose a multiple")
        self.rank, self.world = rank, world

    def __len__(self) -> int:
        return len(self.raw) // self.batch

    def numbers(self) -> Iterator[tuple[int, int]]:
        """Yield (epoch, index) of the batches that are left in this epoch."""
        epoch = self.epoch
        first = self._begin[1] if self._begin[0] == epoch else 0
        yield from ((epoch, index) for index in range(first, len(self)))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from map(self.__getitem__, self.numbers())

    def __getitem__(self, number: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return batch (epoch, index)."""
        epoch, index = number
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, torch.randperm(len(self.raw), generator=generator_of(self.seed, epoch))
        chosen = self._order[1][index * self.batch : (index + 1) * self.batch]
        generator = generator_of(self.seed, epoch, AUGMENT, index)
        x = self.spec.apply(augmented(self.raw[chosen], self.augment, generator))
        first = x.transpose(0, 1) if self.spec.time else x
        first = augmented_input(first, self.augment, generator)
        first, y = mixed(first, self.labels[chosen], self.augment, generator, classes=self.classes)
        if self.world > 1:
            first, y = first[self.rank :: self.world], y[self.rank :: self.world]
        return first.transpose(0, 1) if self.spec.time else first, y


class _Numbers:
    """The sampler of worker processes: (epoch, index) says everything about a batch."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def set_epoch(self, epoch: int) -> None:
        self.batches.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return self.batches.numbers()


def loader(batches: Batches, *, workers: int, pin: bool = False) -> Any:
    """Return what the trainer iterates: the batches themselves, or the same ones made by `workers` processes."""
    if workers == 0:
        return batches
    from torch.utils.data import DataLoader

    numbers: Any = _Numbers(batches)
    source: Any = batches
    return DataLoader(source, sampler=numbers, batch_size=None, num_workers=workers, pin_memory=pin)
