"""Every trained net through `compile`: integer accuracy beside float accuracy, or what the refusal names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import nn

from benchmarks.methods.nets import Net, Nets
from benchmarks.methods.result import Bar, Result
from benchmarks.methods.rows import Row
from snn2chip.errors import Snn2ChipError
from snn2chip.ir.program import Program

STATIC = ("fashion-lmht", "fashion-mht", "fashion-if", "fashion-empf", "fashion-empf-lif",
          "cifar10-small-qcfs", "cifar10-small-hybrid", "cifar10-small-relu", "cifar10-small-relu-nobn")  # fmt: skip
EVENTS = ("nmnist-vgg-lmht", "nmnist-vgg-empf")
SAMPLES = 1000
Made = tuple[Program, nn.Module]
"""A program and the float network it was made from."""


def integers(nets: Nets) -> Result:
    """Compile each net (ReLU nets also after conversion) and run it on test samples, answers against float."""
    figures: list[dict[str, Any]] = []
    for name in (*STATIC, *EVENTS):
        net = nets.get(name)
        figures.append(_figure(nets, net, name, lambda net=net: _checkpoint(net)))  # type: ignore[misc]
        for form, make in _converted(nets, net).items():
            figures.append(_figure(nets, net, f"{name} -> {form}", make))
    sound = all(row["integer"] or row["refused"] for row in figures)
    count = sum(bool(row["integer"]) for row in figures)
    return Result(
        row="integers",
        title=f"Everything trained here through compile, first {SAMPLES:,} test samples",
        bars=[
            Bar(
                text="compiles, or raises with the name of what is missing",
                measured=f"{count} compile, {len(figures) - count} are refused by name",
                passed=sound,
            )
        ],
        figures=figures,
    )


def _checkpoint(net: Net) -> Made:
    from snn2chip.checkpoint_compile import compile_checkpoint

    return compile_checkpoint(net.path), net.model


def _converted(nets: Nets, net: Net) -> dict[str, Callable[[], Made]]:
    """The converted forms of a ReLU or QCFS net, each as a function that compiles it."""
    from snn2chip.compiler import compile_float_graph
    from snn2chip.convert import GraphNet, convert, to_parallel
    from snn2chip.passes import run_passes

    if net.header.method not in ("relu", "qcfs"):
        return {}
    data = nets.inputs(net, "train", 1024)
    raw = nets.data(net.recipe.data, "train")[0][:256]

    def program(graph: Any) -> Made:
        shown = net.header.input.normalisation
        folded = run_passes(graph.with_normalisation(**shown))
        return compile_float_graph(folded, raw, time_axis=False), GraphNet(graph)

    if net.header.method == "qcfs":
        return {"parallel T=4": lambda: program(to_parallel(net.model, data[:4], steps=4, form="ladder"))}
    made: dict[str, Callable[[], Made]] = {}
    if "nobn" in net.recipe.name:
        made["IC-SNN T=8"] = lambda: program(convert(net.model, data[:4], method="ic-snn", steps=8, data=data))
    else:
        made["parallel T=16"] = lambda: program(to_parallel(net.model, data[:4], steps=16, data=data, form="ladder"))
    return made


def _figure(nets: Nets, net: Net, name: str, make: Callable[[], Made]) -> dict[str, Any]:
    from snn2chip.api import run
    from snn2chip.train import evaluate

    raw, labels = nets.test(net, min(SAMPLES, len(nets.test(net)[1])))
    row: dict[str, Any] = {"net": name, "integer": "", "float": "", "difference": "", "refused": ""}
    try:
        program, model = make()
    except Snn2ChipError as error:
        text = str(error).replace(str(net.path), net.path.name)
        return {**row, "refused": text.partition(";")[0]}
    row["float"] = f"{100 * evaluate(model, (raw, labels), spec=net.header.input):.2f}"
    time = net.header.input.time
    outputs = run(program, np.moveaxis(raw, 1, 0) if time else raw, record="outputs", time_axis=time).outputs
    right = 100 * float((outputs.argmax(1) == labels).mean())
    return {**row, "integer": f"{right:.2f}", "difference": f"{right - float(row['float']):+.2f}"}


ROWS = (Row(name="integers", recipes=(*STATIC, *EVENTS), measure=integers),)
