"""Learning rates from the formula, worked out by hand; decay reaches weights only."""

from __future__ import annotations

import math

import pytest
import torch

from snn2chip.checkpoint import build_model
from snn2chip.train.optimise import make_optimiser, make_schedule, parameter_groups, rate_factor
from snn2chip.train.recipe import Recipe


def recipe(**changes):
    fields = {"name": "r", "method": "stbp", "data": "digits", "model": "mlp", "epochs": 4, "lr": 0.5}
    return Recipe(**{**fields, **changes})


def test_cosine_goes_from_one_to_nearly_zero():
    r = recipe(epochs=4)
    got = [rate_factor(step, recipe=r, steps_per_epoch=2) for step in range(8)]
    assert got == pytest.approx([(1 + math.cos(math.pi * n / 8)) / 2 for n in range(8)], abs=1e-12)
    assert rate_factor(8, recipe=r, steps_per_epoch=2) == 0


def test_warmup_rises_linearly_and_never_starts_at_zero():
    r = recipe(epochs=6, warmup=2)
    got = [rate_factor(step, recipe=r, steps_per_epoch=2) for step in range(5)]
    assert got[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0], abs=1e-12)
    assert got[4] == pytest.approx(1.0, abs=1e-12)  # epoch 2: the cosine starts
    assert rate_factor(8, recipe=r, steps_per_epoch=2) == pytest.approx(0.5, abs=1e-12)  # half way from 2 to 6


def test_constant_stays():
    r = recipe(schedule="constant", warmup=1)
    assert [rate_factor(step, recipe=r, steps_per_epoch=2) for step in (0, 1, 2, 7)] == [0.5, 1, 1, 1]


def test_steps_fall_at_their_milestones():
    r = recipe(schedule="step", milestones=[1, 2.5], gamma=0.2, epochs=4)
    got = [rate_factor(step, recipe=r, steps_per_epoch=2) for step in range(8)]
    assert got == pytest.approx([1, 1, 0.2, 0.2, 0.2, 0.04, 0.04, 0.04], abs=1e-12)


def test_decay_on_everything_and_plain_momentum():
    model = build_model("mlp", args={"hidden": [4], "T": 2})
    optimiser = make_optimiser(model, recipe(optimiser="sgd", decay="all", weight_decay=0.1, nesterov=False))
    decayed, free = optimiser.param_groups
    assert len(decayed["params"]) == len(list(model.parameters()))
    assert decayed["weight_decay"] == 0.1
    assert not free["params"]
    assert not decayed["nesterov"]


def test_the_optimiser_is_stepped_once_per_batch():
    model = build_model("mlp", args={"hidden": [4]})
    optimiser = make_optimiser(model, recipe(optimiser="sgd", epochs=1))
    schedule = make_schedule(optimiser, recipe(epochs=1), steps_per_epoch=2)
    rates = []
    for _ in range(2):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    assert rates == pytest.approx([0.5, 0.25])
    assert optimiser.param_groups[0]["nesterov"]
    assert isinstance(make_optimiser(model, recipe()), torch.optim.AdamW)


def test_decay_is_for_weights_alone():
    model = build_model("mlp", args={"hidden": [4, 5], "T": 2})
    decayed, free = parameter_groups(model, weight_decay=0.1)
    names = {id(p): name for name, p in model.named_parameters()}
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    assert sorted(names[id(p)] for p in decayed["params"]) == ["layers.1.weight", "layers.5.weight", "layers.8.weight"]
    rest = {names[id(p)] for p in free["params"]}
    assert {n for n in rest if "window_raw" in n}  # 2-D, but a neuron's own
    assert len(rest) + 3 == len(names)
