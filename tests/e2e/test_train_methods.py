"""Recipes of the methods `ann` and `online`: what they train, what the checkpoint says, what compile says of it."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
from torch.nn.functional import cross_entropy

from snn2chip.checkpoint import load_checkpoint
from snn2chip.checkpoint_compile import compile_checkpoint
from snn2chip.data import load_data
from snn2chip.errors import InputError, UnsupportedError
from snn2chip.train import evaluate, train_recipe
from snn2chip.train.recipe import recipe_from

pytestmark = pytest.mark.skipif(find_spec("lightning") is None, reason="training needs the extra snn2chip[train]")

VGG = {"stages": [[8], [8]], "stem": "cifar", "input_shape": [1, 8, 8]}


def recipe(method, args, *, model="small-vgg", **tables):
    base = {
        "method": method,
        "epochs": 2,
        "batch": 64,
        "data": {"name": "digits"},
        "input": {"mean": 5, "std": 6},
        "model": {"name": model, "args": args},
        "optimiser": {"name": "sgd", "lr": 0.1},
    }
    return recipe_from({**base, **tables}, name="small")


def test_a_relu_net_trains_and_compile_names_convert(tmp_path):
    done = train_recipe(recipe("ann", {**VGG, "activation": "relu"}), out=tmp_path / "m.safetensors")
    model, header = load_checkpoint(done.path)
    assert (header.method, header.T, header.L) == ("relu", 1, 1)
    assert evaluate(model, load_data("digits", split="test"), spec=header.input) == done.accuracy > 0.5
    with pytest.raises(UnsupportedError, match=r"snn2chip convert .*m\.safetensors --method"):
        compile_checkpoint(done.path)


def test_a_qcfs_net_trains_and_says_its_levels(tmp_path):
    args = {**VGG, "activation": "qcfs", "L": 8, "neuron_args": {"vth": 2.0}}
    done = train_recipe(recipe("ann", args), out=tmp_path / "m.safetensors")
    assert (done.header.method, done.header.T, done.header.L) == ("qcfs", 1, 8)
    assert done.accuracy > 0.5


@pytest.mark.parametrize(
    ("online", "draws"),
    [({}, 1), ({"steps": 2, "update": "sum"}, 2), ({"steps": "all"}, 4), ({"steps": 1, "after": "refresh"}, 1)],
)
def test_online_training_learns_and_repeats(tmp_path, online, draws):
    args = {**VGG, "activation": "empf", "weights": "binary", "T": 4}
    made = recipe("online", args, online=online)
    files = [train_recipe(made, out=tmp_path / f"{n}.safetensors") for n in range(2)]
    assert files[0].path.read_bytes() == files[1].path.read_bytes()
    assert (files[0].header.method, files[0].header.T) == ("empf", 4)
    assert files[0].accuracy > 0.4
    assert files[0].header.provenance["recipe"]["online_steps"] == online.get("steps", 1)

    from snn2chip.train.modules import Online

    module = Online(files[0].model, made, steps_per_epoch=5)
    drawn = [module.chosen(epoch=e, index=i) for e in range(3) for i in range(5)]
    assert {len(d) for d in drawn} == {draws}
    assert drawn == [module.chosen(epoch=e, index=i) for e in range(3) for i in range(5)]
    assert draws == 4 or len(set(drawn)) > 1


def test_one_batch_online_is_the_algorithm_written_out(tmp_path):
    """SGD without momentum on one batch of all steps, against v, loss and update by hand with torch alone."""
    from snn2chip.train.batches import Batches
    from snn2chip.train.prepare import prepare

    args = {"hidden": [6], "neuron": "empf", "L": None, "T": 3}
    made = recipe(
        "online",
        args,
        model="mlp",
        epochs=1,
        batch=32,
        data={"name": "digits", "train_samples": 32, "test_samples": 50},
        online={"steps": "all"},
        schedule={"name": "constant"},
        optimiser={"name": "sgd", "lr": 0.5, "momentum": 0.0},
    )
    done = train_recipe(made, out=tmp_path / "m.safetensors")
    assert (done.header.metrics["train_samples"], done.header.metrics["test_samples"]) == (32, 50)
    model, header, train, _ = prepare(made)
    raw, labels = train.arrays()
    ((x, y),) = Batches(
        torch.from_numpy(raw["x"]), torch.from_numpy(labels), spec=header.input, batch=32, seed=0, augment={}
    )
    layers = list(model.train().layers)
    flatten, linear, norm, _, neuron, head, _ = layers
    parameters = list(model.parameters())
    v = torch.zeros(32, 6)
    for t in range(3):
        current = norm(linear(flatten(x)))
        m = torch.sigmoid(neuron.leak_raw[t]) * v + current
        s = torch.relu(m - torch.sigmoid(neuron.theta_raw[t]))
        v = (m - s).detach()
        grads = torch.autograd.grad(cross_entropy(head(s), y), parameters, allow_unused=True)
        with torch.no_grad():
            for p, g in zip(parameters, grads, strict=True):
                if g is not None:
                    p -= 0.5 * g
    got = dict(done.model.named_parameters())
    for name, want in model.named_parameters():
        assert torch.allclose(got[name], want, atol=1e-6), name


def test_what_method_and_model_must_share(tmp_path):
    out = tmp_path / "m.safetensors"
    for made, words in (
        (recipe("ann", {**VGG, "activation": "lmht"}), "'ann' is for ReLU and QCFS nets; small-vgg has lmht"),
        (recipe("stbp", {**VGG, "activation": "relu"}), 'method = "ann"'),
        (recipe("online", {**VGG, "activation": "empf", "T": 2}, online={"steps": 3}), "online.steps=3.*T=2"),
    ):
        with pytest.raises(InputError, match=words):
            train_recipe(made, out=out)
    with pytest.raises(UnsupportedError, match="mixes all steps"):
        train_recipe(recipe("online", {**VGG, "activation": "lmht"}), out=out)
    with pytest.raises(InputError, match="10000000 were asked"):
        train_recipe(
            recipe("ann", {**VGG, "activation": "relu"}, data={"name": "digits", "train_samples": 10**7}), out=out
        )
