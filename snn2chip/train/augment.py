"""Augmentation of batches `[B, ..., H, W]`: one random draw per sample, the same for all its channels and steps.

on raw values, in the order of the recipe
    shift = n               moved by up to n pixels along each axis, zeros move in (a random crop after padding by n)
    roll = n                the same, but what leaves on one side comes in on the other
    flip = p                mirrored left to right with probability p; refused where it makes another class
    thin = p                every event is dropped with probability p*u, u uniform per sample (event counts)
    drop_steps = p          the events of a stretch of steps, up to the share p of all, are dropped (frames of events)
    autoaugment = "cifar10" the policy of that name: cifar10, imagenet or svhn (pictures 0..255)
    resized_crop = s        a crop of s to 1 of the area, 3/4 to 4/3 wide, resized to the whole
on normalised values
    cutout = n              a square of n x n pixels, cut by the border, becomes zero
on whole batches            labels become shares `[B, classes]`; with both, each takes half of the batches
    mixup = a, cutmix = a   lambda from Beta(a, a)

Draws come from the generator alone, so an epoch is the same whenever it is repeated. Sources: Cubuk et al. CVPR 2019
(AutoAugment); DeVries and Taylor 2017 (Cutout); Zhang et al. ICLR 2018 (Mixup); Yun et al. ICCV 2019 (CutMix); Gu et
al. IJCAI 2021 (EventDrop).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Generator, Tensor

from snn2chip.errors import InputError
from snn2chip.train.pictures import POLICIES, autoaugment, resized_crop


def shift(x: Tensor, amount: float, generator: Generator) -> Tensor:
    """Move every sample by up to `amount` pixels along both axes."""
    n = int(amount)
    if n == 0:
        return x
    padded = torch.nn.functional.pad(_planes(x), (n, n, n, n))
    return _moved(padded, x, n=n, generator=generator)


def roll(x: Tensor, amount: float, generator: Generator) -> Tensor:
    """Move every sample by up to `amount` pixels along both axes, around the borders."""
    n = int(amount)
    if n == 0:
        return x
    return _moved(_planes(x), x, n=n, generator=generator, lead=-n)


def flip(x: Tensor, probability: float, generator: Generator) -> Tensor:
    """Mirror a sample with the given probability."""
    chosen = torch.rand(x.shape[0], generator=generator) < probability
    return torch.where(chosen.view(-1, *[1] * (x.dim() - 1)), x.flip(-1), x)


def thin(x: Tensor, probability: float, generator: Generator) -> Tensor:
    """Drop events: counts become binomial with a keep rate of 1 - probability*u, u uniform per sample."""
    keep = 1 - probability * torch.rand(x.shape[0], generator=generator)
    rates = keep.view(-1, *[1] * (x.dim() - 1)).expand(x.shape)
    return torch.binomial(x.float(), rates, generator=generator)


def drop_steps(x: Tensor, share: float, generator: Generator) -> Tensor:
    """Zero a stretch of 0 to share*T steps of every sample `[B, T, C, H, W]`, anywhere in its time."""
    if x.dim() != 5:
        raise InputError(f"augment.drop_steps is for frames of events [B,T,C,H,W], got {list(x.shape)}")
    steps = x.shape[1]
    u = torch.rand(2, x.shape[0], 1, generator=generator)
    length = torch.floor(u[0] * (int(share * steps) + 1))
    start = torch.floor(u[1] * (steps - length + 1))
    t = torch.arange(steps)
    gone = (t >= start) & (t < start + length)
    return torch.where(gone.view(len(x), steps, 1, 1, 1), torch.zeros((), dtype=x.dtype), x)


def cutout(x: Tensor, size: float, generator: Generator) -> Tensor:
    """Zero a square of size x size pixels of every sample, its centre uniform over the pixels."""
    n, (height, width) = int(size), x.shape[-2:]
    centre = torch.rand(2, x.shape[0], 1, generator=generator)
    rows, columns = torch.floor(centre[0] * height), torch.floor(centre[1] * width)
    inside = [
        (torch.arange(length) >= middle - n // 2) & (torch.arange(length) < middle - n // 2 + n)
        for length, middle in ((height, rows), (width, columns))
    ]
    gone = inside[0][:, :, None] & inside[1][:, None, :]
    return torch.where(gone.view(len(x), *[1] * (x.dim() - 3), height, width), torch.zeros((), dtype=x.dtype), x)


Augmentation = Callable[[Tensor, float, Generator], Tensor]
ON_RAW: Mapping[str, Augmentation] = MappingProxyType(
    {"shift": shift, "roll": roll, "flip": flip, "thin": thin, "drop_steps": drop_steps, "resized_crop": resized_crop}
)
BY_NAME = MappingProxyType({"autoaugment": POLICIES})
ON_NORMALISED: Mapping[str, Augmentation] = MappingProxyType({"cutout": cutout})
ON_BATCHES = ("mixup", "cutmix")
AUGMENTATIONS = (*ON_RAW, *BY_NAME, *ON_NORMALISED, *ON_BATCHES)
SHARES = ("flip", "thin", "drop_steps", "resized_crop")
"""Augmentations whose number is a share or a probability, 0..1."""
ONE_WAY_ROUND = ("digits", "mnist", "nmnist")
"""Data sets whose mirror images belong to no class or to another one."""


def augmented(x: Tensor, chosen: Mapping[str, float | str], generator: Generator) -> Tensor:
    """Return the raw batch after every augmentation chosen for raw values, in the order of the recipe."""
    for name, amount in chosen.items():
        if name in ON_RAW:
            x = ON_RAW[name](x, float(amount), generator)
        elif name in BY_NAME:
            x = autoaugment(x, str(amount), generator)
    return x


def augmented_input(x: Tensor, chosen: Mapping[str, float | str], generator: Generator) -> Tensor:
    """Return the normalised batch, samples first, after the augmentations chosen for it."""
    for name, amount in chosen.items():
        if name in ON_NORMALISED:
            x = ON_NORMALISED[name](x, float(amount), generator)
    return x


def _planes(x: Tensor) -> Tensor:
    return x.reshape(x.shape[0], -1, *x.shape[-2:])


def _moved(source: Tensor, x: Tensor, *, n: int, generator: Generator, lead: int = 0) -> Tensor:
    """Windows of x's size out of `source` `[B, planes, H', W']`, displaced by `lead` and 0..2n; indices wrap."""
    batch, height, width = x.shape[0], x.shape[-2], x.shape[-1]
    offsets = torch.randint(0, 2 * n + 1, (2, batch, 1), generator=generator) + lead
    rows = (offsets[0] + torch.arange(height)) % source.shape[-2]
    columns = (offsets[1] + torch.arange(width)) % source.shape[-1]
    samples, planes = torch.arange(batch).view(-1, 1, 1, 1), torch.arange(source.shape[1]).view(1, -1, 1, 1)
    return source[samples, planes, rows[:, None, :, None], columns[:, None, None, :]].view(x.shape)
