"""What compiles: every kind of zoo net with every activation, float and binary weights, as one table.

    python -m benchmarks.coverage            writes docs/coverage.md

A cell is "equal" when the compiled program's payloads, at every soma and step, are the same integers on the reference
and the torch backend for two samples and every neuron layer of the net sends something; else it holds the first reason
of the refusal. Nets are small, with random weights and norms of gain 2 and shift 1 behind statistics of the samples.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs
import numpy as np

DOC = Path(__file__).parent.parent / "docs" / "coverage.md"
WEIGHTS = ("float", "binary")
EMPF: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "empf": {"version": "I", "parallel": False},
        "empf-norm": {"version": "II", "parallel": False},
        "empf-parallel": {"version": "I", "parallel": True},
    }
)
_VGG = {"stages": [[4, 4], [6]], "input_shape": [3, 8, 8]}
_RES = {"blocks": [1, 1], "channels": [4, 6], "strides": [1, 2], "stem_channels": 4, "input_shape": [3, 8, 8]}
_EVENTS = {"stages": [[4, 4], [6]], "input_shape": [2, 8, 8], "stem": "nmnist"}


@attrs.frozen(kw_only=True)
class Family:
    """One kind of net: its zoo name and arguments, and the shape of two samples."""

    model: str
    args: Mapping[str, Any]
    sample: tuple[int, ...]

    def build(self, activation: str, weights: str) -> Any:
        """Return the net, or None where this kind has no such activation."""
        from snn2chip_models import build

        args: dict[str, Any] = {**self.args, "weights": weights}
        if self.model.endswith("-empf"):
            return build(self.model, **args, **EMPF[activation]) if activation in EMPF else None
        if self.model in ("mlp", "cnn"):
            return build(self.model, **args, neuron=activation, L=None, T=1 if activation == "relu" else 3)
        if activation in ("relu", "qcfs"):
            args.pop("T", None)
            args.pop("frames", None)
        return build(self.model, **args, activation=activation)


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "mlp": Family(model="mlp", args={"hidden": [12, 12]}, sample=(2, 1, 8, 8)),
        "cnn": Family(model="cnn", args={"channels": [4, 6, 6]}, sample=(2, 1, 8, 8)),
        "small-vgg": Family(model="small-vgg", args=_VGG, sample=(2, 3, 8, 8)),
        "small-vgg, max pool": Family(model="small-vgg", args={**_VGG, "pool": "max"}, sample=(2, 3, 8, 8)),
        "small-vgg, SECA": Family(model="small-vgg", args={**_VGG, "seca": True}, sample=(2, 3, 8, 8)),
        "vgg11": Family(model="vgg11", args={"stages": [[4], [4], [4, 4], [4, 4], [4, 4]]}, sample=(2, 3, 32, 32)),
        "resnet20": Family(model="resnet20", args=_RES, sample=(2, 3, 8, 8)),
        "resnet20, pre-activation": Family(model="resnet20", args={**_RES, "preactivation": True}, sample=(2, 3, 8, 8)),
        "resnet50": Family(model="resnet50", args=_RES, sample=(2, 3, 8, 8)),
        "resnet20-empf": Family(model="resnet20-empf", args=_RES, sample=(2, 3, 8, 8)),
        "resnet20-empf, SECA II": Family(model="resnet20-empf", args={**_RES, "seca": "II"}, sample=(2, 3, 8, 8)),
        "resnet18, ImageNet stem": Family(
            model="resnet18", args={**_RES, "stem": "imagenet", "input_shape": [3, 32, 32]}, sample=(2, 3, 32, 32)
        ),
        "resnet18, host stem": Family(
            model="resnet18",
            args={**_RES, "stem": "imagenet", "input_shape": [3, 32, 32], "host_stem": True, "pool": "max"},
            sample=(2, 3, 32, 32),
        ),
        "event frames, a step each": Family(model="vgg-snn", args={**_EVENTS, "T": 3}, sample=(3, 2, 2, 8, 8)),
        "event frames, mean": Family(
            model="vgg-snn", args={**_EVENTS, "T": 2, "frames": "mean"}, sample=(3, 2, 2, 8, 8)
        ),
    }
)


def cell(family: str, activation: str, weights: str) -> str:
    """Return "equal", "-" where there is no such net, or the kind of error and its first reason."""
    import torch

    from snn2chip.api import run
    from snn2chip.compiler import compile_graph
    from snn2chip.errors import Snn2ChipError

    torch.manual_seed(3)
    kind = FAMILIES[family]
    model = kind.build(activation, weights)
    if model is None:
        return "-"
    x = 2 * torch.rand(*kind.sample)
    with torch.no_grad():
        for norm in (m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)):
            norm.momentum = None  # the plain mean: a running one would start far from these samples
            norm.weight.fill_(2.0)
            norm.bias.fill_(1.0)
        batch = 2 * torch.rand(*kind.sample[:-4], 16, *kind.sample[-3:])
        model.train()(batch)
    try:
        program, graph = compile_graph(model.eval(), x)
    except Snn2ChipError as error:
        reasons = getattr(error, "breaches", None) or [str(error)]
        return f"{type(error).__name__}: {reasons[0]}"
    frames = x.transpose(0, 1).numpy() if graph.input.frames else x.numpy()
    first, second = (run(program, frames, backend=name, record="all") for name in ("reference", "torch"))
    if set(first.payloads) != set(second.payloads):
        return "differs: other somas"
    for name, payload in first.payloads.items():
        if not np.array_equal(payload, second.payloads[name]):
            return f"differs: {name}"
    layers = program.meta["layers"]
    silent = [layer.name for layer in graph.of_kind("neuron") if not first.payloads[layers[layer.name]].any()]
    return f"silent: {', '.join(silent)}" if silent else "equal"


def cells() -> Iterator[tuple[str, str, str]]:
    """Yield every (family, activation, weights) of the table."""
    from snn2chip_models.layers import ACTIVATIONS

    for family in FAMILIES:
        for activation in ACTIVATIONS:
            for weights in WEIGHTS:
                yield family, activation, weights


def short(status: str) -> str:
    """Return what stands in the table for one status: a refusal becomes its note."""
    if status in ("equal", "-"):
        return status
    notes = {
        "relu has no integer form": "converted first",
        "says no number of steps": "converted first",  # an ordinary net, in which nothing happens in time
        "picks a maximum": "max pool",
        "picks the largest": "max pool",
        "maxpool has no integer form": "max pool",
    }
    return next((f"refused: {note}" for text, note in notes.items() if text in status), f"**{status}**")


def table(found: Mapping[tuple[str, str, str], str]) -> str:
    """Return the Markdown page of all cells; float and binary weights share a cell where they agree."""
    from snn2chip_models.layers import ACTIVATIONS

    lines = [
        "# What compiles",
        "",
        "Written by `python -m benchmarks.coverage`; a test holds it against the code. Rows are small nets of the zoo,",
        "columns their activation. *equal*: float weights (compiled to 8 bits) and binary weights compile, and every",
        "payload of every soma at every step is the same integer on the reference and the torch backend. *refused*:",
        "compiling raises, naming the layer and what is missing. ReLU nets are converted first (`snn2chip convert`).",
        "A dash: the net has no such form. ReLU and QCFS nets average their event frames in both event rows.",
        "",
        "| net | " + " | ".join(ACTIVATIONS) + " |",
        "|---" * (len(ACTIVATIONS) + 1) + "|",
    ]
    return "\n".join([*lines, *(row(family, found) for family in FAMILIES)]) + "\n"


def row(family: str, found: Mapping[tuple[str, str, str], str]) -> str:
    """Return one row of the table."""
    from snn2chip_models.layers import ACTIVATIONS

    shown = []
    for activation in ACTIVATIONS:
        both = [short(found[family, activation, weights]) for weights in WEIGHTS]
        texts = (f"{weights}: {text}" for weights, text in zip(WEIGHTS, both, strict=True))
        shown.append(both[0] if both[0] == both[1] else "; ".join(texts))
    return f"| {family} | " + " | ".join(shown) + " |"


def main() -> int:
    """Write the page; return 1 if a cell differs between the backends or is silent."""
    found = {key: cell(*key) for key in cells()}
    wrong = {key: status for key, status in found.items() if status.startswith(("differs", "silent"))}
    for key, status in found.items():
        if status not in ("equal", "-"):
            print(*key, status, sep="  ")
    DOC.write_text(table(found), encoding="utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
