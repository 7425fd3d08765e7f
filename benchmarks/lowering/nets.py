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
ZOO = Path(__file__).parents[2] / "models" / "snn2chip_models" / "zoo"
TRAINED = Path(__file__).parents[2] / "tests" / "data" / "trained"

RANDOM = "random, calibrated"
QCFS = {"small-vgg": "cifar10-small-qcfs", "resnet20": "cifar10-resnet20-qcfs"}
DATA = {"cifar10": "CIFAR-10", "fashion_mnist": "Fashion-MNIST"}


@attrs.frozen(kw_only=True)
class NetSize:
    """A net of the table: its zoo name (and that of EM-PF's form), arguments, side of its images in pixels.

    `calibrated` images set random weights, `ranges` of them the compiler's ranges; answers are compared on `images`,
    of all backends on `checked`; `T` of the multi-step methods; `stock`: how Lava runs it.
    """

    title: str
    model: str
    empf: str
    args: Mapping[str, Any] = attrs.field(factory=dict)
    side: int = 32
    calibrated: int = 64
    ranges: int = 64
    images: int = 200
    checked: int = 2
    T: int = 4
    stock: bool | str = True


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
        calibrated=16,
        ranges=8,
        images=32,
        checked=1,
        T=2,
        stock=False,
    ),
}


@attrs.frozen(kw_only=True, eq=False)
class Subject:
    """What a row compiles: a module or converted graph, a sample batch of its own input, where its weights come from.

    `data` and `normalise`: the data set it is measured on and how its pixels become the model's input; `options`:
    words for the table.
    """

    model: Any
    sample: Tensor
    source: str
    options: str
    data: str = "cifar10"
    normalise: Mapping[str, Any] = NORMALISE

    @property
    def random(self) -> bool:
        """Whether nothing of it was trained, so that it has to show that it counts."""
        return self.source == RANDOM


DEEP_STEPS = 32
"""Steps of IC-SNN on a trained residual net; with 4 it answers by chance, one threshold serves both ends of a block."""


def images(
    split: str, count: int, *, side: int = 32, start: int = 0, data: str = "cifar10"
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Pixels `[count, channels, side, side]`, enlarged by whole factors, and their labels."""
    from snn2chip.data import open_data

    arrays, labels = next(iter(open_data(data, split=split).blocks(start + count)))
    x = np.asarray(arrays["x"])[start : start + count]
    factor = max(1, side // x.shape[-1])
    return x.repeat(factor, 2).repeat(factor, 3), np.asarray(labels)[start : start + count]


def model_input(raw: NDArray[Any], normalise: Mapping[str, Any] = NORMALISE) -> Tensor:
    """Raw pixels as a net takes them: (raw - mean)/std per channel."""
    mean, std = (torch.tensor(normalise[key]).view(-1, 1, 1) for key in ("mean", "std"))
    return (torch.as_tensor(raw).float() - mean) / std


def _made(net: NetSize, name: str | None = None, **args: Any) -> tuple[nn.Module, Tensor]:
    """A net of the zoo with calibrated random weights, and the inputs that set them."""
    torch.manual_seed(0)
    given = model_input(images("train", net.calibrated, side=net.side)[0])
    model = build(name or net.model, **{**net.args, **args}).eval()
    rate = 0.35 if args.get("activation") in ("relu", "qcfs") else 0.15
    calibrate(model, given, rate=rate)
    return model, given


def _trained(name: str, options: str, *, change: Callable[[nn.Module, Tensor], Any] | None = None) -> Subject | None:
    """The net that recipe `name` trained, if its checkpoint is here; `change` converts it."""
    from snn2chip.checkpoint import load_checkpoint

    path = next((p for folder in (ZOO, TRAINED) if (p := folder / f"{name}.safetensors").is_file()), None)
    if path is None:
        return None
    model, header = load_checkpoint(path)
    data, spec = header.provenance["data"], header.input
    normalise = {"scale": spec.scale, "mean": list(spec.mean), "std": list(spec.std)}
    given = model_input(images("train", 64, data=data)[0], normalise)
    made = model if change is None else change(model, given)
    source = f"trained on {DATA[data]} (`{name}`)"
    return Subject(model=made, sample=given[:4], source=source, options=options, data=data, normalise=normalise)


def lmht(net: NetSize) -> Subject:
    """LM-HT, L = 2, T = 2; random nets have windows and leaks as training leaves them, each neuron its own."""
    names = {"small-vgg": "cifar10-small-hybrid", "resnet20": "cifar10-resnet20-lmht"}
    if found := _trained(names.get(net.model, ""), "L2 T2, window learned"):
        return found
    from snn2chip.nn.multilevel import LMHT

    given = model_input(images("train", net.calibrated, side=net.side)[0])
    torch.manual_seed(0)
    model = build(net.model, activation="lmht", L=2, T=2, **net.args).eval()
    with torch.no_grad():
        for neuron in (m for m in model.modules() if isinstance(m, LMHT)):
            for raw in neuron.parameters():
                raw.add_(0.3 * torch.randn_like(raw))
    calibrate(model, given)
    return Subject(model=model, sample=given[:4], source=RANDOM, options="L2 T2, window general")


def lif(net: NetSize) -> Subject:
    """Plain LIF neurons, leak 1/2, soft reset."""
    names = {"small-vgg": "fashion-empf-lif", "resnet20": "cifar10-resnet20-lif"}
    if found := _trained(names.get(net.model, ""), "T4"):
        return found
    model, given = _made(net, activation="lif", T=net.T)
    return Subject(model=model, sample=given[:4], source=RANDOM, options=f"leak 1/2, T{net.T}")


def qcfs(net: NetSize) -> Subject:
    """QCFS with 4 levels: IF neurons over 4 steps where that is cheap, else one graded step of 4 levels."""
    from snn2chip.convert import to_if

    steps, levels = (4, 1) if net.T == 4 else (1, 4)
    options = f"L{levels} T{steps}"
    if found := _trained(
        QCFS.get(net.model, ""), options, change=lambda m, x: to_if(m, x[:4], steps=steps, levels=levels)
    ):
        return found
    model, given = _made(net, activation="qcfs", L=4, neuron_args={"vth": 2.0})
    graph = tune(to_if(model, given[:4], steps=steps, levels=levels), given)
    return Subject(model=graph, sample=given[:4], source=RANDOM, options=options)


def parallel(net: NetSize) -> Subject:
    """A ReLU net to parallel neurons without training, four thresholds per neuron in one graded step."""
    from snn2chip.convert import to_parallel

    if found := _trained(
        QCFS.get(net.model, ""),
        "QCFS source, 4 sorted steps",
        change=lambda m, x: to_parallel(m, x[:4], steps=4, form="steps"),
    ):
        return found
    model, given = _made(net, activation="relu")
    graph = to_parallel(model, given[:4], steps=4, data=given, form="ladder", quantile=0.99)
    return Subject(model=tune(graph, given), sample=given[:4], source=RANDOM, options="ReLU source, ladder of 4")


def empf(net: NetSize) -> Subject:
    """EM-PF I + III (I alone without blocks), binary weights, 6-bit payload (trained: 8-bit)."""
    names = {"small-vgg": ("fashion-empf", 8), "resnet20": ("cifar10-resnet20-empf", 6)}
    trained, width = names.get(net.model, ("", 0))
    if found := _trained(trained, f"binary weights, {width}-bit payload, T4, I + III"):
        return found
    bits = {"payload_bits": 6, "payload_step": 0.0625}
    name = net.empf
    args: dict[str, Any] = {"weights": "binary", "T": net.T, "neuron_args": bits}
    args |= {"parallel": True} if name.endswith("-empf") else {"activation": "empf"}
    words = f"binary weights, 6-bit payload, T{net.T}, {'I + III' if name.endswith('-empf') else 'I'}"
    model, given = _made(net, name, **args)
    return Subject(model=model, sample=given[:4], source=RANDOM, options=words)


def ic_snn(net: NetSize) -> Subject:
    """A ReLU net without norms to IF neurons with initial potentials, compensated by a bias."""
    from snn2chip.convert import convert

    def made(model: nn.Module, given: Tensor, *, steps: int = net.T) -> Any:
        few = given[: min(len(given), 32)]
        return convert(model, given[:4], method="ic-snn", steps=steps, data=few, quantile=0.99)

    names = {"small-vgg": ("cifar10-small-relu-nobn", net.T), "resnet20": ("cifar10-resnet20-relu", DEEP_STEPS)}
    trained, steps = names.get(net.model, ("", 0))
    if found := _trained(trained, f"T{steps}", change=lambda m, x: made(m, x, steps=steps)):
        return found
    model, given = _made(net, activation="relu", bn=False)
    return Subject(model=tune(made(model, given), given), sample=given[:4], source=RANDOM, options=f"T{net.T}")


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
