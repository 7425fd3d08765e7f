"""Figures about the float side: how divergence grows, what bits matter, energies and times beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from snn2chip.reports.drawing import INK, PALETTE, Sheet
from snn2chip.reports.figures import MOST_STEPS, short, whole_steps
from snn2chip.reports.versus import FLOAT, VersusRow

if TYPE_CHECKING:
    from snn2chip.checks.sensitivity import Sensitivity

KINDS = {
    "equal_by_step": "payloads that differ (%)",
    "spikes_by_step": "spikes that differ (%)",
    "potential_by_step": "rms error (thresholds)",
}
MOST_LINES = 8
"""Layers drawn as lines of their own; of more, evenly spread ones."""


def errors(layers: Sequence[dict[str, Any]]) -> str:
    """Quantization error of every layer: own (fed by the float network) and with what it inherits."""
    with Sheet(6.8, 0.36 * len(layers) + 1.1) as (sheet, ax):
        y = np.arange(len(layers))
        ax.barh(
            y - 0.2, [r["free_potential"] for r in layers], height=0.38, color=PALETTE[1], label="with inherited error"
        )
        ax.barh(y + 0.2, [r["forced_potential"] for r in layers], height=0.38, color=PALETTE[0], label="own error only")
        ax.set_yticks(y, [short(r["soma"], 24) for r in layers])
        ax.invert_yaxis()
        ax.set(xlabel="rms error of the potential, in thresholds")
        ax.legend(loc="lower right")
        return sheet.svg("quantization error per layer")


def over_depth(layers: Sequence[dict[str, Any]]) -> str:
    """Share of payloads and of spikes that differ from the float network, layer after layer."""
    rows = [r for r in layers if r["free_equal"] is not None]
    with Sheet(6.8, 2.9) as (sheet, ax):
        x = np.arange(len(rows))
        lines = (
            ("payloads, inherited errors too", "free_equal", PALETTE[1], "o-"),
            ("spikes, inherited errors too", "free_spikes", PALETTE[3], "s--"),
            ("payloads, own error only", "forced_equal", PALETTE[0], "^:"),
        )
        for label, key, colour, style in lines:
            ax.plot(x, [100 * (1 - r[key]) for r in rows], style, color=colour, label=label, ms=4, lw=1.3)
        every = max(1, -(-len(rows) // 14))
        names = [short(r["soma"], 16) for r in rows]
        ax.set_xticks(
            x[::every], names[::every], rotation=30 if len(rows) > 5 else 0, ha="right" if len(rows) > 5 else "center"
        )
        ax.set(ylabel="differ from float (%)", xlabel="layer, first to last")
        ax.set_ylim(bottom=0)
        ax.legend(loc="best")
        return sheet.svg("share of payloads and spikes that differ from the float network, by layer")


def over_time(layers: Sequence[dict[str, Any]], key: str) -> str:
    """A line per layer, over the steps: payloads or spikes that differ (%), or the error of the potential."""
    label = KINDS[key]
    rows = spread_rows([r for r in layers if r[key] is not None])
    with Sheet(3.7, 2.6) as (sheet, ax):
        for i, row in enumerate(rows):
            values = np.asarray(row[key])[:MOST_STEPS]
            values = values if key == "potential_by_step" else 100 * (1 - values)
            ax.plot(values, "o-", color=PALETTE[i % len(PALETTE)], label=short(row["soma"], 16), ms=3, lw=1.2)
        ax.set(xlabel="step", ylabel=label)
        ax.set_ylim(bottom=0)
        whole_steps(ax, min(len(rows[0][key]), MOST_STEPS) if rows else 1)
        sheet.figure.legend(loc="outside lower center", ncols=3, fontsize=7.5)
        return sheet.svg(f"{label}, over the steps")


def spread_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most `MOST_LINES` of them, the first and the last among them."""
    at = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MOST_LINES)).astype(int))
    return [rows[int(i)] for i in at] if rows else []


def sensitivity(rows: Sequence[Sensitivity], key: str) -> str:
    """Share of payloads (`spikes`) or classes (`agreement`) that change when one layer's weights take so few bits."""
    names = list(dict.fromkeys(r.layer for r in rows))
    modes = list(dict.fromkeys(r.mode for r in rows))
    share = np.full((len(names), len(modes)), np.nan)
    for r in rows:
        share[names.index(r.layer), modes.index(r.mode)] = 100 * (1 - getattr(r, key))
    what = {"spikes": "payloads that change", "agreement": "predicted classes that change"}[key]
    with Sheet(3.7, 0.25 * len(names) + 0.8) as (sheet, ax):
        top = max(float(np.nanmax(share)), 1e-9)
        ax.imshow(share, aspect="auto", cmap="cividis", vmin=0, vmax=top)
        for (i, j), value in np.ndenumerate(share):
            ax.text(
                j,
                i,
                f"{value:.3g} %",
                ha="center",
                va="center",
                fontsize=7,
                color="black" if value > 0.55 * top else "white",
            )
        ax.set_yticks(range(len(names)), [short(n, 16) for n in names])
        ax.set_xticks(range(len(modes)), modes)
        ax.xaxis.tick_top()
        ax.tick_params(length=0)
        ax.set_frame_on(False)
        ax.set_title(what, pad=8)
        return sheet.svg(f"{what} when one layer's weights are quantized alone, by layer and width")


def sides(rows: Sequence[VersusRow], unit: str) -> str:
    """One figure of the float model and of every chip, on a logarithmic axis, with ranges."""
    sides_ = list(dict.fromkeys(r.side for r in rows))
    colours = {side: PALETTE[i % len(PALETTE)] for i, side in enumerate(sides_)}
    with Sheet(6.8, 0.33 * len(rows) + 0.8) as (sheet, ax):
        for y, r in enumerate(rows):
            ax.plot([r.value.lo, r.value.hi], [y, y], color=INK, lw=1, marker="|", ms=6)
            ax.plot(r.value.value, y, "s" if r.basis.startswith("measured") else "o", color=colours[r.side], ms=6)
        ax.set_xscale("log")
        from matplotlib.ticker import EngFormatter

        ax.xaxis.set_major_formatter(EngFormatter(unit=unit))
        ax.grid(axis="x", color=PALETTE[5], alpha=0.25, lw=0.7)
        ax.set_yticks(range(len(rows)), [f"{r.side}: {r.by} ({r.basis.split(',')[0]})" for r in rows], fontsize=7.5)
        ax.set_ylim(len(rows) - 0.5, -0.5)
        return sheet.svg(f"{rows[0].figure} of {FLOAT} and chips" if rows else "nothing")
