"""Models of several inputs: each under its own name, with a unit, range, coding and steps of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import snn2chip
from snn2chip.api import coded_inputs, stream
from snn2chip.checks.usable import usable_backends
from snn2chip.cli.command import app
from snn2chip.compiler import compile_graph
from snn2chip.errors import InputError, TraceError
from snn2chip.frontends.torch import trace
from snn2chip.ir.nodes import Host, Input
from snn2chip.nn import IF, MHT
from snn2chip.testing.whole import folded, spikes, whole

T, N = 4, 12


class Two(nn.Module):
    """A picture that stands still and sound by step meet in one neuron; the sound is also read behind it."""

    T = T

    def __init__(self) -> None:
        super().__init__()
        self.look, self.hear, self.again = nn.Linear(6, 8), nn.Linear(4, 8), nn.Linear(4, 5)
        self.act, self.head = MHT(steps=T, levels=3, theta=2.0), nn.Linear(8, 5)

    def forward(self, image: Tensor, sound: Tensor) -> Tensor:
        seen = self.look(image.flatten(1)).unsqueeze(0).repeat(T, 1, 1)
        y = self.act(seen + folded(self.hear, sound))
        return (folded(self.head, y) + folded(self.again, sound)).mean(0)


class Static(Two):
    """Both stand still."""

    def forward(self, image: Tensor, sound: Tensor) -> Tensor:
        return super().forward(image, sound.unsqueeze(0).repeat(T, 1, 1))


def levels(*shape: int, seed: int) -> Tensor:
    return torch.randint(0, 8, shape, generator=torch.Generator().manual_seed(seed)).float()


def samples(*, by_step: bool = True) -> dict[str, Tensor]:
    return {"image": levels(N, 2, 3, seed=1), "sound": levels(*((T, N, 4) if by_step else (N, 4)), seed=2)}


def raw(x: dict[str, Tensor]) -> dict[str, Any]:
    return {name: value.numpy().astype(np.int64) for name, value in x.items()}


def test_each_parameter_of_forward_is_an_input() -> None:
    x = samples()
    graph = trace(whole(Two(), seed=3), x)
    assert [(layer.name, layer.layout, layer.shape) for layer in graph.input_layers] == [
        ("image", "B", (2, 3)),
        ("sound", "TB", (4,)),
    ]
    assert trace(whole(Two(), seed=3), tuple(x.values())).text() == graph.text()
    turned = {name: x[name] for name in ("sound", "image")}
    assert trace(whole(Two(), seed=3), turned).text() == graph.text()
    one = {"image": x["image"][:1], "sound": x["sound"][:, :1]}  # the batch is told from axes of size 1
    assert trace(whole(Two(), seed=3), one).text() == graph.text()


def test_the_program_is_the_equation() -> None:
    """v += W_i image + W_s sound + b, s = clip(floor(v/2), 0, 3), v -= 2s; logits = mean of 2 W_h s + W_a sound + b."""
    net, x = whole(Two(), seed=3), samples()
    program, graph = compile_graph(net, x, weights="int8")
    weights = {name: p.detach().double().numpy() for name, p in net.named_parameters()}
    assert all((w == np.rint(w)).all() for w in weights.values())
    image, sound = x["image"].double().numpy().reshape(N, 6), x["sound"].double().numpy()
    v, sent = np.zeros((N, 8)), np.zeros((T, N, 8))
    for t in range(T):
        v = v + image @ weights["look.weight"].T + weights["look.bias"]
        v = v + sound[t] @ weights["hear.weight"].T + weights["hear.bias"]
        sent[t] = np.clip(np.floor(v / 2), 0, 3)
        v = v - 2 * sent[t]
    logits = (2 * sent @ weights["head.weight"].T + sound @ weights["again.weight"].T).sum(0)
    logits = logits / T + weights["head.bias"] + weights["again.bias"]
    np.testing.assert_array_equal(graph.run(x).output.double().numpy(), logits)
    assert (sent > 0).mean() > 0.1
    assert [(n.name, n.coding, n.hi) for n in program.inputs] == [("image", "repeat", 15), ("sound", "steps", 15)]
    unit = np.asarray(program.meta["units"]["potential"]["readout"])
    for backend in usable_backends(program)[0]:
        ran = snn2chip.run(program, raw(x), backend=backend)
        np.testing.assert_array_equal(ran.payloads["neuron1"], sent)
        np.testing.assert_array_equal(ran.outputs * unit / T, logits)


def test_backends_are_equal_on_both_forms() -> None:
    for model, x in ((Two(), samples()), (Static(), samples(by_step=False))):
        program, _ = compile_graph(whole(model, seed=3), x, weights="int4")
        result = snn2chip.check(program, raw(x), backends=usable_backends(program)[0])
        assert result.equal
        parts = list(stream(program, raw(x), block=5))
        assert [part.samples for part in parts] == [5, 5, 2]
        whole_run = snn2chip.run(program, raw(x))
        np.testing.assert_array_equal(np.concatenate([part.outputs for part in parts]), whole_run.outputs)


def test_each_input_has_its_own_range_normalisation_and_coding() -> None:
    pixels = torch.randint(0, 256, (N, 2, 3), generator=torch.Generator().manual_seed(4))
    sound = torch.rand(N, 4, generator=torch.Generator().manual_seed(5)) * 3
    norm = {"scale": 1 / 64, "mean": 0.5, "std": 0.25}
    model_sample = {"image": (pixels / 64 - 0.5) / 0.25, "sound": sound}
    program, graph = compile_graph(
        whole(Static(), seed=3),
        model_sample,
        calibration={"image": pixels.numpy(), "sound": sound.numpy()},
        normalise={"image": norm},
        input_range={"sound": (0.0, 4.0)},
        input_coding={"sound": "rate-round"},
    )
    image, rate = program.inputs
    assert isinstance(image, Input)
    assert (image.coding, image.scale, image.lo, image.hi) == ("repeat", 1.0, -32, 255 - 32)  # 0.5 * 64
    assert (rate.coding, rate.scale, rate.lo, rate.hi) == ("rate-round", 4.0, 0, 1)
    given = {"image": pixels.numpy(), "sound": sound.numpy()}
    coded = coded_inputs(program, given)
    np.testing.assert_array_equal(coded["image"], np.broadcast_to(pixels.numpy() - 32, (T, N, 2, 3)))
    k = np.floor(sound.double().numpy() * T / 4.0 + 0.5)
    np.testing.assert_array_equal(coded["sound"].sum(0), k)
    assert snn2chip.check(program, given, backends=["reference", "torch"]).equal
    assert program.meta["model_input"]["inputs"]["image"]["normalise"] == norm
    assert program.meta["model_input"]["inputs"]["sound"] == {"layout": "B", "normalise": {}}
    floats = graph.run({"image": pixels.float(), "sound": sound}).output.numpy()
    assert np.corrcoef(snn2chip.run(program, given).outputs.ravel(), floats.ravel())[0, 1] > 0.98


class Stems(nn.Module):
    """Two pictures, each with an ordinary stem of its own."""

    T = 1

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 2, 3), nn.Conv2d(3, 2, 3)
        self.mix, self.act, self.head = nn.Conv2d(4, 4, 3), IF(steps=1, theta=1.0), nn.Linear(16, 3)

    def forward(self, depth: Tensor, colour: Tensor) -> Tensor:
        both = torch.cat([torch.relu(self.a(depth)), torch.relu(self.b(colour))], 1)
        y: Tensor = self.head(self.act(self.mix(both).unsqueeze(0)).squeeze(0).flatten(1))
        return y


def test_each_input_may_have_a_stem_on_the_host() -> None:
    torch.manual_seed(0)
    x = {"depth": torch.randint(0, 256, (N, 1, 6, 6)).float(), "colour": torch.rand(N, 3, 6, 6)}
    program, graph = compile_graph(Stems().eval(), x)
    assert all(isinstance(node, Host) for node in program.inputs)
    assert [len(layer.parts) for layer in graph.of_kind("host")] == [2, 2]  # type: ignore[attr-defined]
    given = {name: value.numpy() for name, value in x.items()}
    assert snn2chip.check(program, given, backends=["reference", "torch"]).equal
    assert len({tuple(program.meta["units"]["payload"][n.name]) for n in program.inputs}) == 2


def test_files_golden_vectors_and_commands(tmp_path: Path) -> None:
    """An array of each name in X.npz, steps behind the samples; what is expected is said where they do not fit."""
    x, file, data = samples(), tmp_path / "two.s2c", tmp_path / "x.npz"
    program, _ = compile_graph(whole(Two(), seed=3), x, weights="int8")
    program.save(file, golden=3, inputs=raw(x))
    again = snn2chip.load(file)
    assert again.digest() == program.digest()
    given = {"image": raw(x)["image"], "sound": np.moveaxis(raw(x)["sound"], 0, 1)}

    def told(*words: object, code: int = 0) -> str:
        result = CliRunner().invoke(app, [str(word) for word in words])
        assert result.exit_code == code, result.output
        return result.output

    assert "EQUAL" in told("check", file, "--golden", "--backends", "reference,torch")
    np.savez(data, **given, y=np.arange(N) % 5)
    assert "EQUAL" in told("check", file, "--input", data, "--backends", "reference,torch")
    told("run", file, "--input", data, "-o", tmp_path / "out.npz")
    want = snn2chip.run(program, raw(x)).outputs
    with np.load(tmp_path / "out.npz") as out:
        np.testing.assert_array_equal(next(out[k] for k in out.files if out[k].shape == want.shape), want)
    np.savez(data, **{f"x/{name}": value for name, value in given.items()})
    assert "EQUAL" in told("check", file, "--input", data, "--backends", "reference,torch")
    np.savez(data, image=given["image"])
    assert "needs 'image' [N, 2, 3], 'sound' [N, 4, 4]; it holds image" in told("run", file, "--input", data, code=2)
    np.savez(data, image=given["sound"], sound=given["image"])
    text = told("run", file, "--input", data, code=2)
    assert "image takes samples [2, 3], the file has [4, 4]" in text
    assert "sound takes samples [4, 4], the file has [2, 3]" in text
    told("emit", file, "-o", tmp_path / "package")
    with np.load(tmp_path / "package" / "golden.npz") as kept:
        np.testing.assert_array_equal(kept["input/sound"], given["sound"][:3])
        np.testing.assert_array_equal(kept["output/out"], want[:3])


MODULE = """
import torch
from test_inputs_exact import Two

def net():
    return Two()
"""


def test_a_state_dict_compiles_with_samples_of_each_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`compile W.pth --model module:function --data X.npz`: the file has its samples first, the model its steps."""
    net, x = whole(Two(), seed=3), samples()
    torch.save(net.state_dict(), tmp_path / "w.pth")
    (tmp_path / "two_inputs_here.py").write_text(MODULE)
    for folder in (tmp_path, Path(__file__).parent):
        monkeypatch.syspath_prepend(str(folder))
    np.savez(tmp_path / "x.npz", image=raw(x)["image"], sound=np.moveaxis(raw(x)["sound"], 0, 1))
    words = ["compile", tmp_path / "w.pth", "--model", "two_inputs_here:net", "--weights", "int8"]
    words += ["-o", tmp_path / "p.s2c"]
    told = CliRunner().invoke(app, [str(word) for word in (*words, "--data", tmp_path / "x.npz")])
    assert told.exit_code == 0, told.output
    program, _ = compile_graph(net, x, weights="int8")
    made = snn2chip.load(tmp_path / "p.s2c")
    np.testing.assert_array_equal(snn2chip.run(made, raw(x)).outputs, snn2chip.run(program, raw(x)).outputs)
    assert made.meta["calibration"]["samples"] == N
    refused = CliRunner().invoke(app, [str(word) for word in words])
    assert refused.exit_code == 2
    assert "the model takes image, sound; give samples with an array of each name, --data X.npz" in refused.output


def test_what_does_not_fit_is_named() -> None:
    net, x = whole(Two(), seed=3), samples()
    with pytest.raises(InputError, match=r"Two.forward takes image, sound; got 1 samples"):
        trace(net, (x["image"],))
    with pytest.raises(InputError, match=r"Two.forward takes image, sound; got image, noise"):
        trace(net, {"image": x["image"], "noise": x["sound"]})
    program, graph = compile_graph(net, x)
    wanted = r"image \[N, 2, 3\], sound \[T, N, 4\]"
    with pytest.raises(InputError, match=rf"several inputs, give a dict of samples by name: {wanted}"):
        snn2chip.run(program, raw(x)["image"])
    with pytest.raises(InputError, match=rf"the program takes inputs {wanted}; got image"):
        snn2chip.run(program, {"image": raw(x)["image"]})
    with pytest.raises(InputError, match=r"different numbers of samples: \{'image': 11, 'sound': 12\}"):
        snn2chip.run(program, {**raw(x), "image": raw(x)["image"][1:]})
    with pytest.raises(InputError, match=r"the network takes inputs image \[B, 2, 3\], sound \[B, 4\]; got image"):
        graph.run(x["image"])
    for options in ({"input_range": (0, 9)}, {"input_range": {"taste": (0, 9)}}, {"input_coding": {"taste": "direct"}}):
        with pytest.raises(InputError, match=r"image, sound"):
            compile_graph(net, x, **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"normalise of scale: the inputs are image, sound, each with its own"):
        compile_graph(net, x, calibration=raw(x), normalise={"scale": 1.0})


class Unread(Two):
    def forward(self, image: Tensor, sound: Tensor) -> Tensor:
        return super().forward(image, torch.ones(T, image.shape[0], 4))


def test_an_input_that_nothing_reads_is_refused() -> None:
    with pytest.raises(TraceError, match=r"does not depend on the inputs sound"):
        trace(whole(Unread(), seed=3), samples())


def test_a_single_input_keeps_its_name() -> None:
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.act = nn.Linear(6, 3), IF(steps=T, theta=2.0)

        def forward(self, anything: Tensor) -> Tensor:
            y: Tensor = self.act(folded(self.fc, anything)).mean(0)
            return y

    net, x = whole(One(), seed=2), spikes(T, 6, 6)
    assert [layer.name for layer in trace(net, x).input_layers] == ["input"]
    assert trace(net, [x]).text() == trace(net, x).text()
