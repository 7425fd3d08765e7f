"""Figures of energies, of the spiking network against the ANN, and of the cores of a chip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from snn2chip.reports.costs import Costs
from snn2chip.reports.drawing import FAINT, INK, PALETTE, Sheet
from snn2chip.reports.energy import Estimate
from snn2chip.reports.figures import short

COLOURS = {"dearer": PALETTE[3], "cheaper": PALETTE[2], "overlap": PALETTE[5]}


def energy(rows: Sequence[Estimate], where: Sequence[str]) -> str:
    """Energy of every model, stacked by event, with the range of its sources."""
    events = list(dict.fromkeys(f.event for r in rows for f in r.factors if f.joules.value))
    colours = {event: PALETTE[i % len(PALETTE)] for i, event in enumerate(events)}
    with Sheet(6.8, 0.42 * len(rows) + 1.3) as (sheet, ax):
        seen = set()
        for y, row in enumerate(rows):
            left = 0.0
            for f in row.factors:
                if f.joules.value:
                    label = f.event if f.event not in seen else None
                    seen.add(f.event)
                    ax.barh(y, f.joules.value * 1e6, left=left, height=0.6, color=colours[f.event], label=label)
                    left += f.joules.value * 1e6
            if row.joules.lo != row.joules.hi:
                ax.plot([row.joules.lo * 1e6, row.joules.hi * 1e6], [y, y], color=INK, lw=1, marker="|", ms=7)
        ax.set_yticks(range(len(rows)), [f"{w}\n{r.scope}" for r, w in zip(rows, where, strict=True)], fontsize=7.5)
        ax.invert_yaxis()
        ax.set(xlabel="µJ per sample")
        sheet.figure.legend(loc="outside lower center", ncols=4, fontsize=7.5)
        return sheet.svg("energy per sample by model and event")


def ratios(costs: Costs) -> str:
    """Spiking network over ANN, per basis; right of 1 the spiking network is dearer."""
    rows = costs.verdicts
    with Sheet(6.8, 0.34 * len(rows) + 0.9) as (sheet, ax):
        values = [max(v.ratio, 1e-6) for v in rows]
        colours = [COLOURS[v.verdict.split()[-1]] for v in rows]
        ax.set_xscale("log")  # bars begin at 1: there a logarithm is 0
        ax.barh(range(len(rows)), [v - 1 for v in values], left=1, color=colours, height=0.6)
        ax.margins(y=0.02)
        ax.axvline(1, color=INK, lw=1)
        ax.set_yticks(range(len(rows)), [v.basis.replace(" against ", "\nagainst ") for v in rows], fontsize=7)
        ax.invert_yaxis()
        ax.set(xlabel="energy of the spiking network / energy of the ANN")
        return sheet.svg("ratio of energies, spiking network to ANN")


def core_map(rows: Sequence[Any], chip: int) -> str:
    """Cores of one chip on the mesh of tiles, shaded by the limit that they use most of."""
    mine = [r for r in rows if r["chip"] == chip]
    spots: dict[tuple[int, int], list[Any]] = {}
    for row in mine:
        spots.setdefault((row["x"], row["y"]), []).append(row)
    names = list(dict.fromkeys(r["population"] for r in rows))
    wide, high = max(x for x, _ in spots) + 1, max(y for _, y in spots) + 1
    with Sheet(0.8 * max(wide, 6) + 0.3, 0.8 * high + 0.5 + 0.17 * -(-len(names) // 3)) as (sheet, ax):
        from matplotlib.patches import Patch, Rectangle

        for (x, y), cores in spots.items():
            ax.add_patch(Rectangle((x, y), 1, 1, fill=False, ec=FAINT, lw=1))
            for i, row in enumerate(cores):
                px, py = x + 0.06 + 0.46 * (i % 2), y + 0.06 + 0.46 * (i // 2)
                colour = PALETTE[names.index(row["population"]) % len(PALETTE)]
                ax.add_patch(
                    Rectangle((px, py), 0.42, 0.42, fc=colour, alpha=0.25 + 0.75 * row["utilisation"], ec=colour)
                )
                ax.text(px + 0.21, py + 0.21, f"{row['utilisation']:.0%}", ha="center", va="center", fontsize=6)
        ax.set(xlim=(-0.05, wide + 0.05), ylim=(high + 0.05, -0.05), aspect="equal")
        ax.set_axis_off()
        here = [n for n in names if any(r["population"] == n for r in mine)]
        patches = [Patch(color=PALETTE[names.index(n) % len(PALETTE)], label=short(n, 20)) for n in here]
        sheet.figure.legend(handles=patches, loc="outside lower center", ncols=3, fontsize=7)
        return sheet.svg(f"{len(mine)} cores of chip {chip}, utilisation of the binding limit")
