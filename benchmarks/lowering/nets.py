"""The five nets and the six methods of the table: what is built, from which weights, on which images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from snn2chip_models import build
from torch import Tensor, nn

from benchmarks.lowering.random_weights import calibrate, tune

MEAN, STD = [125.0, 123.0, 114.0], [63.0, 62.0, 67.0]
NORMALISE: Mapping[str, Any] = {"scale": 1.0, "mean": MEAN, "std": STD}
ASSETS = Path(__file__).parents[2] / "models" / "snn2chip_models" / "assets"
TRAINED = Path(__file__).parents[2] / "tests" / "data" / "trained"


@attrs.frozen(kw_only=True)
class NetSize:
    """A net of the table: its zoo name (and that of EM-PF's form), arguments, side of its images in pixels.

    `calibrated` images set random weights and ranges; answers are compared on `images`, of all backends on `checked`;
    `T` of the multi-step methods; `stock`: how Lava runs it.
    """

    title: str
    model: str
    empf: str
    args: Mapping[str, Any] = attrs.field(factory=dict)
    side: int = 32
    calibrated: int = 64
    images: int = 200
    checked: int = 2
    T: int = 4
    stock: bool | str = True

    @property
    def folder(self) -> str:
        """The name a row starts with."""
        return self.title.lower().replace(" ", "-").replace("@", "-")


NETS: dict[str, NetSize] = {
    "small": NetSize(title="small CNN", model="small-vgg", empf="small-vgg", stock="always", images=500),
    "resnet20": NetSize(title="ResNet-20", model="resnet20", empf="resnet20-empf", stock="always", images=500),
    "vgg16": NetSize(title="VGG-16 (CIFAR)", model="vgg16", empf="vgg16", images=100, checked=1, stock=False),
    "resnet18": NetSize(
        title="ResNet-18 (CIFAR)", model="resnet18", empf="resnet18-empf", images=64, checked=1, T=2, stock=False
    ),
    "resnet34": NetSize(
        title="ResNet-34 at 224 x 224",
        model="resnet34",
        empf="resnet34-empf",
        args={"stem": "imagenet"},
        side=224,
        calibrated=8,
        images=16,
        checked=1,
        T=2,
        stock=False,
    ),
}


@attrs.frozen(kw_only=True, eq=False)
class Subject:
    """What a row compiles: a module or converted graph, a sample batch of its own input, where its weights come from.

    `compile` are further arguments of the compiler, `options` words for the table.
    """

    model: Any
    sample: Tensor
    source: str
    options: str
    compile: Mapping[str, Any] = attrs.field(factory=dict)


def images(split: str, count: int, *, side: int = 32, start: int = 0) -> tuple[NDArray[Any], NDArray[Any]]:
    """CIFAR-10 pixels `[count,3,side,side]`, enlarged by whole factors, and their labels."""
    from snn2chip.data import open_data

    arrays, labels = next(iter(open_data("cifar10", split=split).blocks(start + count)))
    x = np.asarray(arrays["x"])[start : start + count]
    factor = side // x.shape[-1]
    return x.repeat(factor, 2).repeat(factor, 3), np.asarray(labels)[start : start + count]


def model_input(raw: NDArray[Any]) -> Tensor:
    """Raw pixels as every net takes them: (raw - mean)/std per channel."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    return (torch.as_tensor(raw).float() - mean) / std


def _made(net: NetSize, name: str | None = None, **args: Any) -> tuple[nn.Module, Tensor, str]:
    """A net of the zoo with calibrated random weights, and the inputs that set them."""
    torch.manual_seed(0)
    given = model_input(images("train", net.calibrated, side=net.side)[0])
    model = build(name or net.model, **{**net.args, **args}).eval()
    rate = 0.35 if args.get("activation") in ("relu", "qcfs") else 0.15
    calibrate(model, given, rate=rate)
    return model, given, "random, calibrated"


def _stored(*places: Path) -> nn.Module | None:
    from snn2chip.checkpoint import load_checkpoint

    found = next((path for path in places if path.is_file()), None)
    return None if found is None else load_checkpoint(found)[0]


def lmht(net: NetSize) -> Subject:
    """LM-HT, L = 2, T = 2; random nets have windows and leaks as training leaves them, each neuron its own."""
    asset = ASSETS / f"cifar10-{net.model}-lmht.safetensors"
    model = _stored(asset)
    given = model_input(images("train", net.calibrated, side=net.side)[0])
    if model is not None:
        return Subject(model=model, sample=given[:4], source="trained", options="L2 T2, window learned")
    from snn2chip.nn.multilevel import LMHT

    torch.manual_seed(0)
    model = build(net.model, activation="lmht", L=2, T=2, **net.args).eval()
    with torch.no_grad():
        for neuron in (m for m in model.modules() if isinstance(m, LMHT)):
            for raw in neuron.parameters():
                raw.add_(0.3 * torch.randn_like(raw))
    calibrate(model, given)
    return Subject(model=model, sample=given[:4], source="random, calibrated", options="L2 T2, window general")


def lif(net: NetSize) -> Subject:
    """Plain LIF neurons, leak 1/2, soft reset."""
    model, given, source = _made(net, activation="lif", T=net.T)
    return Subject(model=model, sample=given[:4], source=source, options=f"leak 1/2, T{net.T}")


def qcfs(net: NetSize) -> Subject:
    """QCFS with 4 levels: IF neurons over 4 steps where that is cheap, else one graded step of 4 levels."""
    from snn2chip.convert import to_if

    stored = _stored(TRAINED / "cifar10-small-qcfs.safetensors") if net.model == "small-vgg" else None
    if stored is None:
        stored, given, source = _made(net, activation="qcfs", L=4, neuron_args={"vth": 2.0})
    else:
        given, source = model_input(images("train", net.calibrated)[0]), "trained"
    steps, levels = (4, 1) if net.T == 4 else (1, 4)
    graph = to_if(stored, given[:4], steps=steps, levels=levels)
    graph = graph if source == "trained" else tune(graph, given)
    return Subject(model=graph, sample=given[:4], source=source, options=f"L{levels} T{steps}")


def parallel(net: NetSize) -> Subject:
    """A ReLU net to parallel neurons without training, four thresholds per neuron in one graded step."""
    from snn2chip.convert import to_parallel

    if net.model == "small-vgg":
        stored = _stored(TRAINED / "cifar10-small-qcfs.safetensors")
        given = model_input(images("train", net.calibrated)[0])
        assert stored is not None, f"{TRAINED} holds the trained small net"
        graph = to_parallel(stored, given[:4], steps=4, form="steps")
        return Subject(model=graph, sample=given[:4], source="trained", options="QCFS source, 4 sorted steps")
    model, given, source = _made(net, activation="relu")
    graph = to_parallel(model, given[:4], steps=4, data=given, form="ladder", quantile=0.99)
    return Subject(model=tune(graph, given), sample=given[:4], source=source, options="ReLU source, ladder of 4")


def empf(net: NetSize) -> Subject:
    """EM-PF I + III (I alone without blocks), binary weights, 6-bit payload."""
    bits = {"payload_bits": 6, "payload_step": 0.0625}
    name = net.empf
    args: dict[str, Any] = {"weights": "binary", "T": net.T, "neuron_args": bits}
    args |= {"parallel": True} if name.endswith("-empf") else {"activation": "empf"}
    asset = _stored(ASSETS / f"cifar10-{name}.safetensors")
    words = f"binary weights, 6-bit payload, T{net.T}, {'I + III' if name.endswith('-empf') else 'I'}"
    if asset is not None:
        given = model_input(images("train", net.calibrated)[0])
        return Subject(model=asset, sample=given[:4], source="trained", options=words)
    model, given, source = _made(net, name, **args)
    return Subject(model=model, sample=given[:4], source=source, options=words)


def ic_snn(net: NetSize) -> Subject:
    """A ReLU net without norms to IF neurons with initial potentials, compensated by a bias."""
    from snn2chip.convert import convert

    model, given, source = _made(net, activation="relu", bn=False)
    few = given[: min(len(given), 32)]
    graph = convert(model, given[:4], method="ic-snn", steps=net.T, data=few, quantile=0.99)
    return Subject(model=tune(graph, given), sample=given[:4], source=source, options=f"T{net.T}")


METHODS: dict[str, Callable[[NetSize], Subject]] = {
    "lmht": lmht,
    "lif": lif,
    "qcfs": qcfs,
    "parallel": parallel,
    "empf": empf,
    "ic-snn": ic_snn,
}
TITLES = {
    "lmht": "LM-HT",
    "lif": "LIF",
    "qcfs": "QCFS → IF",
    "parallel": "parallel conversion",
    "empf": "EM-PF",
    "ic-snn": "IC-SNN",
}
