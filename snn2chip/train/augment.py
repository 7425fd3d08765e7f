"""Augmentation of raw batches `[B, ..., H, W]`: one random draw per sample, the same for all its channels and steps.

    shift = n     moved by up to n pixels along each axis, zeros move in
    flip = p      mirrored left to right with probability p
    thin = p      every event is dropped with probability p*u, u uniform per sample (event counts)

Draws come from the generator alone, so an epoch is the same whenever it is repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Generator, Tensor


def shift(x: Tensor, amount: float, generator: Generator) -> Tensor:
    """Move every sample by up to `amount` pixels along both axes."""
    n = int(amount)
    if n == 0:
        return x
    batch, height, width = x.shape[0], x.shape[-2], x.shape[-1]
    offsets = torch.randint(0, 2 * n + 1, (2, batch, 1), generator=generator)
    rows = offsets[0] + torch.arange(height)
    columns = offsets[1] + torch.arange(width)
    padded = torch.nn.functional.pad(x.reshape(batch, -1, height, width), (n, n, n, n))
    samples, planes = torch.arange(batch).view(-1, 1, 1, 1), torch.arange(padded.shape[1]).view(1, -1, 1, 1)
    return padded[samples, planes, rows[:, None, :, None], columns[:, None, None, :]].view(x.shape)


def flip(x: Tensor, probability: float, generator: Generator) -> Tensor:
    """Mirror a sample with the given probability."""
    chosen = torch.rand(x.shape[0], generator=generator) < probability
    return torch.where(chosen.view(-1, *[1] * (x.dim() - 1)), x.flip(-1), x)


def thin(x: Tensor, probability: float, generator: Generator) -> Tensor:
    """Drop events: counts become binomial with a keep rate of 1 - probability*u, u uniform per sample."""
    keep = 1 - probability * torch.rand(x.shape[0], generator=generator)
    rates = keep.view(-1, *[1] * (x.dim() - 1)).expand(x.shape)
    return torch.binomial(x.float(), rates, generator=generator)


Augmentation = Callable[[Tensor, float, Generator], Tensor]
AUGMENTATIONS: Mapping[str, Augmentation] = MappingProxyType({"shift": shift, "flip": flip, "thin": thin})


def augmented(x: Tensor, chosen: Mapping[str, float], generator: Generator) -> Tensor:
    """Return the batch after every chosen augmentation, in the order of the recipe."""
    for name, amount in chosen.items():
        x = AUGMENTATIONS[name](x, amount, generator)
    return x
