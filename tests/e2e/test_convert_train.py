"""`snn2chip convert --method hybrid`, then `snn2chip train RECIPE --init`: what tensors do not say must agree too."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from snn2chip.checkpoint import load_checkpoint
from snn2chip.train import load_recipe, train_recipe

pytestmark = pytest.mark.skipif(find_spec("lightning") is None, reason="training needs the extra snn2chip[train]")
Invoke = Callable[..., str]
RECIPE = Path(__file__).parents[2] / "models" / "snn2chip_models" / "recipes" / "digits-hybrid.toml"


@pytest.fixture(scope="module")
def qcfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("qcfs") / "qcfs.safetensors"
    train_recipe("digits-qcfs", out=out, epochs=3)
    return out


def changed(folder: Path, *changes: tuple[str, str]) -> Path:
    """The hybrid recipe with other words, as a file; its base is named by path."""
    text = RECIPE.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    found = folder / "other.toml"
    text = text.replace('base = "base/digits-vgg"', f'base = "{RECIPE.parent}/base/digits-vgg.toml"')
    found.write_text(text, encoding="utf-8")
    return found


def test_a_hybrid_checkpoint_is_trained_on_and_converted_further(qcfs: Path, tmp_path: Path, invoke: Invoke) -> None:
    start, done = tmp_path / "start.safetensors", tmp_path / "done.safetensors"
    invoke("convert", qcfs, "--method", "hybrid", "--steps", 2, "--levels", 2, "-o", start)
    invoke("train", "digits-hybrid", "--init", start, "--epochs", 1, "-o", done)
    _, before = load_checkpoint(start)
    _, after = load_checkpoint(done)
    assert (after.method, after.T, after.L) == ("lmht", 2, 2)
    assert after.metrics["test_accuracy"] >= before.metrics["test_accuracy"] - 0.03
    invoke("convert", done, "--method", "serialise", "-o", tmp_path / "serial.safetensors")
    invoke("compile", tmp_path / "serial.safetensors", "-o", tmp_path / "serial.s2c")


def test_levels_starts_and_normalisation_must_be_those_of_the_weights(
    qcfs: Path, tmp_path: Path, invoke: Invoke
) -> None:
    start = tmp_path / "start.safetensors"
    invoke("convert", qcfs, "--method", "hybrid", "--steps", 2, "--levels", 2, "-o", start)
    other = changed(tmp_path, ("L = 2", "L = 4"), ('neuron_args = { v_init = "half-theta" }', ""))
    other.write_text(other.read_text(encoding="utf-8") + "\n[input]\nmean = 4\nstd = 6\n", encoding="utf-8")
    neurons = len([name for name in load_checkpoint(start)[0].state_dict() if name.endswith("theta")])
    text = " ".join(invoke("train", other, "--init", start, "-o", tmp_path / "x.safetensors", code=2).split())
    assert text.count("the recipe says levels=4, the weights belong to 2") == neurons
    assert text.count("the recipe says v_init=0.0, the weights belong to 'half-theta'") == neurons
    assert "the recipe says mean=(4.0,), the weights belong to (5.0,)" in text
    assert not (tmp_path / "x.safetensors").exists()


def test_a_converted_network_has_nothing_to_train(qcfs: Path, tmp_path: Path, invoke: Invoke) -> None:
    graph = tmp_path / "graph.safetensors"
    invoke("convert", qcfs, "--method", "parallel", "--steps", 4, "-o", graph)
    text = invoke("train", "digits-hybrid", "--init", graph, "-o", tmp_path / "x.safetensors", code=2)
    assert "has no parameters to train" in " ".join(text.split())
    assert load_recipe("digits-hybrid").init["convert"] == "hybrid"
