"""Figures of a report: one small SVG per population, and those of the whole network."""

from __future__ import annotations

from typing import Any

import numpy as np

from snn2chip.ir.nodes import Product, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.reports.detail import Detail, SourceDetail
from snn2chip.reports.drawing import FAINT, INK, PALETTE, Sheet
from snn2chip.reports.glimpse import Look
from snn2chip.schedule import links

SMALL = (3.4, 2.1)
MOST_STEPS = 400
"""Steps drawn at most."""
COLUMN = 3.2
"""Inches of one column of the network."""


def short(name: str, most: int = 34) -> str:
    """A name that fits over a small figure."""
    return name if len(name) <= most else "…" + name[1 - most :]


def network(program: Program) -> str:
    """Populations by depth, with shapes; arrows are synapses, with their kind and weight width."""
    hops = links(program)
    depth: dict[str, int] = {n.name: 0 for n in program.inputs}
    for soma in program.somas:
        before = [depth[h.src] for h in hops if h.dst == soma.name and h.src in depth]
        depth[soma.name] = 1 + max(before, default=0)
    rows: dict[int, list[str]] = {}
    for name, row in depth.items():
        rows.setdefault(row, []).append(name)
    widest = max(len(names) for names in rows.values())
    at = {}
    for row, names in rows.items():
        for i, name in enumerate(names):
            at[name] = ((i + 0.5) / len(names) * widest, -row)
    with Sheet(COLUMN * widest + 1.2, 0.78 * len(rows) + 0.2) as (sheet, ax):
        ax.set_axis_off()
        ax.set_xlim(-0.1, widest + 0.35)
        ax.set_ylim(-max(rows) - 0.4, 0.4)
        boxes = {name: _box(program, name) for name in at}
        side = {name: (0.031 * max(map(len, text.split("\n"))) + 0.07) / COLUMN for name, text in boxes.items()}
        labels: dict[tuple[str, str], list[str]] = {}
        for hop in hops:
            labels.setdefault((hop.src, hop.dst), []).append(_via(program, hop.via, hop.delay))
        for (src, dst), texts in labels.items():
            (xa, ya), (xb, yb) = at[src], at[dst]
            arrow: dict[str, Any] = {"arrowstyle": "-|>", "color": PALETTE[5], "shrinkA": 0, "shrinkB": 0}
            if ya - yb == 1:
                start, end, where = (xa, ya - 0.24), (xb, yb + 0.24), ((xa + xb) / 2 + 0.03, (ya + yb) / 2)
            else:  # around the right side: past other levels, back, or into itself
                bend = -0.4 if ya > yb else 0.6 if ya < yb else 1.6
                tilt = 0.12 if ya == yb else 0.0
                start, end = (xa + side[src], ya - tilt), (xb + side[dst], yb + tilt)
                arrow["connectionstyle"] = f"arc3,rad={bend}"
                reach = 0.5 * abs(bend) * max(abs(ya - yb), 2 * tilt) * 0.78 / COLUMN
                where = (max(xa + side[src], xb + side[dst]) + reach + 0.03, (ya + yb) / 2)
            ax.annotate("", end, start, arrowprops=arrow)
            ax.text(*where, ", ".join(dict.fromkeys(texts)), fontsize=7, va="center", color=INK)
        for name, (x, y) in at.items():
            node = program[name]
            colour = PALETTE[2 if not isinstance(node, Soma) else 1 if node.fire == "none" else 0]
            box = {"boxstyle": "round,pad=0.35", "facecolor": "none", "edgecolor": colour, "linewidth": 1.4}
            ax.text(x, y, boxes[name], ha="center", va="center", fontsize=8, bbox=box)
        return sheet.svg(f"network of {len(at)} populations in {len(rows)} levels")


def _box(program: Program, name: str) -> str:
    node = program[name]
    kind = f"{node.fire}, {node.reset}" if isinstance(node, Soma) else type(node).__name__.lower()
    return f"{short(name, 26)}\n{'x'.join(map(str, program.shapes[name]))} · {kind}"


def _via(program: Program, name: str, delay: int) -> str:
    node = program[name]
    late = f" +{delay}" if delay else ""
    if isinstance(node, Product):
        return f"product{late}"
    assert isinstance(node, Synapse)
    size = f" {node.kernel_size[0]}x{node.kernel_size[1]}" if node.kind in ("conv2d", "sumpool") else ""
    stride = f" /{node.stride[0]}" if node.kind in ("conv2d", "sumpool") and node.stride[0] > 1 else ""
    bits = "ternary" if node.bits == "ternary" else f"{node.bits} bit"
    return f"{node.kind}{size}{stride} · {bits}{late}"


def raster(look: Look) -> str:
    """Payloads of one population in one sample: a mark per spike, darker for larger payloads."""
    from matplotlib.colors import to_rgb

    p = np.asarray(look.payloads)[:MOST_STEPS]
    with Sheet(*SMALL, fixed=True) as (sheet, ax):
        top = max(int(np.abs(p).max(initial=1)), 1)
        image = np.zeros((*p.T.shape, 4))  # a picture inside the SVG: thousands of marks stay small
        image[..., :3] = np.where((p.T < 0)[..., None], to_rgb(PALETTE[3]), to_rgb(PALETTE[0]))
        image[..., 3] = np.where(p.T != 0, 0.3 + 0.7 * np.abs(p.T) / top, 0.0)
        ax.imshow(image, aspect="auto", interpolation="nearest", origin="lower")
        ax.set(xlim=(-0.5, len(p) - 0.5), ylim=(-0.5, len(look.shown) - 0.5), xlabel="step", ylabel="neuron")
        ax.set_title(short(look.node))
        whole_steps(ax, len(p))
        ax.set_yticks([0, len(look.shown) - 1], [str(look.shown[0]), str(look.shown[-1])])
        return sheet.svg(f"spikes of {len(look.shown)} of {look.neurons} neurons of {look.node} in one sample")


def membrane(look: Look) -> str:
    """Potentials after reset of the busiest neurons, with their thresholds (dashed)."""
    v = np.asarray(look.potentials)[:MOST_STEPS]
    steps = np.arange(len(v))
    with Sheet(*SMALL, fixed=True) as (sheet, ax):
        for i, neuron in enumerate(look.traced):
            colour = PALETTE[i % len(PALETTE)]
            ax.plot(steps, v[:, i], color=colour, marker="o" if len(v) <= 40 else None, ms=3, lw=1.2, label=str(neuron))
            if look.thresholds is not None and (i == 0 or (look.thresholds[:, i] != look.thresholds[:, 0]).any()):
                ax.plot(steps, look.thresholds[: len(v), i], color=colour, ls="--", lw=1)
        ax.set(xlabel="step", ylabel="potential")
        _short_numbers(ax)
        ax.set_title(short(look.node))
        whole_steps(ax, len(v))
        return sheet.svg(f"potentials of neurons {look.traced} of {look.node}, thresholds dashed")


def rates(row: SourceDetail, steps: int) -> str:
    """Histogram of firing rates over the neurons of one population."""
    with Sheet(*SMALL, fixed=True) as (sheet, ax):
        counts = np.asarray(row.rate_histogram)
        edges = np.linspace(0, 1, len(counts) + 1)
        ax.bar(edges[:-1], counts, width=1 / len(counts), align="edge", color=PALETTE[0])
        ax.set(xlabel="spikes per step", ylabel="neurons", xlim=(0, 1))
        _short_numbers(ax)
        ax.set_title(short(row.node))
        return sheet.svg(f"firing rates of the {row.neurons} neurons of {row.node}")


def payloads(row: SourceDetail) -> str:
    """Histogram of the payloads other than 0."""
    found = [(lo, hi, n) for lo, hi, n in row.payload_histogram if n and not lo <= 0 <= hi]
    with Sheet(*SMALL, fixed=True) as (sheet, ax):
        names = [str(lo) if lo == hi else f"{lo}..{hi}" for lo, hi, _ in found]
        ax.bar(range(len(found)), [n for _, _, n in found], color=PALETTE[1])
        every = max(1, len(found) // 8)
        ax.set_xticks(range(0, len(found), every), names[::every], rotation=20 if len(found) > 8 else 0)
        if found and max(n for _, _, n in found) > 100 * min(n for _, _, n in found):
            ax.set_yscale("log")
        else:
            _short_numbers(ax)
        ax.set(xlabel="payload", ylabel="spikes")
        ax.set_title(short(row.node))
        return sheet.svg(f"payloads of {row.node}")


def firing(detail: Detail) -> str:
    """Share of neurons that fire, per population and step."""
    rows = [r for r in detail.sources if r.payload != "none"]
    share = 1 - np.array([r.sparsity_per_step[:MOST_STEPS] for r in rows])
    with Sheet(6.8, 0.32 * len(rows) + 1.1) as (sheet, ax):
        image = ax.imshow(share, aspect="auto", cmap="cividis", vmin=0, vmax=max(float(share.max()), 1e-9))
        ax.set_yticks(range(len(rows)), [short(r.node, 22) for r in rows])
        ax.set(xlabel="step")
        ax.set_frame_on(False)
        whole_steps(ax, share.shape[1])
        if share.shape[1] <= 12:
            for (i, t), value in np.ndenumerate(share):
                light = value > 0.55 * share.max()
                ax.text(t, i, f"{value:.0%}", ha="center", va="center", fontsize=7, color="black" if light else "white")
        else:
            outline: Any = sheet.figure.colorbar(image, ax=ax).outline
            outline.set_edgecolor(FAINT)
        return sheet.svg("share of neurons that fire, per population and step")


def _short_numbers(ax: Any) -> None:
    """150k instead of 150000."""
    from matplotlib.ticker import EngFormatter

    ax.yaxis.set_major_formatter(EngFormatter(sep=""))


def whole_steps(ax: Any, steps: int) -> None:
    """Ticks at whole steps, at most ten or so."""
    every = max(1, -(-steps // 10))
    ax.set_xticks(range(0, steps, every))
