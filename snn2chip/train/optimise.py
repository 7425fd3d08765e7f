"""Optimiser and learning-rate schedule of a recipe.

    cosine   lr(e) = lr/2 * (1 + cos(pi * (e - w)/(E - w))),   linear from 0 during the first w epochs
    step     lr(e) = lr * gamma^(milestones reached)
    decay    on weights only: not on biases, norms or the neurons' own parameters; or on all

e counts epochs, fractions included: the rate changes at every step. Source: Loshchilov & Hutter 2017.
"""

from __future__ import annotations

import math
from typing import Any

from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from snn2chip.nn.base import Neuron
from snn2chip.train.recipe import Recipe


def parameter_groups(model: nn.Module, *, weight_decay: float, decay: str = "weights") -> list[dict[str, Any]]:
    """Return two groups: weights with decay, and everything else without; `decay="all"` puts all into the first."""
    neuron = {id(p) for m in model.modules() if isinstance(m, Neuron) for p in m.parameters()}
    trained = [p for p in model.parameters() if p.requires_grad]
    weights = [p for p in trained if decay == "all" or (p.dim() > 1 and id(p) not in neuron)]
    chosen = {id(p) for p in weights}
    others = [p for p in trained if id(p) not in chosen]
    return [{"params": weights, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def make_optimiser(model: nn.Module, recipe: Recipe) -> Optimizer:
    """Return the recipe's optimiser over the model's parameters."""
    groups = parameter_groups(model, weight_decay=recipe.weight_decay, decay=recipe.decay)
    if recipe.optimiser == "sgd":
        return SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.nesterov and recipe.momentum > 0)
    return AdamW(groups, lr=recipe.lr)


def rate_factor(step: int, *, recipe: Recipe, steps_per_epoch: int) -> float:
    """Return lr(step)/lr."""
    epoch = (step + 1) / steps_per_epoch if step < recipe.warmup * steps_per_epoch else step / steps_per_epoch
    if epoch < recipe.warmup:
        return epoch / recipe.warmup
    if recipe.schedule == "constant":
        return 1.0
    if recipe.schedule == "step":
        return float(recipe.gamma ** sum(epoch >= milestone for milestone in recipe.milestones))
    left = (epoch - recipe.warmup) / max(recipe.epochs - recipe.warmup, 1 / steps_per_epoch)
    return 0.5 * (1 + math.cos(math.pi * min(left, 1.0)))


def make_schedule(optimiser: Optimizer, recipe: Recipe, *, steps_per_epoch: int) -> LambdaLR:
    """Return the schedule, stepped once per batch."""
    return LambdaLR(optimiser, lambda step: rate_factor(step, recipe=recipe, steps_per_epoch=steps_per_epoch))
