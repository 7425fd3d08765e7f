"""Augmentations of pictures by torchvision, run on their own random numbers.

torchvision draws from PyTorch's global CPU generator; here that one is set from ours and put back afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn.functional import one_hot

from snn2chip.errors import EnvironmentFault, InputError

POLICIES = ("cifar10", "imagenet", "svhn")


def autoaugment(x: Tensor, policy: str, generator: Generator) -> Tensor:
    """Return pictures `[B,C,H,W]` uint8, C = 1 or 3, each after the sub-policy drawn for it.

    Raises InputError for anything but pictures, EnvironmentFault without torchvision.
    """
    if x.dtype != torch.uint8 or x.dim() != 4 or x.shape[1] not in (1, 3):
        raise InputError(
            f"augment.autoaugment is for pictures 0..255 [B,1 or 3,H,W], got {x.dtype} {list(x.shape)}; put it before "
            "augmentations that make other values"
        )
    transform = _policy(policy)
    with drawing_from(generator):
        return torch.stack([transform(picture) for picture in x])


def resized_crop(x: Tensor, smallest: float, generator: Generator) -> Tensor:
    """Return `[B,...,H,W]` with each sample a random crop of `smallest`..1 of its area, resized to H x W.

    Raises EnvironmentFault without torchvision.
    """
    v2 = _transforms()
    transform = v2.RandomResizedCrop(tuple(x.shape[-2:]), scale=(smallest, 1.0), antialias=True)
    with drawing_from(generator):
        return torch.stack([transform(sample) for sample in x])


def mixed(
    x: Tensor, labels: Tensor, chosen: Mapping[str, float | str], generator: Generator, *, classes: int
) -> tuple[Tensor, Tensor]:
    """Return the batch after Mixup or CutMix with their shares `[B, classes]`, or as it is when neither is chosen.

    `x` `[B,...]`. CutMix cuts the same rectangle out of all channels and steps.
    """
    kinds = [name for name in ("mixup", "cutmix") if float(chosen.get(name, 0)) > 0]
    if not kinds:
        return x, labels
    kind = kinds[int(torch.randint(len(kinds), (), generator=generator))]
    v2 = _transforms()
    transform = (v2.MixUp if kind == "mixup" else v2.CutMix)(alpha=float(chosen[kind]), num_classes=classes)
    planes = x.reshape(len(x), -1, *x.shape[-2:]) if x.dim() > 4 else x
    with drawing_from(generator):
        y, shares = transform(planes, labels)
    assert shares.shape == one_hot(labels, classes).shape
    return y.view(x.shape), shares


@contextmanager
def drawing_from(generator: Generator) -> Iterator[None]:
    """Seed PyTorch's global CPU generator with a draw of `generator`; its state is the caller's again afterwards."""
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=generator)))
    try:
        yield
    finally:
        torch.set_rng_state(before)


@cache
def _policy(name: str) -> Any:
    v2 = _transforms()
    from torchvision.transforms import AutoAugmentPolicy

    return v2.AutoAugment(AutoAugmentPolicy(name))


def _transforms() -> Any:
    try:
        from torchvision.transforms import v2
    except ImportError as error:
        raise EnvironmentFault(
            f"autoaugment, resized_crop, mixup and cutmix need torchvision ({error}); install it with: "
            "pip install 'snn2chip[train]'"
        ) from error
    return v2
