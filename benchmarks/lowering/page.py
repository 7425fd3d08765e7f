"""The page of the lowering table, made of result files alone."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.lowering.nets import NETS, TITLES
from benchmarks.lowering.row import Row

HEAD = """# What lowers, and what it costs

Written by `python -m benchmarks lowering` from the files in `lowering/results`; do not edit.

One row for every method on every net. *Equal*: every payload of every soma at every logical step and every read-out
potential is the same integer on the reference, torch and Lava backends, on the first test images of the data set that
trained the weights, else of CIFAR-10 (enlarged to 224 x 224 for ResNet-34). Trained weights are those of the recipe
named, read from a checkpoint in this repository; Fashion-MNIST has a small CNN of its own. Random weights are set so
that every layer fires in 2-40 % of its neuron steps and the answers have at least 2 bits of entropy over the images; a
row that misses this says so and does not count. Their top-1 is that of chance, so their *same answer* (integer against
float) says little: without margins between classes one rounding decides. *Worst layer*: payloads of the layer with the
most differences that are the float network's own when every layer is fed the float payloads (real payloads of EM-PF:
as the codes in which they are sent). Seconds and memory are those of `compile` on one thread of a shared machine
(tracing, passes, calibration, quantising and the check for saturation), memory what it takes besides the model and the
samples.
"""
AGAIN = "to be measured"
COLUMNS = (
    "method", "weights from", "bits", "float top-1", "integer top-1", "same answer", "worst layer", "images", "rates",
    "entropy", "equal on torch / reference / lava", "lava processes", "compile s", "CPU s", "extra MB", "file MB",
)  # fmt: skip


def page(rows: Sequence[Row]) -> str:
    """Return the page as Markdown."""
    parts = [HEAD]
    for name, net in NETS.items():
        own = [row for row in rows if row.net == name]
        if not own:
            continue
        done = [row for row in own if not row.error]
        size = ""
        if done:
            size = (
                f", {max(r.weights for r in done) / 1e6:.2f} M weights, {done[0].products / 1e6:,.0f} M products a step"
            )
        parts += [f"## {net.title}{size}", "", _line(COLUMNS), _line(["---"] * len(COLUMNS))]
        parts += [_line(_cells(row)) for row in own]
        parts += [_line(_control(row)) for row in done[:1]] + [""]
    return "\n".join(parts)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in cells) + " |"


def _cells(row: Row) -> list[str]:
    title = TITLES[row.method]
    if row.error:
        return [title, f"**raises**: {row.error}", *["–"] * (len(COLUMNS) - 2)]
    equal = row.equal
    same = {True: "equal", False: "**different**"}
    both = "equal" if equal["torch"] and equal["lava"] else f"torch {same[equal['torch']]}, lava {same[equal['lava']]}"
    counts = "" if not row.left_out else f" **(does not count: {row.left_out})**"
    return [
        f"{title}, {row.options}",
        row.source + counts,
        row.bits,
        f"{row.float_top1:.1f}",
        f"{row.integer_top1:.1f}",
        f"{row.agreement:.1f} %",
        AGAIN if row.forced < 0 else f"{row.forced:.2f} %",
        str(row.images),
        f"{100 * row.rates[0]:.0f}-{100 * row.rates[1]:.0f} %",
        f"{row.entropy:.2f}",
        f"{both} ({equal['samples']} image{'s' if equal['samples'] > 1 else ''}, {equal['compared']:,} integers)",
        f"{row.lava}; {row.seconds['lava']:.0f} s",
        f"{row.compile_seconds:.1f}",
        f"{row.compile_cpu:.1f}",
        AGAIN if row.extra_mb < 0 else f"{row.extra_mb:.0f}",
        f"{row.file_bytes / 1e6:.2f}",
    ]


def _control(row: Row) -> list[str]:
    """The control of a net: its first method with the weights of one layer shuffled must not be equal."""
    found = "**equal, which it must not be**" if any(row.control.values()) else "different, as it must be"
    rest = ["–"] * (len(COLUMNS) - 11)
    return [f"control: {TITLES[row.method]}, one layer's weights shuffled", *["–"] * 9, found, *rest]
