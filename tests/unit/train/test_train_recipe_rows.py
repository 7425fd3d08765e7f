"""Recipes of the zoo: each loads and builds, and each row of the papers' result tables has one that says its figure."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from snn2chip.checkpoint import build_model
from snn2chip.data.catalog import DATA_NAMES, EVENTS
from snn2chip.errors import InputError
from snn2chip.nn import Neuron
from snn2chip.train import load_recipe, recipe_names
from snn2chip.train.online import steps_of
from snn2chip.train.recipe_files import laid_over, read_tables

CLASSES = {"cifar100": 100, "imagenet200": 200, "imagenet": 1000}
SHAPES = {
    "cifar10": (3, 32, 32),
    "cifar100": (3, 32, 32),
    "imagenet200": (3, 64, 64),
    "imagenet": (3, 224, 224),
    "cifar10_dvs48": (2, 48, 48),
    "fashion_mnist": (1, 28, 28),
    "mnist": (1, 28, 28),
    "digits": (1, 8, 8),
    "nmnist": (2, 34, 34),
}
ROWS = {  # recipe -> figures of the papers' tables, percent
    "lmht-cifar10-resnet18": 96.25,
    "lmht-cifar10-resnet19": 96.89,
    "lmht-cifar100-resnet18": 79.33,
    "lmht-cifar100-resnet19": 81.76,
    "lmht-imagenet200-vgg13-l2t2": 61.04,
    "lmht-imagenet200-vgg13-l2t4": 61.56,
    "lmht-imagenet200-vgg13-l4t2": 61.77,
    "lmht-cifar10dvs-resnet18-l2t2": 80.70,
    "lmht-cifar10dvs-resnet18-l2t4": 81.00,
    "lmht-cifar10dvs-resnet18-l4t2": 81.90,
    "lmht-imagenet-resnet34": 70.90,
    "lmht-ablation-resnet34-l1t4": 65.62,
    "lmht-ablation-resnet34-l2t2-no-window": 82.18,
    "lmht-ablation-resnet34-l2t2": 82.72,
    **{
        f"lmht-hybrid-cifar100-{net}-q{q}-{lt}": value
        for net, q, values in (
            ("vgg16", 4, (75.97, 76.49, 76.38)),
            ("vgg16", 8, (76.31, 76.79, 76.08)),
            ("resnet20", 4, (63.55, 64.87, 63.43)),
            ("resnet20", 8, (67.08, 69.00, 67.21)),
        )
        for lt, value in zip(("l2t2", "l2t4", "l4t2"), values, strict=True)
    },
    "empf-cifar10-resnet18": 95.51,
    "empf-cifar10-resnet18-seca": 95.87,
    "empf-cifar100-resnet18": 79.91,
    "empf-cifar100-resnet18-seca": 80.68,
    "empf-imagenet200-vgg13": 60.68,
    "empf-imagenet200-vgg13-seca": 61.12,
    "empf-imagenet-resnet34": 68.07,
    "empf-cifar10dvs-resnet18": 78.10,
    "empf-cifar10dvs-vggsnn": 83.00,
    "empf-cifar100-resnet18-ternary": 80.16,
    "empf-cifar100-resnet18-ternary-4bit": 79.62,
    "empf-cifar100-resnet18-ternary-parallel": 78.82,
    "empf-cifar100-resnet18-ternary-4bit-parallel": 78.61,
    "empf-cifar10-resnet18-ternary": 95.59,
    "empf-cifar100-resnet18-main": 78.45,
    "empf-imagenet-resnet34-ternary": 69.77,
    "lif-cifar100-resnet18-ternary": 71.75,
}
CONVERSIONS = {  # recipe -> (method, ANN, {T: SNN}); IC-SNN: the losses of its form IC
    "qcfs-cifar100-vgg16-q4": ("qcfs", None, {2: 63.33, 4: 69.70, 8: 74.12}),
    "qcfs-cifar100-vgg16-q8": ("qcfs", None, {2: 64.85, 4: 70.50, 8: 74.63}),
    "qcfs-cifar100-resnet20-q4": ("qcfs", None, {2: 38.04, 4: 52.28, 8: 61.77}),
    "qcfs-cifar100-resnet20-q8": ("qcfs", None, {2: 19.76, 4: 34.17, 8: 55.50}),
    "parallel-cifar10-vgg16": ("parallel", 95.43, {2: 94.16, 4: 95.50}),
    "parallel-cifar10-resnet20": ("parallel", 91.67, {2: 87.42, 4: 91.58}),
    "parallel-cifar100-vgg16": ("parallel", 76.11, {2: 72.71, 4: 75.98}),
    "parallel-cifar100-resnet20": ("parallel", 69.57, {4: 65.31, 8: 69.62}),
    "parallel-imagenet-vgg16": ("parallel", 74.23, {4: 71.75, 8: 73.92, 16: 74.26}),
    "parallel-imagenet-resnet34": ("parallel", 74.30, {4: 72.90, 8: 74.32}),
    "trainfree-imagenet-resnet18": ("parallel", 69.76, {8: 55.18, 16: 66.26, 32: 69.05, 64: 69.54}),
    "trainfree-imagenet-resnet34": ("parallel", 73.31, {8: 50.67, 16: 68.04, 32: 72.46, 64: 73.03}),
    "trainfree-imagenet-resnet50": ("parallel", 76.12, {8: 64.16, 16: 73.59, 32: 75.71, 64: 76.04}),
    "trainfree-imagenet-resnet101": ("parallel", 77.38, {8: 60.59, 16: 73.86, 32: 76.42, 64: 77.01}),
}
LOSSES = {
    "icsnn-cifar10-vgg16": (92.09, (9.95, 2.97, 1.03, 0.61, 0.29, 0.05)),
    "icsnn-cifar100-vgg16": (70.59, (15.72, 7.11, 3.74, 1.24, 0.77, 0.20)),
    "icsnn-cifar10-resnet20": (91.46, (37.31, 10.23, 3.64, 2.14, 0.81, 0.09)),
    "icsnn-cifar100-resnet20": (66.05, (35.59, 17.70, 9.28, 3.13, 1.61, 0.45)),
}
MILLIONS = {  # published sizes, rounded: model -> parameters
    "resnet18": (11.1, 11.8),
    "resnet18-empf": (11.1, 11.8),
    "resnet19": (12.4, 12.8),
    "resnet20": (0.27, 0.29),
    "resnet34": (21.2, 21.9),
    "resnet34-empf": (21.2, 21.9),
    "resnet50": (25.5, 25.6),
    "resnet101": (44.5, 44.6),
    "vgg13": (9.4, 9.6),
    "vgg-snn": (9.2, 9.4),
}


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_loads_and_its_model_builds_for_its_data(name):
    recipe = load_recipe(name)
    assert recipe.title
    assert recipe.data in DATA_NAMES
    shape = SHAPES[recipe.data]
    args = {"input_shape": list(shape), "classes": 10, **recipe.args}
    assert args["classes"] == CLASSES.get(recipe.data, 10)
    with torch.device("cpu" if args.get("qat") else "meta"):  # checking the integer grid needs numbers
        model = build_model(recipe.model, args=args)
    neurons = [m for m in model.modules() if isinstance(m, Neuron)]
    kinds = {n.method for n in neurons}
    if recipe.method == "ann":
        assert kinds <= {"qcfs"}
        assert recipe.data not in EVENTS or recipe.frames
    else:
        assert {n.steps for n in neurons} == {recipe.steps}
    if recipe.method == "online":
        assert steps_of(model) == recipe.steps
    count = sum(p.numel() for p in model.parameters()) / 1e6
    if recipe.model in MILLIONS and "stages" not in args:
        low, high = MILLIONS[recipe.model]
        assert low < count < high
    assert isinstance(model, nn.Module)


def test_every_row_of_the_result_tables_has_its_recipe():
    for name, accuracy in ROWS.items():
        recipe = load_recipe(name)
        assert recipe.paper == {"accuracy": accuracy}, name
        assert recipe.method == ("online" if name.startswith("empf") else "stbp"), name
    for name, (method, ann, figures) in CONVERSIONS.items():
        recipe = load_recipe(name)
        assert recipe.method == "ann"
        assert {int(t): v for t, v in recipe.paper["steps"].items()} == figures
        assert recipe.paper.get("ann") == ann
        assert [(e["method"], e["steps"]) for e in recipe.convert] == [(method, sorted(figures))]
    for name, (ann, losses) in LOSSES.items():
        recipe = load_recipe(name)
        assert recipe.paper["ann"] == ann
        assert list(recipe.paper["steps"].values()) == pytest.approx([ann - loss for loss in losses], abs=1e-9)
        assert [e.get("options", {}).get("printed") for e in recipe.convert] == ["I-weights", "C", "IC", None]
        assert not recipe.args["bn"]
    known = {*ROWS, *CONVERSIONS, *LOSSES}
    assert {name for name in recipe_names() if load_recipe(name).paper} == known


def test_levels_and_steps_are_those_of_the_rows():
    for name in ROWS:
        recipe = load_recipe(name)
        if name[-5:-1].startswith("-l") and name[-2] == "t":
            assert (recipe.args["L"], recipe.args["T"]) == (int(name[-3]), int(name[-1]))
        if "hybrid" in name:
            source = load_recipe(recipe.init["recipe"])
            assert recipe.init["convert"] == "hybrid"
            assert f"q{source.args['L']}-" in name
            assert source.model == recipe.model
            assert source.args.get("hidden") == recipe.args.get("hidden")
            assert (recipe.epochs, recipe.lr, recipe.weight_decay) == (30, 5e-4, 5e-4)


def test_hyperparameters_come_from_the_papers():
    lmht = load_recipe("lmht-cifar100-resnet18")
    assert (lmht.optimiser, lmht.lr, lmht.weight_decay, lmht.batch, lmht.epochs) == ("sgd", 0.025, 5e-4, 64, 300)
    assert lmht.augment == {"autoaugment": "cifar10", "shift": 4, "flip": 0.5, "cutout": 12}
    assert load_recipe("lmht-cifar10-resnet18").augment["cutout"] == 16
    dvs = load_recipe("lmht-cifar10dvs-resnet18-l2t4")
    assert (dvs.optimiser, dvs.lr, dvs.weight_decay, dvs.frames) == ("adamw", 0.02, 0.01, 10)
    empf = load_recipe("empf-cifar100-resnet18")
    assert (empf.lr, empf.weight_decay, empf.label_smoothing, empf.online_steps) == (0.01, 5e-4, 0.1, 1)
    assert (empf.augment["mixup"], empf.augment["cutmix"]) == (0.8, 1.0)
    large = load_recipe("empf-imagenet-resnet34")
    assert (large.batch, large.epochs) == (256, 120)
    assert (load_recipe("empf-cifar10dvs-vggsnn").batch, load_recipe("empf-cifar10dvs-vggsnn").steps) == (32, 10)
    ic = load_recipe("icsnn-cifar10-vgg16")
    assert (ic.lr, ic.batch, list(ic.milestones), ic.gamma) == (0.1, 128, [70, 130, 190, 240], 0.2)
    assert (load_recipe("parallel-cifar100-vgg16").lr, load_recipe("parallel-cifar10-vgg16").lr) == (0.05, 0.1)


def test_a_recipe_lies_over_its_base_key_by_key(tmp_path):
    (tmp_path / "below.toml").write_text(
        'base = "digits"\ntitle = "below"\n[model.args]\nT = 5\n[paper]\naccuracy = 50\n[optimiser]\nlr = 0.5\n'
    )
    (tmp_path / "top.toml").write_text('base = "below.toml"\nbatch = 7\n[augment]\nroll = 2\n')
    recipe = load_recipe(tmp_path / "top.toml")
    digits = load_recipe("digits")
    assert (recipe.name, recipe.title, recipe.paper) == ("top", "", {})
    assert (recipe.batch, recipe.lr, recipe.weight_decay) == (7, 0.5, digits.weight_decay)
    assert recipe.args == {**digits.args, "T": 5}
    assert recipe.augment == {**digits.augment, "roll": 2}
    assert laid_over({"a": {"b": 1}, "c": 2}, {"a": {"d": 3}, "c": {"e": 4}}) == {"a": {"b": 1, "d": 3}, "c": {"e": 4}}


def test_bases_that_are_wrong(tmp_path):
    for text, words in (
        ('base = "top.toml"', "lead back"),
        ('base = "no-such"', "known: .*digits"),
        ("base = 3", "expected the name"),
        ('base = "none.toml"', "no such file"),
        ('base = "base/../digits"', "is unknown"),
    ):
        (tmp_path / "top.toml").write_text(text)
        with pytest.raises(InputError, match=words):
            read_tables(tmp_path / "top.toml")
    with pytest.raises(InputError, match="is unknown"):
        load_recipe("base/cifar10")


def test_what_init_convert_and_paper_may_hold(tmp_path):
    (tmp_path / "top.toml").write_text(
        'base = "digits"\n[init]\nconvert = "magic"\n[paper]\nscore = 1\naccuracy = 101\n'
        '[[convert]]\nmethod = "magic"\nsteps = 2\n[[convert]]\nmethod = "parallel"\nsteps = [2, 0]\n'
        '[[convert]]\nmethod = "qcfs"\nsteps = 4\noptions = { speed = 1 }\n[[convert]]\nwhy = 1\n'
    )
    with pytest.raises(InputError) as caught:
        load_recipe(tmp_path / "top.toml")
    for words in (
        "init.recipe is missing",
        "init.convert='magic'",
        "paper.score",
        "paper.accuracy=101",
        "conversion 'magic' is unknown",
        "needs the number of steps",
        "no option 'speed'",
        "unknown keys convert.why",
    ):
        assert words in str(caught.value)
