"""Conversion rows: QCFS to parallel neurons exactly, ReLU to parallel neurons without training, IC-SNN."""

from __future__ import annotations

from typing import Any

from benchmarks.methods.exact import compare, fixed_point
from benchmarks.methods.nets import Net, Nets
from benchmarks.methods.result import Bar, Result
from benchmarks.methods.rows import Row, at_most, none_differ
from snn2chip.train import evaluate

QCFS, RELU, PLAIN = "cifar10-small-qcfs", "cifar10-small-relu", "cifar10-small-relu-nobn"
CALIBRATION, BALANCE = 4096, 512
PLAIN_SAMPLES, IC_SAMPLES, IC_STEPS = 1000, 2500, 8


def score(graph: Any, test: tuple[Any, Any], net: Net) -> float:
    """Return the accuracy in percent of a converted graph on raw test samples."""
    from snn2chip.convert import GraphNet

    return 100 * evaluate(GraphNet(graph), test, spec=net.header.input)


def parallel(nets: Nets) -> Result:
    """CIFAR-10: the QCFS net with 4 levels and its parallel form with T = 4 binary steps, in fixed point."""
    import torch

    from snn2chip.convert import to_parallel
    from snn2chip.float_graph import float_graph

    source = nets.get(QCFS)
    sample, shown = nets.inputs(source, "train", 4), source.header.input.normalisation
    qcfs = fixed_point(float_graph(source.model, sample, steps=1, normalise=shown), levels=4)
    spiking = to_parallel(qcfs, steps=4, form="steps")
    raw, labels = nets.test(source)
    found = compare(qcfs, spiking, torch.as_tensor(raw))
    fixed = score_raw(qcfs, raw, labels)
    floating = score(to_parallel(source.model, sample, steps=4, form="steps"), (raw, labels), source)
    return Result(
        row="cifar10-parallel",
        title="Parallel conversion of a QCFS net, T = T~ = 4, CIFAR-10, small VGG",
        bars=[
            none_differ("spike counts that differ from the QCFS level", found.total, found.neurons),
            none_differ(f"answers that differ, {found.samples:,} test images", found.answers, found.samples),
        ],
        seeds=(0,),
        figures=[
            {"net": "QCFS, float32", "test accuracy": f"{source.accuracy:.2f}"},
            {"net": "parallel, T=4, float32", "test accuracy": f"{floating:.2f}"},
            {"net": "QCFS and parallel in fixed point (8-bit weights)", "test accuracy": f"{fixed:.2f}"},
        ],
        notes=["fixed point: every value is a whole number times a power of two, where float64 is exact"],
    )


def score_raw(graph: Any, raw: Any, labels: Any) -> float:
    """Return the accuracy in percent of a graph of raw samples, in float64."""
    import torch

    right = 0
    for start in range(0, len(raw), 250):
        out = graph.run(torch.as_tensor(raw[start : start + 250]).double()).output
        right += int((out.argmax(-1).numpy() == labels[start : start + 250]).sum())
    return 100 * right / len(raw)


def training_free(nets: Nets) -> Result:
    """CIFAR-10: the ReLU net with norms to parallel neurons, T = 32 and 16; against plain IF at twice the steps."""
    from snn2chip.convert import Calibration, convert, to_parallel

    source = nets.get(RELU)
    calibration, test = nets.inputs(source, "train", CALIBRATION), nets.test(source)
    sample = calibration[:4]
    losses, figures = {}, []
    few = nets.test(source, PLAIN_SAMPLES)
    passes = 1 if nets.quick else 4
    own = 100 * evaluate(source.model, few, spec=source.header.input)
    bars: list[Bar] = []
    for steps, bound in ((32, 1.0), (16, 4.0)):
        options = Calibration(passes=passes)
        made = to_parallel(source.model, sample, steps=steps, data=calibration, calibration=options)
        accuracy = score(made, test, source)
        losses[steps] = source.accuracy - accuracy
        plain = {}
        for name, quantile in (("maximum", 1.0), ("0.99-quantile", 0.99)):
            args: dict[str, Any] = {"quantile": quantile, "compensation": "none", "data": calibration[:BALANCE]}
            graph = convert(source.model, sample, method="ic-snn", steps=2 * steps, **args)
            plain[name] = own - score(graph, few, source)
        ours = own - score(made, few, source)
        best = min(plain.values())
        bars.append(at_most(f"loss at T={steps}", losses[steps], bound))
        text = f"loss at T={steps} below plain IF's at T={2 * steps} (first {len(few[1]):,} images)"
        bars.append(Bar(text=text, measured=f"{ours:.2f} < {best:.2f} points", passed=ours < best))
        shown = {f"plain IF T={2 * steps}, {name}": f"{value:.2f}" for name, value in plain.items()}
        figures.append({"T": steps, "accuracy": f"{accuracy:.2f}", "loss": f"{losses[steps]:.2f}", **shown})
    return Result(
        row="cifar10-training-free",
        title="Training-free ReLU conversion, CIFAR-10, small VGG with norms",
        bars=bars,
        seeds=(0,),
        figures=[{"net": "ReLU source", "accuracy": f"{source.accuracy:.2f}"}, *figures],
        notes=[
            f"calibration: {len(calibration):,} training images, {passes} passes, integral form; "
            f"thresholds of plain IF from {BALANCE:,} of them"
        ],
    )


def ic_snn(nets: Nets) -> Result:
    """CIFAR-10: the ReLU net without norms to IF at T = 8: plain, corrected forms, printed forms."""
    from snn2chip.convert import to_ic_snn
    from snn2chip.convert.ic_snn import CORRECTED, PRINTED
    from snn2chip.convert.ic_snn import PLAIN as BARE

    source = nets.get(PLAIN)
    data, test = nets.inputs(source, "train", BALANCE), nets.test(source, IC_SAMPLES)
    own = 100 * evaluate(source.model, test, spec=source.header.input)
    forms = {"plain": BARE, **{f"corrected {k}": v for k, v in CORRECTED.items()}}
    forms |= {f"printed {k}": v for k, v in PRINTED.items()}
    losses = {}
    for name, options in forms.items():
        graph = to_ic_snn(source.model, data[:4], steps=IC_STEPS, data=data, options=options)
        losses[name] = own - score(graph, test, source)
    return Result(
        row="cifar10-ic-snn",
        title=f"IC-SNN at T={IC_STEPS}, CIFAR-10, small VGG without norms",
        bars=[at_most("corrected form C: loss at most half of plain's", losses["corrected C"], losses["plain"] / 2)],
        seeds=(0,),
        figures=[{"form": "ReLU source", "accuracy": f"{own:.2f}", "loss": ""}]
        + [{"form": k, "accuracy": f"{own - v:.2f}", "loss": f"{v:.2f}"} for k, v in losses.items()],
        notes=[f"first {len(test[1]):,} test images; thresholds: 0.99-quantiles on {len(data):,} training images"],
    )


ROWS = (
    Row(name="cifar10-parallel", recipes=(QCFS,), measure=parallel),
    Row(name="cifar10-training-free", recipes=(RELU,), measure=training_free),
    Row(name="cifar10-ic-snn", recipes=(PLAIN,), measure=ic_snn),
)
