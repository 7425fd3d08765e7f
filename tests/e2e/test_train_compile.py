"""The whole road on really trained networks: recipe, checkpoint, integer program, equal backends, same predictions."""

from __future__ import annotations

import json
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import snn2chip
from snn2chip.checkpoint import load_model
from snn2chip.checkpoint_compile import compile_checkpoint
from snn2chip.cli import app
from snn2chip.data import find_data, load_data, open_data
from snn2chip.errors import FileFormatError, InputError
from snn2chip.origin import samples_sha256
from snn2chip.registry import get_backend
from snn2chip.train import predict, train_recipe

pytestmark = pytest.mark.skipif(find_spec("lightning") is None, reason="training needs the extra snn2chip[train]")
LAVA_MISSING = get_backend("lava").missing()


class Road:
    """One trained recipe, compiled, with float and integer predictions of its test split."""

    def __init__(self, recipe, out, **changes):
        self.trained = train_recipe(recipe, out=out, **changes)
        header = self.trained.header
        self.program = compile_checkpoint(out)
        samples = open_data(header.provenance["data"], split="test", steps=header.T)
        arrays, self.labels = samples.arrays()
        self.time = samples.time_axis
        self.raw = arrays["x"]
        self.float_pred = predict(self.trained.model, self.raw, spec=header.input).argmax(1)
        self.trace = snn2chip.run(self.program, self.inputs(), record="outputs", time_axis=self.time)
        self.float_accuracy = float((self.float_pred == self.labels).mean())
        self.accuracy = float((self.trace.pred == self.labels).mean())
        self.differing = int((self.trace.pred != self.float_pred).sum())

    def inputs(self, count=None):
        return np.moveaxis(self.raw[:count], 1, 0) if self.time else self.raw[:count]

    def equal(self, backends, count):
        result = snn2chip.check(self.program, self.inputs(count), backends=backends)
        return result.equal


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return Road("digits", tmp_path_factory.mktemp("digits") / "digits.safetensors")


def test_digits_binary_weights_reach_the_bar_and_the_integers_agree(digits):
    assert digits.trained.header.args == {
        "weights": "binary", "neuron": "lmht", "L": 4, "T": 2, "input_shape": [1, 8, 8], "classes": 10
    }  # fmt: skip
    assert digits.float_accuracy >= 0.965
    assert digits.float_accuracy == digits.trained.accuracy
    assert digits.differing <= 4
    assert digits.equal(("reference", "torch"), 100)


@pytest.mark.lava
@pytest.mark.skipif(LAVA_MISSING is not None, reason=str(LAVA_MISSING))
def test_digits_are_equal_on_lava(digits):
    assert digits.equal(("reference", "torch", "lava"), 32)


def test_the_program_tells_where_it_comes_from(digits):
    meta = digits.program.meta
    assert meta["name"] == "digits"
    assert meta["checkpoint"] == "digits.safetensors"
    assert meta["data"] == "digits"
    assert meta["classes"] == list("0123456789")
    assert meta["accuracy"] == {"float": digits.float_accuracy}
    used = samples_sha256(load_data("digits", split="train")[0][:256])
    assert meta["calibration"] == {"data": "digits", "split": "train", "samples": 256, "sha256": used}


def test_trained_binary_weights_stay_exact_and_others_are_rounded_on_request(digits):
    kept = {s.name: s.bits for s in digits.program.synapses}
    assert sorted(kept.values(), key=str) == [1, 1, 8, 8]
    ternary = compile_checkpoint(digits.trained.path, weights="ternary")
    assert sorted((s.bits for s in ternary.synapses), key=str) == [1, 1, "ternary", "ternary"]


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "bits"), [("digits-int8", 8), ("digits-int4", 4), ("digits-int2", "ternary")])
def test_quantization_aware_training_compiles_to_the_weights_it_was_trained_with(tmp_path, recipe, bits):
    road = Road(recipe, tmp_path / "m.safetensors", epochs=8)
    assert sorted((s.bits for s in road.program.synapses), key=str) == sorted([8, bits, bits, 8], key=str)
    assert all(r["error"] == 0 for r in road.program.records if r["field"].startswith("weight"))
    assert road.float_accuracy >= 0.95
    assert road.differing <= 4
    assert road.equal(("reference", "torch"), 50)


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.skipif(find_data("mnist") is None, reason="needs mnist: set SNN2CHIP_DATA")
def test_mnist_in_three_minutes(tmp_path):
    road = Road("mnist", tmp_path / "m.safetensors")
    assert road.trained.seconds < 180
    assert road.float_accuracy >= 0.98
    assert abs(road.accuracy - road.float_accuracy) <= 0.003
    assert road.equal(("reference", "torch"), 64)


@pytest.fixture(scope="module")
def nmnist(tmp_path_factory):
    return Road("nmnist", tmp_path_factory.mktemp("nmnist") / "nmnist.safetensors")


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.skipif(find_data("nmnist") is None, reason="needs nmnist: set SNN2CHIP_DATA")
class TestEvents:
    def test_events_reach_the_bar_and_the_integers_agree(self, nmnist):
        assert nmnist.program.steps == 10
        assert [node.coding for node in nmnist.program.inputs] == ["steps"]
        assert nmnist.float_accuracy >= 0.85
        assert nmnist.differing <= 3
        assert nmnist.equal(("reference", "torch"), 100)

    @pytest.mark.lava
    @pytest.mark.skipif(LAVA_MISSING is not None, reason=str(LAVA_MISSING))
    def test_events_are_equal_on_lava(self, nmnist):
        assert nmnist.equal(("torch", "lava"), 100)


def plain_net():
    from snn2chip.nn import LIF, Repeat, Seq, TimeMean

    torch.manual_seed(5)
    return Seq(nn.Flatten(), nn.Linear(64, 24), Repeat(4), LIF(steps=4), nn.Linear(24, 10), TimeMean())


def test_a_state_dict_of_the_users_own_module_compiles_on_raw_values(tmp_path, monkeypatch):
    model = plain_net()
    torch.save(model.state_dict(), tmp_path / "w.pt")
    (tmp_path / "user_net_to_compile.py").write_text(
        "from torch import nn\nfrom snn2chip.nn import LIF, Repeat, Seq, TimeMean\n"
        "def net():\n"
        "    layers = nn.Linear(64, 24), Repeat(4), LIF(steps=4), nn.Linear(24, 10), TimeMean()\n"
        "    return Seq(nn.Flatten(), *layers)\n"
    )
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(
        app, ["compile", "w.pt", "--model", "user_net_to_compile:net", "--data", "digits", "-o", "w.s2c"]
    )
    assert result.exit_code == 0, result.output
    program = snn2chip.load("w.s2c")
    assert program.steps == 4
    raw, _ = next(open_data("digits", split="test").blocks(450))
    want = predict(model.eval(), raw["x"].astype(np.float32)).argmax(1)
    got = snn2chip.run(program, raw["x"], record="outputs").pred
    assert (got != want).sum() <= 9  # 8-bit weights: 2 %


def test_what_compile_refuses(digits, tmp_path, monkeypatch):
    path = digits.trained.path
    with pytest.raises(InputError, match="known:"):
        compile_checkpoint(path, data="no-such")
    with pytest.raises(InputError, match="weights must be"):
        compile_checkpoint(path, weights="int9")
    with pytest.raises(InputError, match="target must be"):
        compile_checkpoint(path, target="gpu")
    with pytest.raises(FileFormatError, match="tensors do not fit"):
        compile_checkpoint(path, model="mlp")
    bad = tmp_path / "x.npz"
    bad.write_bytes(b"PK no")
    with pytest.raises(FileFormatError, match="damaged"):
        load_model(bad, model="mlp")


def test_verbs_train_compile_run(tmp_path):
    ckpt, program, trace = (str(tmp_path / name) for name in ("m.safetensors", "m.s2c", "t.npz"))
    for words, said in (
        (["train", "--list"], "digits-int4"),
        (["train", "digits", "--epochs", "1", "--seed", "1", "-o", ckpt], "test accuracy 0."),
        (["compile", ckpt, "--weights", "int8", "--target", "ideal", "-o", program], "2,058 neurons, 2 steps"),
        (["run", program, "--samples", "20", "-o", trace], "accuracy 0."),
        (["check", program, "--backends", "reference,torch", "--samples", "5"], "EQUAL"),
    ):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
        assert said in result.output
    for words, said in (
        (["train"], "digits-int4"),
        (["train", "digits"], "-o CKPT"),
        (["train", "no-such", "-o", ckpt], ", digits, digits-"),
        (["compile", program, "-o", program], "compiled program"),
        (["compile", ckpt, "--steps", "3", "-o", program], "T=2 steps, 3 were asked for"),
        (["compile", ckpt, "--data", "no-such", "-o", program], "unknown data set"),
    ):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 2
        assert said in result.output


def test_check_and_report_take_the_float_model(digits, tmp_path):
    checkpoint, program = digits.trained.path, tmp_path / "digits.s2c"
    digits.program.save(program)
    runner = CliRunner()
    arguments = ["--data", "digits", "--samples", "20", "--float", str(checkpoint)]
    for verb, extra in (("check", ["--backends", "reference,torch"]), ("report", ["--html", str(tmp_path / "r.html")])):
        out = tmp_path / f"{verb}.json"
        done = runner.invoke(app, [verb, str(program), *arguments, *extra, "--json", str(out)])
        assert done.exit_code == 0, done.output
        found = json.loads(out.read_text())
        assert found["agreement"] == 1.0
        assert "warning" not in done.output  # it is the file that was compiled
        assert (found["float"] if verb == "check" else found["accuracy"]["float"]) >= 0.9
    page = (tmp_path / "r.html").read_text()
    for word in ("<html", "neuron2", "own error only", "What the figures assume"):
        assert word in page
    assert "http" not in page.split("<body", 1)[1]
    bare = tmp_path / "bare.json"
    plain = ["check", str(program), "--samples", "3", "--backends", "reference,torch", "--json", str(bare)]
    assert runner.invoke(app, plain).exit_code == 0
    assert json.loads(bare.read_text())["float"] is None


def test_artifacts_of_a_checkpoint_hold_its_own_float_model(digits, tmp_path):
    checkpoint, out = digits.trained.path, tmp_path / "artifacts"
    done = CliRunner().invoke(app, ["compile", str(checkpoint), "--artifacts", str(out)])
    assert done.exit_code == 0, done.output
    assert "warning" not in done.output
    report = json.loads((out / "report.json").read_text())
    assert report["notes"] == []
    assert report["samples"] == 64
    assert (report["provenance"]["samples"], report["provenance"]["float"]) == ("digits", checkpoint.name)
    assert report["agreement"] >= 0.95
    assert {row["soma"] for row in report["fidelity"]["layers"]} >= {"neuron1", "neuron3", "readout"}
    assert report["sensitivity"] is not None
    assert report["versus"]["float_side"]["footprint"] == report["neurobench"]["FootprintFloatModel"]
    source = json.loads((out / "manifest.json").read_text())["source"]
    program = snn2chip.load(out / "program.s2c")
    assert source["sha256"] == program.meta["checkpoint_sha256"]
    assert program.digest() == digits.program.digest()
    stages = [row["stage"] for row in json.loads((out / "timing.json").read_text())["stages"]]
    order = [
        "load the checkpoint",
        "trace the model",
        "pass fold-batchnorm",
        "calibrate",
        "quantize and lower",
        "report",
    ]
    assert [name for name in dict.fromkeys(stages) if name in order] == order
