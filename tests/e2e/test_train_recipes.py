"""Recipes that lead on: conversions after training, and training that starts from converted weights."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
from typer.testing import CliRunner

from snn2chip.checkpoint import load_checkpoint, load_model
from snn2chip.cli import app
from snn2chip.data import load_data
from snn2chip.errors import FileFormatError, InputError
from snn2chip.train import evaluate, load_recipe, predict, train_recipe

pytestmark = pytest.mark.skipif(find_spec("lightning") is None, reason="training needs the extra snn2chip[train]")


@pytest.fixture(scope="module")
def qcfs(tmp_path_factory):
    out = tmp_path_factory.mktemp("qcfs") / "qcfs.safetensors"
    done = CliRunner().invoke(app, ["train", "digits-qcfs", "-o", str(out)])
    assert done.exit_code == 0, done.output
    return out, done.output


def test_a_recipes_conversions_lie_beside_its_checkpoint(qcfs):
    out, said = qcfs
    names = {p.name for p in out.parent.iterdir()}
    assert names == {f"qcfs{end}.safetensors" for end in ("", "-parallel-t4", "-qcfs-t4", "-qcfs-t8")}
    test = load_data("digits", split="test")
    source, header = load_checkpoint(out)
    assert evaluate(source, test, spec=header.input) == header.metrics["test_accuracy"] > 0.95
    made, converted = load_model(out.with_name("qcfs-parallel-t4.safetensors"))
    assert (converted.T, converted.L) == (1, 4)  # one graded step stands for four
    raw = test[0]
    assert (predict(made, raw, spec=header.input).argmax(1) == predict(source, raw, spec=header.input).argmax(1)).all()
    assert f"parallel T=4: test accuracy {header.metrics['test_accuracy']:.4f} (450 samples)" in said


def test_hybrid_training_starts_as_the_qcfs_net_and_trains_on(qcfs, tmp_path):
    from snn2chip.train.prepare import prepare, start

    out, _ = qcfs
    recipe = load_recipe("digits-hybrid")
    model, header, *_ = prepare(recipe)
    start(model, recipe, spec=header.input, init=out)
    raw, labels = load_data("digits", split="test")
    source, _ = load_checkpoint(out)
    assert (
        predict(model.eval(), raw, spec=header.input).argmax(1) == predict(source, raw, spec=header.input).argmax(1)
    ).all()
    done = train_recipe("digits-hybrid", out=tmp_path / "h.safetensors", init=out)
    assert (done.header.method, done.header.T, done.header.L) == ("lmht", 2, 2)
    assert done.accuracy >= evaluate(source, (raw, labels), spec=header.input) - 0.01
    assert any(not torch.equal(a, b) for a, b in zip(model.parameters(), done.model.parameters(), strict=True))


def test_weights_to_start_from_must_be_there_and_fit(qcfs, tmp_path):
    with pytest.raises(InputError, match=r"train digits-qcfs first and give its checkpoint with --init CKPT"):
        train_recipe("digits-hybrid", out=tmp_path / "h.safetensors")
    with pytest.raises(FileFormatError, match="do not fit"):
        train_recipe("digits", out=tmp_path / "h.safetensors", init=qcfs[0])
    done = CliRunner().invoke(app, ["train", "digits-hybrid", "-o", str(tmp_path / "h.safetensors")])
    assert done.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_starting_from_a_net_without_training_gives_its_next_epochs(qcfs, tmp_path):
    """A recipe without [init] takes any checkpoint of the same model."""
    done = train_recipe("digits-qcfs", out=tmp_path / "q.safetensors", init=qcfs[0], epochs=1)
    assert done.accuracy > 0.9


@pytest.mark.parametrize(("name", "least"), [("digits-relu", 0.97), ("digits-empf", 0.93)])
def test_small_recipes_reach_their_bars(tmp_path, name, least):
    assert train_recipe(name, out=tmp_path / "m.safetensors").accuracy >= least


def test_the_list_says_method_steps_levels_and_the_papers_figure():
    said = CliRunner(env={"COLUMNS": "150"}).invoke(app, ["train", "--list"]).output
    lines = {line.split()[0]: line.split()[1:] for line in said.splitlines() if line.strip()}
    assert lines["lmht-cifar10-resnet18"] == ["stbp", "resnet18", "cifar10", "2", "2", "96.25"]
    assert lines["empf-cifar10-resnet18"] == ["online", "resnet18-empf", "cifar10", "4", "95.51"]
    assert {"ANN", "95.43"} <= set(lines["parallel-cifar10-vgg16"])
