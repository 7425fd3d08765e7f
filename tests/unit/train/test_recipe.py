"""Recipes: the zoo's own are sound, and a wrong one is told everything at once."""

from __future__ import annotations

import attrs
import pytest

from snn2chip.errors import InputError
from snn2chip.train import load_recipe, recipe_names
from snn2chip.train.recipe import Recipe, recipe_from

GOOD = """
method = "stbp"
epochs = 2
[data]
name = "digits"
[model]
name = "mlp"
args = { hidden = [8], T = 3 }
[optimiser]
name = "sgd"
lr = 0.1
"""


def write(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return path


def test_the_zoo_has_the_recipes_the_manual_names():
    assert {"digits", "digits-int2", "digits-int4", "digits-int8", "mnist", "nmnist"} <= set(recipe_names())


def test_a_file_by_its_path(tmp_path):
    recipe = load_recipe(write(tmp_path, GOOD))
    assert (recipe.name, recipe.lr, recipe.batch, recipe.seed, recipe.steps) == ("mine", 0.1, 64, 0, 3)
    assert recipe.args == {"hidden": [8], "T": 3}


def test_an_unknown_recipe_lists_the_known_ones(tmp_path):
    with pytest.raises(InputError, match=r"known: .*digits"):
        load_recipe("no-such")
    with pytest.raises(InputError, match="no such file"):
        load_recipe(tmp_path / "none.toml")


@pytest.mark.parametrize("content", [b"epochs = ", b"\xff\xfe", b"a = 1\na = 2"])
def test_a_file_that_is_not_toml(tmp_path, content):
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a TOML file"):
        load_recipe(path)


def test_all_unknown_and_missing_keys_together(tmp_path):
    text = GOOD.replace("lr = 0.1", "rate = 0.1").replace('method = "stbp"', "metod = 1") + "[schedule]\nwarm = 2\n"
    with pytest.raises(InputError) as caught:
        load_recipe(write(tmp_path, text))
    for part in (
        "unknown key 'metod'",
        "unknown key optimiser.rate; known: name, lr, weight_decay, decay, momentum, nesterov",
        "unknown key schedule.warm",
        "method is missing",
        "optimiser.lr is missing",
    ):
        assert part in str(caught.value)
    assert len(caught.value.breaches) == 5


def test_all_bad_values_together():
    recipe = recipe_from(
        {
            "method": "stbp",
            "epochs": 1,
            "data": {"name": "digits"},
            "model": {"name": "mlp"},
            "optimiser": {"name": "sgd", "lr": 0.1},
        },
        name="x",
    )
    with pytest.raises(InputError) as caught:
        attrs.evolve(
            recipe,
            method="magic",
            epochs=0,
            batch=True,
            seed=-1,
            lr="fast",
            momentum=2,
            augment={"zoom": 1, "shift": -1},
            schedule="step",
            online_steps=0,
            nesterov=1,
            frames=0,
        )
    assert len(caught.value.breaches) == 12
    assert "known: stbp, ann, online" in str(caught.value)
    assert "known: shift, roll, flip, thin" in str(caught.value)


def test_augmentations_must_fit():
    fields = {"name": "x", "method": "stbp", "data": "digits", "model": "mlp", "epochs": 1, "lr": 0.1}
    with pytest.raises(InputError) as caught:
        Recipe(**fields, augment={"autoaugment": "all", "flip": 2, "cutout": "big", "mixup": -1, "zoom": 1})
    for words in ("'all', known: cifar10", "flip=2, expected a number from 0 to 1", "cutout='big'", "mixup=-1", "zoom"):
        assert words in str(caught.value)
    with pytest.raises(InputError, match="other characters of digits"):
        Recipe(**fields, augment={"flip": 0.5})
    Recipe(**{**fields, "data": "fashion_mnist"}, augment={"flip": 0.5, "autoaugment": "svhn"})


def test_a_learning_rate_of_zero_is_refused(tmp_path):
    with pytest.raises(InputError, match="trains nothing"):
        load_recipe(write(tmp_path, GOOD.replace("lr = 0.1", "lr = 0")))
