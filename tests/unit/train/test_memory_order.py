"""Channels last while training: the recipe's choice, kept by every layer of a net."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from snn2chip_models.resnet import resnet20
from torch import Tensor, nn

from snn2chip.errors import InputError
from snn2chip.nn import NEURONS, Repeat
from snn2chip.train.modules import in_memory, module_for
from snn2chip.train.recipe import recipe_from

TABLES: dict[str, Any] = {
    "method": "stbp",
    "epochs": 1,
    "data": {"name": "digits"},
    "model": {"name": "mlp"},
    "optimiser": {"name": "adamw", "lr": 0.1},
}


def last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last)


def test_values_stay_and_only_pictures_move() -> None:
    x = torch.randn(2, 3, 4, 5, 6)
    for picture in (x[0], x):
        moved = in_memory(picture, "channels_last")
        assert torch.equal(moved, picture)
        assert last(moved.flatten(0, -4))
        assert in_memory(picture, "contiguous") is picture
    assert in_memory(x[0, 0], "channels_last").data_ptr() == x.data_ptr()


def test_repeat_keeps_the_order() -> None:
    x = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last).requires_grad_()
    out = Repeat(3)(x)
    assert torch.equal(out, x.detach().expand(3, 2, 3, 4, 5))
    assert last(out.flatten(0, 1))
    weight = torch.randn(out.shape)
    (out * weight).sum().backward()
    torch.testing.assert_close(x.grad, weight.sum(0))
    assert Repeat(2)(torch.ones(0, 3)).shape == (2, 0, 3)


@pytest.mark.parametrize("name", ["relu", *sorted(set(NEURONS) - {"empf-norm"})])
def test_every_convolution_of_a_net_sees_channels_last(name: str) -> None:
    torch.manual_seed(0)
    seen: list[bool] = []
    model = resnet20(activation=name, **({} if name in ("relu", "qcfs") else {"T": 2}))
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(lambda module, args: seen.append(last(args[0])))
    model(in_memory(torch.randn(2, 3, 32, 32), "channels_last"))
    assert len(seen) == 21
    assert all(seen)


def test_weights_lie_as_the_pictures_do() -> None:
    for memory in ("channels_last", "contiguous"):
        recipe = recipe_from({**TABLES, "memory": memory}, name="a")
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3))
        module_for(model, recipe, steps_per_epoch=1)
        assert last(model[1].weight) == (memory == "channels_last")


def test_a_recipe_names_the_order() -> None:
    assert recipe_from(TABLES, name="a").memory_order == "contiguous"
    assert recipe_from({**TABLES, "precision": "bf16-mixed"}, name="a").memory_order == "channels_last"
    for memory in ("channels_last", "contiguous"):
        assert recipe_from({**TABLES, "memory": memory}, name="a").memory_order == memory
    with pytest.raises(InputError, match="memory 'rows' is unknown; known: channels_last, contiguous"):
        recipe_from({**TABLES, "memory": "rows"}, name="a")
