"""`snn2chip convert` from trained checkpoint to spiking checkpoint to integer program, on really trained networks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import snn2chip
from snn2chip.checkpoint import CheckpointHeader, InputSpec, build_model, load_model, save_checkpoint
from snn2chip.checkpoint_compile import compile_checkpoint
from snn2chip.checkpoint_tensors import file_sha256
from snn2chip.data import load_data
from snn2chip.nn import LMHT
from snn2chip.origin import samples_sha256
from snn2chip.train import predict

Invoke = Callable[..., str]
NETS = {
    "relu": {"activation": "relu"},
    "relu-no-norm": {"activation": "relu", "bn": False},
    "qcfs": {"activation": "qcfs", "L": 4, "neuron_args": {"vth": 4.0}},
}
SPEC = InputSpec(shape=(1, 8, 8), mean=5, std=6)


def fit(model: nn.Module, *, epochs: int = 10) -> None:
    x, y = load_data("digits", split="train")
    x, labels = SPEC.apply(x), torch.as_tensor(np.asarray(y, np.int64))
    optimiser = torch.optim.Adam(model.parameters(), lr=4e-3)
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(48):
            loss: Any = nn.functional.cross_entropy(model(x[rows]), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    model.eval()


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small networks trained on digits: with norms, without, and with QCFS of four levels."""
    folder = tmp_path_factory.mktemp("sources")
    found = {}
    for name, own in NETS.items():
        torch.manual_seed(0)
        args = {"stages": [[16], [32]], "input_shape": [1, 8, 8], **own}
        model = build_model("small-vgg", args=args)
        fit(model)
        header = CheckpointHeader(
            model="small-vgg", args=args, method=own["activation"], T=1, L=own.get("L") or 1, input=SPEC,
            classes=tuple("0123456789"), provenance={"data": "digits"},
        )  # fmt: skip
        found[name] = save_checkpoint(folder / f"{name}.safetensors", model, header)
    return found


def answers(path: Path) -> tuple[np.ndarray, float]:
    """Predictions of a checkpoint on the test digits, and their accuracy."""
    model, header = load_model(path)
    x, y = load_data("digits", split="test")
    found = predict(model, x, spec=header.input).argmax(1)
    return found, float((found == y).mean())


def integers(path: Path) -> np.ndarray:
    x, _ = load_data("digits", split="test")
    return snn2chip.run(compile_checkpoint(path), x, record="outputs").pred


def test_the_sources_are_trained(checkpoints: dict[str, Path]) -> None:
    assert all(answers(path)[1] > 0.9 for path in checkpoints.values())


@pytest.mark.parametrize(
    ("source", "args", "loss"),
    [
        ("relu", ("parallel", "--steps", 32), 0.01),
        ("relu", ("parallel", "--steps", 16, "--option", "form=steps", "--option", "phi=ema"), 0.03),
        ("relu-no-norm", ("ic-snn", "--steps", 32), 0.03),
        ("relu-no-norm", ("ic-snn", "--steps", 32, "--option", "search=true"), 0.03),
        ("qcfs", ("parallel", "--steps", 4), 0.0),
        ("qcfs", ("qcfs", "--steps", 2, "--levels", 2, "--option", "window=true"), 0.0),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, tuple) else None,
)
def test_converted_checkpoints_compile_without_class_code(
    checkpoints: dict[str, Path], tmp_path: Path, invoke: Invoke, source: str, args: tuple[Any, ...], loss: float
) -> None:
    out = tmp_path / "snn.safetensors"
    text = invoke("convert", checkpoints[source], "--method", *args, "--samples", 300, "-o", out)
    before, (pred, after) = answers(checkpoints[source])[1], answers(out)
    assert f"accuracy {before:.4f} before, {after:.4f} after" in text
    assert before - after <= loss
    _, header = load_model(out)
    assert header.model == "graph"
    assert header.metrics["source_accuracy"] == before
    assert header.provenance["convert"]["method"] == args[0]
    assert "act1_1" in text  # the user's own layer names
    assert float((integers(out) == pred).mean()) > 0.97
    invoke("compile", out, "-o", tmp_path / "snn.s2c")
    shown = invoke("check", tmp_path / "snn.s2c", "--backends", "reference,torch", "--float", out, "--samples", 50)
    assert "EQUAL" in shown
    invoke("report", tmp_path / "snn.s2c", "--float", out, "--samples", 50)
    assert "neuron" in invoke("inspect", out)


@pytest.mark.cuda
@pytest.mark.parametrize(
    ("source", "args"),
    [
        ("relu", ("parallel", "--steps", 16)),
        ("relu-no-norm", ("ic-snn", "--steps", 8, "--option", "search=true", "--option", "initial=data")),
        ("qcfs", ("parallel", "--steps", 8)),
        ("qcfs", ("hybrid", "--steps", 2)),
    ],
)
def test_conversion_on_a_gpu_gives_the_same_answers(
    checkpoints: dict[str, Path], tmp_path: Path, invoke: Invoke, source: str, args: tuple[Any, ...]
) -> None:
    found = {}
    for device in ("cpu", "cuda"):
        out = tmp_path / f"{device}.safetensors"
        invoke("convert", checkpoints[source], "--method", *args, "--samples", 300, "--device", device, "-o", out)
        found[device] = answers(out)[0]
    assert float((found["cpu"] == found["cuda"]).mean()) > 0.98


def test_hybrid_is_a_zoo_model_that_gives_the_quantised_networks_answers(
    checkpoints: dict[str, Path], tmp_path: Path, invoke: Invoke
) -> None:
    out = tmp_path / "hybrid.safetensors"
    text = invoke("convert", checkpoints["qcfs"], "--method", "hybrid", "--steps", 2, "--levels", 2, "-o", out)
    assert "note:" not in text
    model, header = load_model(out)
    assert header.model == "small-vgg"
    assert (header.T, header.L, header.method) == (2, 2, "lmht")
    source, _ = load_model(checkpoints["qcfs"])
    neurons = [m for m in model.modules() if isinstance(m, LMHT)]
    vth = [float(p) for name, p in source.named_parameters() if name.endswith("vth")]
    assert [float(n.theta) * 2 for n in neurons] == vth
    assert all(float(n.initial_potential()) == float(n.theta) / 2 for n in neurons)
    weights = dict(source.named_parameters())
    assert all(torch.equal(p, weights[k]) for k, p in model.named_parameters() if k in weights)
    assert np.array_equal(answers(out)[0], answers(checkpoints["qcfs"])[0])
    other = invoke("convert", checkpoints["qcfs"], "--method", "hybrid", "--steps", 4, "--levels", 2, "-o", out)
    assert "the source has 4 levels, L*T = 8" in other


@pytest.mark.parametrize("method", ["serialise", "collapse"])
def test_a_spiking_checkpoint_is_rewritten(
    checkpoints: dict[str, Path], tmp_path: Path, invoke: Invoke, method: str
) -> None:
    hybrid, out = tmp_path / "hybrid.safetensors", tmp_path / "snn.safetensors"
    invoke("convert", checkpoints["qcfs"], "--method", "hybrid", "--steps", 2, "--levels", 2, "-o", hybrid)
    invoke("convert", hybrid, "--method", method, "-o", out)
    _, header = load_model(out)
    assert ((4, 1) if method == "serialise" else (1, 4)) == (header.T, header.L)
    assert float((answers(out)[0] == answers(hybrid)[0]).mean()) > 0.995  # float32 sums in another order


def test_the_users_own_model(tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_ann.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.a, self.b = nn.Linear(64, 32), nn.Linear(32, 10)\n"
        "    def forward(self, x):\n"
        "        return self.b(torch.relu(self.a(x.flatten(1) / 16)))\n"
    )
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    weights = {k: torch.randn(*s) / 6 for k, s in (("a.weight", (32, 64)), ("b.weight", (10, 32)))}
    torch.save({**weights, "a.bias": torch.zeros(32), "b.bias": torch.zeros(10)}, "w.pt")
    arguments = ("--method", "parallel", "--steps", 16, "--model", "own_ann:Net", "-o", "snn.safetensors")
    assert "name them with --data" in invoke("convert", "w.pt", *arguments, code=2)
    invoke("convert", "w.pt", *arguments, "--data", "digits", "--samples", 500)
    (tmp_path / "own_ann.py").unlink()
    invoke("compile", "snn.safetensors", "-o", "snn.s2c")


def test_weights_of_others_are_imported(tmp_path: Path, invoke: Invoke) -> None:
    models = pytest.importorskip("torchvision.models")
    theirs = models.resnet18(weights=None)
    torch.save(theirs.state_dict(), tmp_path / "r18.pth")
    out = tmp_path / "r18.safetensors"
    normal = ("--option", "scale=0.00392156862745098", "--option", "mean=[0.485, 0.456, 0.406]")
    arguments = ("--layout", "torchvision", "--model", "resnet18", *normal, "--data", "imagenet", "-o", out)
    assert "resnet18: relu, T=1, L=1, 1000 classes" in invoke("convert", tmp_path / "r18.pth", *arguments)
    model, header = load_model(out)
    x = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model(x), theirs.eval()(x), rtol=1e-4, atol=1e-4)
    assert header.input.mean == (0.485, 0.456, 0.406)
    assert header.provenance["data"] == "imagenet"
    assert header.provenance["origin"]["inputs"] == {"r18.pth": file_sha256(tmp_path / "r18.pth")}


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--steps", 4), "say how to convert"),
        (("--method", "magic", "--steps", 4), "known: parallel, qcfs, ic-snn, hybrid"),
        (("--method", "parallel"), "needs the number of steps"),
        (("--method", "collapse", "--steps", 4), "leave out --steps 4"),
        (("--method", "parallel", "--steps", 4, "--option", "fom=steps"), "no option 'fom'"),
        (("--method", "parallel", "--steps", 4, "--option", "form=train"), "'train' is none of graded, ladder, steps"),
        (("--method", "parallel", "--steps", 4, "--option", "passes=many"), "expected a whole number"),
        (("--method", "parallel", "--steps", 4, "--option", "form"), "expected key=value"),
        (("--method", "parallel", "--steps", 4, "--levels", 2), "no option 'levels'"),
        (("--method", "qcfs", "--steps", 4), "this conversion takes qcfs"),
        (("--method", "hybrid", "--steps", 2), "starts from a QCFS network"),
        (("--method", "parallel", "--steps", 4, "--data", "mnist"), "mnist"),
        (("--method", "ic-snn", "--steps", 4, "--samples", 10**6), "1000000 were asked for"),
        (("--layout", "qcfs", "--steps", 4, "--model", "vgg16"), "leave out --steps"),
        (("--layout", "qcfs"), "needs the zoo model"),
        (("--method", "parallel", "--steps", 4, "--device", "tpu"), "tpu"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(
    checkpoints: dict[str, Path], tmp_path: Path, invoke: Invoke, args: tuple[Any, ...], words: str
) -> None:
    out = tmp_path / "snn.safetensors"
    text = " ".join(invoke("convert", checkpoints["relu"], *args, "-o", out, code=2).split())
    assert words in text
    assert not out.exists()


def test_a_converted_network_cannot_become_hybrid_and_says_so(
    checkpoints: dict[str, Path], tmp_path: Path, invoke: Invoke
) -> None:
    out = tmp_path / "snn.safetensors"
    invoke("convert", checkpoints["qcfs"], "--method", "parallel", "--steps", 4, "-o", out)
    text = invoke("convert", out, "--method", "hybrid", "--steps", 2, "-o", tmp_path / "h.safetensors", code=2)
    assert "a converted network" in text
    header = json.loads(load_model(out)[1].to_json())
    origin = header["provenance"]["convert"].pop("origin")
    assert origin["inputs"] == {
        "qcfs.safetensors": file_sha256(checkpoints["qcfs"]),
        "1347 training samples of digits": samples_sha256(load_data("digits", split="train")[0]),
    }
    assert header["provenance"]["convert"] == {
        "method": "parallel", "steps": 4, "options": {}, "source": "qcfs.safetensors", "samples": 1347,
    }  # fmt: skip
