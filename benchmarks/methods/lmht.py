"""LM-HT rows: direct training against plain IF and against no mixing, hybrid training from QCFS."""

from __future__ import annotations

from benchmarks.methods.exact import compare, fixed_point
from benchmarks.methods.nets import Net, Nets
from benchmarks.methods.result import Bar, Result
from benchmarks.methods.rows import Row, against_ann, at_least, average, none_differ
from snn2chip.train import evaluate

RATES = (2e-3, 4e-3, 8e-3)
SEEDS = (0, 1, 2)
DIRECT = ("fashion-lmht", "fashion-mht", "fashion-if", "fashion-relu")
SOURCE, HYBRID, TWIN = "cifar10-small-qcfs", "cifar10-small-hybrid", "cifar10-small-relu"
COMPARED = 500


def direct(nets: Nets) -> Result:
    """Fashion-MNIST, L = 2, T = 2: three seeds, each method with its own rate out of the same three."""
    rates, tried = {}, {}
    for name in DIRECT:
        rates[name], tried[name] = nets.rate(name, RATES)
    trained = {name: [nets.with_rate(name, rates[name], seed=s) for s in SEEDS] for name in DIRECT[:3]}
    twin = nets.with_rate("fashion-relu", rates["fashion-relu"])
    means = {name: average(found) for name, found in trained.items()}
    lmht = means["fashion-lmht"]
    return Result(
        row="fashion-lmht",
        title="LM-HT small CNN, Fashion-MNIST, L2 T2",
        bars=[
            at_least("mean of three seeds at least 90.5 %", lmht, 90.5),
            at_least("at least plain IF at T=4", lmht, means["fashion-if"]),
            at_least("with T-GIM at least without (M-HT)", lmht, means["fashion-mht"]),
        ],
        seeds=SEEDS,
        ann=against_ann(lmht, twin),
        figures=[
            {
                "net": name,
                "lr": f"{rates[name]:g}",
                "validation of each lr": ", ".join(f"{k}: {v:.2f}" for k, v in tried[name].items()),
                "test accuracy by seed": ", ".join(f"{n.accuracy:.2f}" for n in trained.get(name, [twin])),
            }
            for name in DIRECT
        ],
        notes=["validation: 2 epochs on the first 10,000 training samples, judged on the last 5,000 of them"],
    )


def replaced(nets: Nets, source: Net) -> Bar:
    """Compare the network right after the replacement with its source, in fixed point."""
    import torch

    from snn2chip.convert import to_hybrid
    from snn2chip.float_graph import float_graph

    sample = nets.inputs(source, "train", 4)
    shown = source.header.input.normalisation
    made = to_hybrid(source.model, sample, steps=2, levels=2)
    qcfs = fixed_point(float_graph(source.model, sample, steps=1, normalise=shown), levels=4)
    lmht = fixed_point(float_graph(made, sample, steps=2, normalise=shown), levels=4)
    raw, _ = nets.test(source, COMPARED)
    found = compare(qcfs, lmht, torch.as_tensor(raw))
    return none_differ("before fine-tuning: counts that differ from QCFS", found.total, found.neurons)


def hybrid(nets: Nets) -> Result:
    """CIFAR-10: QCFS with 4 levels -> LM-HT (2,2), 3 epochs of fine-tuning; against QCFS -> IF at T = 4."""
    from snn2chip.convert import GraphNet, to_if

    source, twin = nets.get(SOURCE), nets.get(TWIN)
    tuned = nets.get(HYBRID)
    test = nets.test(source)
    plain = GraphNet(to_if(source.model, nets.inputs(source, "train", 4), steps=4))
    converted = 100 * evaluate(plain, test, spec=source.header.input)
    return Result(
        row="cifar10-hybrid",
        title="LM-HT hybrid (2,2) from QCFS with 4 levels, CIFAR-10, small VGG",
        bars=[
            replaced(nets, source),
            at_least("after: at least the source - 0.1 points", tuned.accuracy, source.accuracy - 0.1),
            at_least("after: at least QCFS -> IF at T=4", tuned.accuracy, converted),
        ],
        seeds=(0,),
        ann=against_ann(tuned.accuracy, twin),
        figures=[
            {"net": "QCFS source", "test accuracy": f"{source.accuracy:.2f}"},
            {"net": "QCFS -> IF, T=4", "test accuracy": f"{converted:.2f}"},
            {"net": "LM-HT (2,2) after fine-tuning", "test accuracy": f"{tuned.accuracy:.2f}"},
            {"net": "ReLU twin", "test accuracy": f"{twin.accuracy:.2f}"},
        ],
        notes=[f"counts compared on {COMPARED} test images in fixed point (8-bit weights), where float64 is exact"],
    )


ROWS = (
    Row(name="fashion-lmht", recipes=DIRECT, measure=direct),
    Row(name="cifar10-hybrid", recipes=(SOURCE, HYBRID, TWIN), measure=hybrid),
)
